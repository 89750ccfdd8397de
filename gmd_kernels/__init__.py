"""Gradients in, one gradient out: Gramian -> weights -> one fused combination. Needs torch alone."""

from gmd_kernels import weightings
from gmd_kernels.dispatch import Backend, FallbackWarning, backends
from gmd_kernels.gradients import MAX_OBJECTIVES
from gmd_kernels.group_norm_relu import group_norm_relu
from gmd_kernels.ops import combine, gram, pcgrad_weights
from gmd_kernels.order import projection_order
from gmd_kernels.owm_update import owm_update_
from gmd_kernels.rescale import rescale_
from gmd_kernels.surgery import Surgery, surgery

__all__ = [
    "MAX_OBJECTIVES",
    "Backend",
    "FallbackWarning",
    "Surgery",
    "backends",
    "combine",
    "gram",
    "group_norm_relu",
    "owm_update_",
    "pcgrad_weights",
    "projection_order",
    "rescale_",
    "surgery",
    "weightings",
]
