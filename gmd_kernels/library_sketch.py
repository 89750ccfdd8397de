"""torch.ops.gmd.sketch_, for while torch traces; eager calls go to the backend directly."""

import torch
from torch import Tensor

from gmd_kernels import dispatch
from gmd_kernels.gradients import Gradients
from gmd_kernels.sketch_arguments import check, check_memory, read_one

_library = torch.library.Library("gmd", "FRAGMENT")
_unsafe = [torch.Tag.cudagraph_unsafe] if hasattr(torch.Tag, "cudagraph_unsafe") else []  # since torch 2.9
_library.define(
    "sketch_(Tensor(a!) sketch, Tensor?[] grads, SymInt seed) -> ()",
    tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides, *_unsafe),
)
_library.impl("sketch_", torch.library.fallthrough_kernel, "Autograd")


def sketch_(gradients: Gradients, sketch: Tensor, seed: int) -> None:
    torch.ops.gmd.sketch_(sketch, list(gradients.rows[0]), seed)


@torch.library.impl(_library, "sketch_", "CompositeExplicitAutograd")
def _sketch_(sketch: Tensor, grads: list[Tensor | None], seed: int) -> None:
    gradients = read_one(grads)
    check(sketch, gradients, seed)
    check_memory(sketch, gradients)
    dispatch.choose(gradients).sketch_(gradients, sketch, seed)


def _fake_sketch_(sketch: Tensor, grads: list[Tensor | None], seed: int) -> None:
    check(sketch, read_one(grads), seed)


torch.library.register_fake("gmd::sketch_", _fake_sketch_, lib=_library)
