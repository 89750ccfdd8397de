"""Weightings: functions from a Gramian [T, T] to weights [T], all float64 on the Gramian's device.

Any callable of that kind is a weighting for `surgery`.

Those here also take [..., T, T], many Gramians at once, for [..., T]. Nothing in them waits for the device. The
weights of a Gramian that is not finite are NaN, but for those of `mean`, `sum` and `pcgrad`.
"""

from gmd_kernels.weightings._gramians import batched
from gmd_kernels.weightings._plain import mean, sum
from gmd_kernels.weightings._programs import cagrad, dualproj, mgda, nash_mtl, upgrad
from gmd_kernels.weightings._projections import check_reduction, gradvac, pcgrad
from gmd_kernels.weightings._spectral import aligned_mtl, imtl_g

__all__ = [
    "aligned_mtl",
    "batched",
    "cagrad",
    "check_reduction",
    "dualproj",
    "gradvac",
    "imtl_g",
    "mean",
    "mgda",
    "nash_mtl",
    "pcgrad",
    "sum",
    "upgrad",
]
