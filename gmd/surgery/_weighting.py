"""Weightings of a Gramian in a training loop, where objectives have names and may come and go."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

import gmd_kernels as gk


class LoopWeighting(Protocol):
    """From the Gramian of a step to weights."""

    def __call__(self, gram: Tensor, names: tuple[Hashable, ...], losses: Tensor) -> Tensor:
        """Returns the weights of T objectives, [T] or [K, T], from their Gramian, [T, T] or [K, T, T] float64.

        losses: [T], detached.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns what it remembers, as tensors and plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned."""
        ...


class Stateless:
    """A weighting that remembers nothing."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        self.function = function

    def __call__(self, gram: Tensor, names: tuple[Hashable, ...], losses: Tensor) -> Tensor:
        if gram.ndim == 2 or getattr(self.function, "batched", False):
            return self.function(gram)
        return torch.stack([self.function(one) for one in gram])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def in_loop(weighting: str | Callable[[Tensor], Tensor]) -> LoopWeighting:
    """Returns a weighting for a loop, from a name of `gmd_kernels.weightings` or a function of a Gramian."""
    function = getattr(gk.weightings, weighting) if isinstance(weighting, str) else weighting
    return Stateless(function)
