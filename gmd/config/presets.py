"""Published recipes as options: `--preset NAME` of `gmd train`, what each sets, and what of the publication it lacks.

The figures are those of the authors' papers and code; what the code names nowhere is what its libraries do by default.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gmd.config.checks import option_text
from gmd.config.train_config import TrainConfig


@dataclass(frozen=True)
class Preset:
    """A published recipe.

    Attributes:
        task: the task that it is of.
        source: whose recipe.
        values: option -> value, as a configuration has it.
        differs: phrases on what was published otherwise, and no option here can bring.
    """

    task: str
    source: str
    values: Mapping[str, object]
    differs: tuple[str, ...]


PRESETS = {
    "gmd-brats": Preset(
        task="brats",
        source="GMD (Wang et al., AAAI 2024)",
        values={
            "method": "gmd",
            **{"epochs": 600, "batch": 4, "lr": 8e-4, "weight_decay": 1e-5, "optimizer": "adam", "schedule": "poly"},
            **{"seed": 42, "validate_every": 5, "width": 0.5, "patch": (128, 128, 128)},
        },
        differs=(
            "the loss is Dice + cross-entropy, published Dice alone, pooled over the batch",
            "the learning rate decays to 0 as the paper says; the published code swaps two arguments, and its rate "
            "moves between 1.0 and 0.9 of --lr for ever",
            "cases are split by patient, by --seed; published five folds of BraTS 2018's list",
            "the best epoch is chosen on validation cases; published on the cases that are reported",
            "intensities are clipped to the brain's 0.5 and 99.5 percentiles, and scaled and shifted at random; "
            "published 1 and 99, or none and min-max, and flips alone",
            "the network begins from the regions' share of the voxels",
        ),
    ),
    "cggm-mosi": Preset(
        task="sentiment",
        source="CGGM (Guo et al., NeurIPS 2024)",
        values={
            **{"method": "cggm", "rho": 1.3, "lam": 0.2, "network": "late"},
            **{"width": 40, "layers": 5, "heads": 5, "dropout": 0.15},
            **{"epochs": 30, "batch": 64, "lr": 1e-3, "weight_decay": 0.0, "optimizer": "adam", "clip": 0.8},
            **{"schedule": "plateau", "decay": 0.1, "plateau_patience": 10, "validate_every": 1, "seed": 666},
        },
        differs=(
            "the classifiers learn at 1e-3, published 5e-4, and are copies of the head, published transformers",
            "one rate of dropout, published .1 to .2 in different places",
            "modalities are fused by one block over a token of each, published three blocks over all of their steps",
            "the plateau is that of the validation's score, published that of its loss",
            "how fast a modality improves is averaged over steps; --balance published has the published rule",
            "the direction's loss compares gradients, as the paper says; --direction weights is the published code",
        ),
    ),
    "mla-audio-visual": Preset(
        task="digits",
        source="MLA (Zhang et al., CVPR 2024), its recipe for audio and images (CREMA-D)",
        values={
            **{"method": "mla", "network": "branches", "epochs": 100, "batch": 64, "lr": 1e-3, "weight_decay": 1e-4},
            **{"optimizer": "sgd", "momentum": 0.9, "schedule": "step", "milestones": (70,), "decay": 0.1},
        },
        differs=(
            "the data are spoken and written digits, published CREMA-D, and the encoders are transformers, published "
            "ResNet-18, for which the learning rate was chosen",
            "--alpha is constant, the head's width by default; published falling from 0.1 to 0.01 in each epoch, with "
            "a projector that is normalised by its Frobenius norm (in a line that never runs)",
        ),
    ),
}


def preset_values(name: object, kind: type[TrainConfig], given: Mapping[str, object]) -> dict[str, object]:
    """Returns the options that a preset sets where others are given: option -> value.

    Left out are those that are given, and those that mean nothing with a method, an optimizer or a schedule that is
    given instead of the preset's. A name that is no preset of the task sets nothing, and is refused with the others.

    given: option -> value, what overrides the preset
    """
    preset = PRESETS.get(str(name))
    if preset is None or preset.task != kind.TASK:
        return {}
    chosen = {**preset.values, **given}
    rules = {option: ("method", methods) for option, methods in kind.FOR.items()} | kind.MEANT_WITH
    free = {option: value for option, value in preset.values.items() if option not in given}
    return {option: value for option, value in free.items() if _means_something(option, rules, chosen)}


def _means_something(
    option: str, rules: Mapping[str, tuple[str, tuple[str, ...]]], chosen: Mapping[str, object]
) -> bool:
    """rules: option -> the option that decides, and the values of that with which it means something."""
    if option not in rules:
        return True
    decides, ones = rules[option]
    return chosen[decides] in ones


def told(config: TrainConfig) -> list[str]:
    """Returns lines on the preset of a run: what it sets, what the run has instead, what differs from the publication.

    None without a preset.
    """
    if config.preset is None:
        return []
    preset = PRESETS[config.preset]
    kept = {name: value for name, value in preset.values.items() if getattr(config, name) == value}
    other = {name: value for name, value in preset.values.items() if name not in kept}
    lines = [f"--preset {config.preset}, the recipe of {preset.source}: {_as_typed(kept)}"]
    if other:
        here = _as_typed({name: getattr(config, name) for name in other})
        lines.append(f"  overridden: {here} (published {_as_typed(other)})")
    return lines + [f"  differs: {phrase}" for phrase in preset.differs]


def _as_typed(values: Mapping[str, object]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {option_text(value)}" for name, value in values.items())
