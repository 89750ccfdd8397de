"""Lets PyPI's torchvision be imported beside a torch for the CPU; for the environment of the tests alone.

PyPI has torchvision for CUDA only. Beside a torch without CUDA its compiled half stays out, and the rest fails for two
operators it would have registered: `operator torchvision::nms does not exist`. TorchMetrics, Lightning and timm then
fail with it. This module, which `make venv` puts beside torchvision, registers their names, without anything that
computes them, when torchvision is imported and not before: no process pays for a torch that it does not use.

Users need none of this: for the CPU torchvision comes from the index that torch comes from.
"""

import sys
from importlib.metadata import PackageNotFoundError, version


class TorchvisionOperators:
    """A finder that finds nothing. Python asks it first, and torchvision's operators are there once it was asked."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(TorchvisionOperators)
            _register()


def _register() -> None:
    """Registers the names of the operators if this torch has no CUDA, and this torchvision was not built for that."""
    import torch

    try:
        of_torchs_index = version("torchvision").endswith("+cpu")
    except PackageNotFoundError:
        return
    if torch.version.cuda is None and not of_torchs_index:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


sys.meta_path.insert(0, TorchvisionOperators)
