"""torch.ops.gmd.owm_update_, for while torch traces; eager calls go to the backend directly."""

import torch
from torch import Tensor

from gmd_kernels import dispatch
from gmd_kernels.owm_arguments import check, check_memory

_library = torch.library.Library("gmd", "FRAGMENT")
_library.define(
    "owm_update_(Tensor(a!) projector, Tensor(b!) weight_grad, Tensor mean_input, float alpha) -> ()",
    tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides),
)
_library.impl("owm_update_", torch.library.fallthrough_kernel, "Autograd")
# lazily negated gradients are the backends' business; torch would resolve one into a copy that is then overwritten
_library.impl("owm_update_", torch.library.fallthrough_kernel, "Negative")


@torch.library.impl(_library, "owm_update_", "CompositeExplicitAutograd")
def _owm_update_(projector: Tensor, weight_grad: Tensor, mean_input: Tensor, alpha: float) -> None:
    check(projector, weight_grad, mean_input, alpha)
    check_memory(projector, weight_grad, mean_input)
    dispatch.choose_for_owm(projector).owm_update_(projector, weight_grad, mean_input, alpha)


def _fake_owm_update_(projector: Tensor, weight_grad: Tensor, mean_input: Tensor, alpha: float) -> None:
    check(projector, weight_grad, mean_input, alpha)


torch.library.register_fake("gmd::owm_update_", _fake_owm_update_, lib=_library)
