"""CGGM's loss on the direction of the head's gradient (Guo et al., NeurIPS 2024).

    L_gm = 1/M sum_m ( |B_m| - B_m cos(grad_phi L, grad_phi_m L_m) )

phi: the head's parameters that require grad, phi_m: the same ones of modality m's classifier, B_m: the balancing term.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gradient_losses(
    losses: Sequence[Tensor], head: nn.Module, guides: Sequence[Sequence[Tensor]], balance: Tensor
) -> list[Tensor]:
    """Returns L_gm of each loss, T scalars, whose gradients pass the head twice and what lies before it once.

    There is one for each loss and not one for their mean, as L_gm reaches every modality that its loss reaches: the
    mean reaches all of them, and no parameter would be private to the objectives of its modality any longer.

    Args:
        losses: T scalars, computed with `head`.
        guides: the gradient of each of M classifiers' own loss, as many tensors as `head.parameters()`, of which those
            of frozen parameters have no say.
        balance: [M]

    Raises:
        ValueError: a loss was computed without some parameter of the head.
    """
    params = _learning(head, head.parameters())
    guide, highest = _guide([_flat(_learning(head, each)) for each in guides], balance)
    terms = []
    for k, loss in enumerate(losses):
        gradients = torch.autograd.grad(loss, params, create_graph=True, allow_unused=True)
        if any(gradient is None for gradient in gradients):
            raise ValueError(f"losses[{k}]: expected a loss computed with the head, got one that does not depend on it")
        terms.append(highest - _unit(_flat(gradients)) @ guide)
    return terms


def weight_losses(
    losses: Sequence[Tensor], head: nn.Module, classifiers: Sequence[nn.Module], balance: Tensor
) -> list[Tensor]:
    """Returns the published code's stand-in for L_gm, T times one scalar, from cosines of weights, not gradients."""
    weights = [_flat(_learning(head, classifier.parameters())).detach() for classifier in classifiers]
    guide, highest = _guide(weights, balance)
    return [highest - _unit(_flat(_learning(head, head.parameters()))) @ guide] * len(losses)


def _learning(head: nn.Module, tensors: Iterable[Tensor]) -> list[Tensor]:
    """Returns those of the tensors, one for each of the head's parameters, whose parameter is not frozen."""
    return [tensor for param, tensor in zip(head.parameters(), tensors, strict=True) if param.requires_grad]


def _guide(rows: Sequence[Tensor], balance: Tensor) -> tuple[Tensor, Tensor]:
    """Returns 1/M sum_m B_m unit(row_m), [N], which has all cosines at once; and 1/M sum_m |B_m|. rows: M times [N]."""
    units = _unit(torch.stack(list(rows)))
    balance = balance.to(units.dtype) / len(rows)
    return balance @ units, balance.abs().sum()


def _unit(rows: Tensor) -> Tensor:
    """Returns the rows, [..., N], scaled to length 1; rows of zeros stay so."""
    return F.normalize(rows, dim=-1, eps=1e-8)


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
