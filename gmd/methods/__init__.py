"""How a step's gradients come about: from losses to `.grad`. The optimizer stays the user's own."""

from collections.abc import Callable
from typing import NamedTuple

from gmd.methods.gmd import GMD
from gmd.methods.objectives import full_objective, subset_objectives
from gmd.methods.plain import MeanGradient
from gmd.methods.report import Report


class Method(NamedTuple):
    """Which objectives a step has, and what makes one gradient of theirs."""

    objectives: Callable  # (outputs: Pairs, targets, criterion) -> {subset: loss}
    surgeon: type  # surgeon(optimizer).backward(losses) -> Report


METHODS = {
    "joint": Method(full_objective, MeanGradient),  # loss on the full set of modalities
    "enumerate": Method(subset_objectives, MeanGradient),  # mean of the losses of all subsets
    "gmd": Method(subset_objectives, GMD),  # surgery on the losses of all subsets
}

__all__ = ["GMD", "METHODS", "MeanGradient", "Method", "Report"]
