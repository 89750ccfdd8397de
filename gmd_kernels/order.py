"""Draws the order in which projected gradients meet the others."""

import torch
from torch import Tensor

from gmd_kernels.gradients import MAX_OBJECTIVES
from gmd_kernels.uploads import upload


def projection_order(
    num_objectives: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    num_groups: int | None = None,
) -> Tensor:
    """Draws an order for each objective in which to meet the others: [T, T-1] int64, row i a permutation of all but i.

    Args:
        num_objectives: T.
        generator: of any device; torch's default generator of `device` otherwise.
        device: of the result; the generator's device or the CPU otherwise.
        num_groups: K, for [K, T, T-1]: an order of its own for each group.

    Raises:
        ValueError: no number of objectives from 1 to 64, or a generator inside torch.compile, which cannot trace one.
    """
    if not 1 <= num_objectives <= MAX_OBJECTIVES:
        raise ValueError(f"num_objectives: expected 1 to {MAX_OBJECTIVES}, got {num_objectives}")
    if generator is not None and torch.compiler.is_compiling():
        raise ValueError("generator: torch.compile cannot trace one; leave it out and seed torch's default generator")
    source = torch.device(generator.device if generator is not None else device or "cpu")
    batch = () if num_groups is None else (num_groups,)
    keys = torch.rand(*batch, num_objectives, num_objectives - 1, generator=generator, device=source)
    others = keys.argsort(dim=-1)
    order = others + (others >= torch.arange(num_objectives, device=source)[:, None])
    return upload(order, torch.device(device)) if device is not None and source.type == "cpu" else order.to(device)
