"""Gradients in, one gradient out: Gramian -> weights -> one fused combination. Needs torch alone.

The public API is the names that this module exports (`__all__`):

- `surgery` merges the gradients of T objectives into one, by GMD or by any weighting of their Gramian. It returns a
  `Surgery`.
- `gram`, `pcgrad_weights` and `combine` are its three steps, each by itself. `projection_order` draws the order of the
  projections. `MAX_OBJECTIVES` is the largest T.
- `weightings` is a module of functions from a Gramian to weights: `mean`, `sum`, `pcgrad`, `mgda`, `cagrad`,
  `nash_mtl`, `imtl_g`, `aligned_mtl`, `upgrad`, `dualproj`, `gradvac`, `pcd`, `config`, `fairgrad`, `db_mtl`, `krum`,
  `constant` and `random`. Its `NAMES` are all of these.
- `rescale_` scales and clips gradients in place.
- `owm_update_` updates MLA's projector and projects a weight's gradient, both in place.
- `sketch_` folds a gradient into d numbers, whose inner products are unbiased for those of the gradients.
- `group_norm_relu` is GroupNorm and ReLU with an affine row for each sample.
- `backends` tells which implementations (CUDA, C++, Triton, plain PyTorch) this machine can use, as a `Backend` each. A
  `FallbackWarning` says that a call did not go through the best one for its device.

All other modules are internal and may change without notice. docs/writing-a-backend.md says which of them a new backend
has to do with.
"""

import gmd_kernels.supported_torch  # noqa: F401 - refuses an older torch, before anything is asked of it
from gmd_kernels import weightings
from gmd_kernels.dispatch import Backend, FallbackWarning, backends
from gmd_kernels.gradients import MAX_OBJECTIVES
from gmd_kernels.group_norm_relu import group_norm_relu
from gmd_kernels.ops import combine, gram, pcgrad_weights
from gmd_kernels.order import projection_order
from gmd_kernels.owm_update import owm_update_
from gmd_kernels.rescale import rescale_
from gmd_kernels.sketch import sketch_
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
    "sketch_",
    "surgery",
    "weightings",
]
