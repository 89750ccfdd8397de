"""How much each modality is to be favoured, from how fast its classifier's metric improves (Guo et al., NeurIPS 2024).

    B_m = sum_{k != m} D_k / sum_k D_k

with D_k the improvement of modality k. What improves faster than the others gets the smaller B, and is slowed down.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

# Means over about 20 and 100 steps. Their difference is the improvement over the latter; its noise, the former's.
FAST, SLOW = 0.95, 0.99
NOISE_LEVELS = 2.0  # an improvement of so many standard deviations of the fast mean has twice the share of none
LEAST = 1e-9  # part of the floor, above the rounding errors of a metric that neither moves nor varies


class Balance(Protocol):
    """A rule for B.

    Attributes:
        state: [..., M] float64, all that the rule remembers of the metrics so far.
    """

    state: Tensor

    def after(self, metrics: Tensor) -> Tensor:
        """Returns the next state.

        metrics: [M] float64, NaN where nothing was measured; there the state stays as it is
        """

    def terms(self, state: Tensor) -> Tensor:
        """Returns B of each modality in a state, [M] float64."""


class SmoothBalance:
    """The default rule, which is bounded and smooth: from the difference of two batches alone, B would be noise.

    D_k is the difference of two exponential moving averages of the metric, a fast and a slow one, where it is positive,
    plus a floor that belongs to all modalities: what the fast average may vary by itself. So B lies in [0, 1], sums
    to M - 1, and is about the same for all modalities, (M - 1) / M, as long as none improves by more than noise.

    Attributes:
        state: [6, M] float64: sums of the fast and the slow average and of the variance, then their weights, which
            begin at zero like the sums, so that each average is an average of what there has been.
    """

    def __init__(self, num_modalities: int, device: torch.device):
        self.state = torch.zeros(6, num_modalities, dtype=torch.float64, device=device)
        decays = torch.tensor([FAST, SLOW, SLOW], dtype=torch.float64, device=device)[:, None]
        self._rates = 1 - decays
        self._one = torch.ones_like(decays)

    def after(self, metrics: Tensor) -> Tensor:
        """Returns the next state, see Balance.after."""
        sums, weights = self.state[:3], self.state[3:].lerp(self._one, self._rates)
        averages = sums[:2].lerp(metrics, self._rates[:2])
        deviation = metrics - averages[0] / weights[0]
        variance = sums[2].lerp(deviation.square(), self._rates[2])
        new = torch.cat([averages, variance[None], weights])
        return torch.where(new.isfinite().all(dim=0), new, self.state)

    def terms(self, state: Tensor) -> Tensor:
        """Returns B of each modality, see Balance.terms."""
        fast, slow, variance = state[:3] / state[3:].clamp(min=LEAST)
        floor = (variance.mean() * (NOISE_LEVELS**2 * (1 - FAST) / (1 + FAST))).sqrt() + LEAST
        improvements = (fast - slow).clamp(min=0) + floor
        terms: Tensor = 1 - improvements / improvements.sum()
        return terms


class PublishedBalance:
    """The rule as published: D_k is the difference of two consecutive batches, of either sign; B has no bounds.

    Where the sum of the differences is zero, as it is at first, all modalities get (M - 1) / M.

    Attributes:
        state: [3, M] float64: the last metric, its difference to the one before, and number of steps.
    """

    def __init__(self, num_modalities: int, device: torch.device):
        self.state = torch.zeros(3, num_modalities, dtype=torch.float64, device=device)

    def after(self, metrics: Tensor) -> Tensor:
        """Returns the next state, see Balance.after."""
        last, _, steps = self.state
        new = torch.stack([metrics, torch.where(steps > 0, metrics - last, 0.0), steps + 1])
        return torch.where(new.isfinite().all(dim=0), new, self.state)

    def terms(self, state: Tensor) -> Tensor:
        """Returns B of each modality, see Balance.terms."""
        changes = state[1]
        total = changes.sum()
        equal = 1 - 1 / len(changes)
        return torch.where(total == 0, equal, (total - changes) / torch.where(total == 0, 1.0, total))


RULES: dict[str, Callable[[int, torch.device], Balance]] = {"smooth": SmoothBalance, "published": PublishedBalance}
