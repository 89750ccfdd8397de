"""Scales and clips gradients in place: norms are a Gramian by groups, factors are weights per parameter."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from gmd_kernels.gradients import Gradients, read
from gmd_kernels.ops import backend_for
from gmd_kernels.results import check_out
from gmd_kernels.uploads import upload

EPSILON = 1e-6  # torch.nn.utils.clip_grad_norm_ adds as much to the norm


@torch.no_grad()
def rescale_(
    grads: Iterable[Tensor | None], scale: float | Sequence[float] | Tensor, max_norm: float | None = None
) -> Tensor | None:
    """Scales gradients in place, grads[p] *= scale[p], then all by one factor so that their norm is at most `max_norm`.

    As multiplying each and `torch.nn.utils.clip_grad_norm_` after it, but every gradient is read once for the norm and
    once to apply both factors. CGGM's magnitude (Guo et al., NeurIPS 2024) is such a scale: rho * B_m for the
    parameters of modality m's encoder, 1 for the others.

    Args:
        grads: P tensors or `None`s, `[p.grad for p in model.parameters()]` for instance.
        scale: one factor for all, or P of them (floats or a tensor on the gradients' device).
        max_norm: largest Euclidean norm of all gradients together, after scaling; None leaves it as it is.

    Returns:
        The norm after scaling and before clipping, a float64 tensor on the gradients' device; None without `max_norm`
        (nothing was read for it then).

    Raises:
        ValueError, TypeError: an argument is malformed; the message names it, what came and what was expected.
    """
    grads = list(grads)
    gradients, out = _read(grads)
    factors = _factors(scale, len(grads), gradients.device)
    if max_norm is not None and not max_norm >= 0:
        raise ValueError(f"max_norm: expected a number of 0 or more, got {max_norm}")
    backend, norm = backend_for(gradients), None
    if max_norm is not None:
        squares = backend.gram(gradients, list(range(len(grads))), len(grads))[:, 0, 0]
        norm = (factors.square() * squares).sum().sqrt()
        factors = factors * (max_norm / (norm + EPSILON)).clamp(max=1)
    backend.combine(gradients, factors[:, None], out)
    return norm


def _read(grads: list[Tensor | None]) -> tuple[Gradients, list[Tensor | None]]:
    """Reads the gradients as those of one objective that are to be written over; errors speak of grads[p]."""
    try:
        gradients = read([grads])
        return gradients, check_out(grads, gradients)
    except (TypeError, ValueError) as error:
        message = str(error).replace("grads[0]", "grads").replace("out[", "grads[")
        raise type(error)(message) from None


def _factors(scale: float | Sequence[float] | Tensor, num_params: int, device: torch.device) -> Tensor:
    """Returns the factors of the parameters, [P] float64 on the device."""
    factors = torch.as_tensor(scale, dtype=torch.float64, device=None if isinstance(scale, Tensor) else "cpu")
    factors = upload(factors.contiguous(), device) if factors.device.type == "cpu" else factors.to(device)
    if tuple(factors.shape) not in {(), (num_params,)}:
        raise ValueError(f"scale: expected one number or {num_params}, one per parameter, got {list(factors.shape)}")
    return factors.expand(num_params)
