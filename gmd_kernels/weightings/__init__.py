"""Weightings: functions from a Gramian [T, T] to weights [T], all float64 on the Gramian's device.

Any callable of that kind is a weighting for `surgery`.

Those here also take [..., T, T], many Gramians at once, for [..., T]. Nothing in them waits for the device; with the
CUDA kernels most are one launch from the Gramian to the weights, whatever T and the number of Gramians. The
weights of a Gramian that is not finite are NaN, but for those of `mean`, `sum`, `constant`, `random`
and `pcgrad`.

`NAMES` are the names of all of them, for whoever chooses one by name: `named` returns the function, `options_of` its
options with their types and defaults.
"""

import inspect
from collections.abc import Callable

from torch import Tensor

from gmd_kernels.weightings._config import config
from gmd_kernels.weightings._db_mtl import db_mtl
from gmd_kernels.weightings._fairgrad import fairgrad
from gmd_kernels.weightings._gramians import batched
from gmd_kernels.weightings._krum import krum
from gmd_kernels.weightings._pcd import pcd
from gmd_kernels.weightings._plain import constant, mean, random, sum
from gmd_kernels.weightings._programs import cagrad, dualproj, mgda, nash_mtl, upgrad
from gmd_kernels.weightings._projections import check_reduction, gradvac, pcgrad
from gmd_kernels.weightings._spectral import aligned_mtl, imtl_g

__all__ = [
    "NAMES",
    "aligned_mtl",
    "batched",
    "cagrad",
    "check_reduction",
    "config",
    "constant",
    "db_mtl",
    "dualproj",
    "fairgrad",
    "gradvac",
    "imtl_g",
    "krum",
    "mean",
    "mgda",
    "named",
    "nash_mtl",
    "options_of",
    "pcd",
    "pcgrad",
    "random",
    "sum",
    "upgrad",
]

_BY_NAME: dict[str, Callable[..., Tensor]] = {
    weighting.__name__: weighting
    for weighting in (
        mean,
        sum,
        pcgrad,
        gradvac,
        mgda,
        cagrad,
        nash_mtl,
        imtl_g,
        aligned_mtl,
        upgrad,
        dualproj,
        pcd,
        config,
        fairgrad,
        db_mtl,
        krum,
        constant,
        random,
    )
}
NAMES: tuple[str, ...] = tuple(_BY_NAME)
# What a training loop hands over at each step or keeps from one to the next; all other arguments are options.
_NO_OPTIONS = ("gram", "losses", "generator", "cosines", "state")


def named(name: str) -> Callable[..., Tensor]:
    """Returns the weighting of a name, from [..., T, T] to [..., T]; raises a ValueError for no such name."""
    if name not in _BY_NAME:
        raise ValueError(f"weighting: expected one of {', '.join(NAMES)}, got {name!r}")
    return _BY_NAME[name]


def options_of(name: str) -> dict[str, inspect.Parameter]:
    """Returns the options of a weighting by name; of each, `annotation` is the type, `default` what holds without it.

    Left out is what changes with each step: the Gramian, losses [T], averages of earlier steps, a generator. Whether a
    weighting takes these, its signature tells.

    Raises ValueError: no such name.
    """
    parameters = inspect.signature(named(name)).parameters
    return {option: parameter for option, parameter in parameters.items() if option not in _NO_OPTIONS}
