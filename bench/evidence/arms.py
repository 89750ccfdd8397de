"""The trainings that the evidence compares, and the settings that each may be tuned to: as many for every arm.

Weights that come of gradients are taken by `--every auto`, so that all surgery costs about the same. `enumerate,
weighted` is scalarisation as well tuned as that allows: constant weights of the subsets are among its settings.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from bench.evidence.task import Options
from bench.measure.arms import Arm
from gmd.subsets import Subset, all_subsets, subset_name

JOINT, ENUMERATE, WEIGHTED, GMD = "joint", "enumerate", "enumerate, weighted", "gmd"
LATE, BRANCHES = {"network": "late"}, {"network": "branches"}
CONSTANT_EVERY = 32  # constant weights need no gradients of the objectives: they are looked at now and then only

Weights = Mapping[Subset, float]
Pair = tuple[float, float]  # learning rate and weight decay


def arms_on_one_network(modalities: Subset) -> tuple[Arm, ...]:
    """Returns the arms on the network that all tasks have: pcd follows the objective of all modalities."""
    surgery = {"method": "surgery", "every": "auto"}
    primary = {"weighting_options": (f"primary={subset_name(modalities)}",)}
    return (
        Arm(JOINT, {"method": "joint"}),
        Arm("dropout", {"method": "dropout"}, JOINT),
        Arm(ENUMERATE, {"method": "enumerate"}, JOINT),
        Arm(WEIGHTED, {"method": "surgery", "weighting": "constant", "every": CONSTANT_EVERY}, JOINT),
        Arm(GMD, {"method": "gmd", "every": "auto"}, JOINT),
        Arm("pcd", {**surgery, "weighting": "pcd", **primary}, JOINT),
        Arm("upgrad", {**surgery, "weighting": "upgrad"}, JOINT),
        Arm("fairgrad", {**surgery, "weighting": "fairgrad"}, JOINT),
    )


LATE_JOINT, BRANCHES_JOINT = "joint, late", "joint, branches"
# networks with an encoder of each modality, which these methods are for, with joint training of each beside
ON_OTHER_NETWORKS = (
    Arm(LATE_JOINT, LATE | {"method": "joint"}),
    Arm("cggm", LATE | {"method": "cggm"}, LATE_JOINT),
    Arm("ogm-ge", LATE | {"method": "ogm-ge"}, LATE_JOINT),
    Arm(BRANCHES_JOINT, BRANCHES | {"method": "joint"}),
    Arm("mla", BRANCHES | {"method": "mla"}, BRANCHES_JOINT),
)


def size_weights(modalities: Subset) -> tuple[Weights, ...]:
    """Returns weights of the subsets to choose from: equal ones, more for the few, more for the many."""
    subsets = all_subsets(modalities)
    return tuple({subset: len(subset) ** power for subset in subsets} for power in (0.0, -1.0, 1.0))


class Settings:
    """The settings that an arm may be tuned to: a function from the arm to its candidates, K for each.

    plain: pairs of a learning rate and a weight decay.
    weighted: those of `enumerate, weighted`, a pair and weights of the subsets each; as many.
    Raises ValueError if they are not as many.
    """

    def __init__(self, plain: Sequence[Pair], weighted: Sequence[tuple[Pair, Weights]]):
        if len(plain) != len(weighted):
            raise ValueError(f"weighted: expected as many settings as the {len(plain)} plain ones, got {len(weighted)}")
        self.plain = tuple(_options(pair) for pair in plain)
        self.weighted = tuple(_options(pair) | {"weighting_options": (_words(some),)} for pair, some in weighted)

    def __call__(self, arm: Arm) -> tuple[Options, ...]:
        """Returns the candidates of an arm."""
        return self.weighted if arm.name == WEIGHTED else self.plain


def settings(
    modalities: Subset, lrs: Sequence[float], decays: Sequence[float], weighted_lrs: Sequence[float]
) -> Settings:
    """Returns all learning rates with all weight decays; of `enumerate, weighted` `weighted_lrs` with three weightings.

    Raises ValueError if these are not as many.
    """
    pairs = product(weighted_lrs, decays[:1])
    return Settings(list(product(lrs, decays)), list(product(pairs, size_weights(modalities))))


def _options(pair: Pair) -> dict[str, Any]:
    return dict(zip(("lr", "weight_decay"), pair, strict=True))


def _words(weights: Weights) -> str:
    """Returns the weights, scaled to a sum of one, as `--weighting-options` has them."""
    total = sum(weights.values())
    return "weights=" + ",".join(f"{subset_name(subset)}:{value / total:.6g}" for subset, value in weights.items())


def seconds(arms: Sequence[Arm], plain: float, surgery: float, **others: float) -> dict[str, float]:
    """Returns an arm's name -> processor seconds of a run: `surgery` of the four that compare gradients, else `plain`.

    others: a method -> its seconds, where it is neither.
    """
    found = {}
    for arm in arms:
        compares = arm.options.get("every") == "auto"
        found[arm.name] = others.get(str(arm.method).replace("-", "_"), surgery if compares else plain)
    return found
