"""`--preset NAME` of `gmd train`: a published recipe's options in the place of the defaults, and what is told of it."""

from collections.abc import Mapping

from gmd.config.checks import option_text
from gmd.config.recipes import PRESETS
from gmd.config.train_config import TrainConfig


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
