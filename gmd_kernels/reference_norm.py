"""GroupNorm + ReLU in plain PyTorch, on any device and for any floating type: the oracle and the fallback."""

import torch
from torch import Tensor


def group_norm_relu(
    x: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, num_groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns y in x's memory layout, mean and rstd [n, G]. Autograd can differentiate it, not the function below."""
    centred, mean, rstd = _normalize(x, weight.dtype, num_groups, eps)
    y = _affine(centred * rstd[..., None, None], weight[rows], bias[rows]).relu()
    return torch.empty_like(x).copy_(y.view(x.shape)), mean, rstd


def group_norm_relu_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    rows: Tensor,
    mean: Tensor,
    rstd: Tensor,
    needs_x: bool,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Returns dx or None, dweight [R, C], dbias [R, C]."""
    groups = mean.shape[1]
    normed = (_grouped(x, weight.dtype, groups) - mean[..., None, None]) * rstd[..., None, None]
    z = _affine(normed, weight[rows], bias[rows])
    grad = _grouped(grad, weight.dtype, groups).where(~(z <= 0), 0.0)  # NaN passes, as torch's ReLU has it
    dweight, dbias = (_add_rows(terms, rows, len(weight)) for terms in (grad * normed, grad))
    if not needs_x:
        return None, dweight, dbias
    grad = grad * weight[rows].view(*normed.shape[:3], 1)
    through_mean, through_rstd = (
        terms.mean(dim=(2, 3), keepdim=True, dtype=torch.float64).to(weight.dtype) for terms in (grad, grad * normed)
    )
    dx = (grad - through_mean - normed * through_rstd) * rstd[..., None, None]
    return torch.empty_like(x).copy_(dx.view(x.shape)), dweight, dbias


def _normalize(x: Tensor, dtype: torch.dtype, num_groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    grouped = _grouped(x, dtype, num_groups)
    mean = grouped.mean(dim=(2, 3), dtype=torch.float64).to(dtype)
    centred = grouped - mean[..., None, None]
    var = centred.square().mean(dim=(2, 3), dtype=torch.float64)
    return centred, mean, (var + eps).rsqrt().to(dtype)


def _grouped(x: Tensor, dtype: torch.dtype, num_groups: int) -> Tensor:
    """Returns x, [n, C, *spatial], in the type as [n, G, C / G, voxels]."""
    n, channels = x.shape[:2]
    return x.to(dtype).reshape(n, num_groups, channels // num_groups, x.shape[2:].numel())


def _affine(normed: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns normed [n, G, C / G, voxels] times the samples' own weight [n, C], plus their bias [n, C]."""
    of_channel = *normed.shape[:3], 1
    return normed * weight.view(of_channel) + bias.view(of_channel)


def _add_rows(terms: Tensor, rows: Tensor, num_rows: int) -> Tensor:
    """Returns the sums of terms [n, G, C / G, voxels] over voxels and over the samples of each row, [R, C]."""
    of_samples = terms.sum(dim=-1, dtype=torch.float64).flatten(1)
    theirs = rows == torch.arange(num_rows, device=rows.device)[:, None]  # [R, n]
    # index_add would take another order every time on a GPU
    return of_samples.where(theirs[..., None], 0.0).sum(dim=1).to(terms.dtype)
