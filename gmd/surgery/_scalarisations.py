"""Rules that make one loss out of several by looking at the losses alone.

A loss F(L_1, ..., L_T) has the gradient sum_k w_k g_k, w_k = dF / dL_k, so that each rule is a function from the values
of the losses to weights. What a rule remembers it keeps for each objective by its name.
"""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from gmd.surgery._by_name import ByName, Names


class Rule(Protocol):
    """From the losses of a step to weights.

    Attributes:
        least: "positive" or "not negative", what the losses have to be; empty if they may be anything.
        why: why they have to be that.
        drifts: whether the weights of several processes would drift apart, because of what each remembers or draws.
    """

    least: str
    why: str
    drifts: bool

    def __call__(self, losses: Tensor, names: Names) -> Tensor:
        """Returns weights, [T] float64, of losses, [T] float64. Losses that are not finite are not learnt from."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns what the rule remembers, as tensors and plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned."""
        ...


class Stateless:
    """What a rule has that remembers nothing and takes any losses."""

    least = why = ""
    drifts = False

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class SmoothTchebycheff(Stateless):
    """STCH (Lin et al., ICML 2024): F = mu log sum_k exp(preference_k (L_k - ideal_k) / mu).

    It is the largest of the terms for a small mu. The weights sum to 1/T with the preference of 1/T for each.

    Args:
        mu: above 0.
        preference: name -> number of at least 0; 1/T each by default.
        ideal: name -> the least value that the loss can have; 0 by default.
    """

    def __init__(
        self,
        mu: float = 0.1,
        preference: Mapping[Hashable, float] | None = None,
        ideal: Mapping[Hashable, float] | None = None,
    ):
        check_above_zero("mu", mu)
        if preference is not None and any(not value >= 0 for value in preference.values()):
            raise ValueError(f"preference: expected numbers of at least 0, got {dict(preference)}")
        self.mu = mu
        self.preference = preference
        self.ideal = ideal

    def __call__(self, losses: Tensor, names: Names) -> Tensor:
        """Returns the weights, see Rule."""
        equal = dict.fromkeys(names, 1 / len(names))
        preference = _of("preference", equal if self.preference is None else self.preference, names, losses)
        ideal = _of("ideal", dict.fromkeys(names, 0.0) if self.ideal is None else self.ideal, names, losses)
        return preference * (preference * (losses - ideal) / self.mu).softmax(dim=0)


class Random(Stateless):
    """RLW (Lin et al., TMLR 2022): weights drawn at each step, softmax of T standard normal numbers; they sum to 1.

    Args:
        generator: torch's default generator otherwise.
    """

    drifts = True

    def __init__(self, generator: torch.Generator | None = None):
        self.generator = generator

    def __call__(self, losses: Tensor, names: Names) -> Tensor:
        """Returns the weights, see Rule."""
        device = losses.device if self.generator is None else self.generator.device
        drawn = torch.randn(len(losses), generator=self.generator, dtype=torch.float64, device=device)
        return drawn.to(losses.device).softmax(dim=0)

    def state_dict(self) -> dict[str, Any]:
        """Returns the generator's state, if there is one."""
        return {"generator": None if self.generator is None else self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned."""
        if self.generator is not None and state["generator"] is not None:
            self.generator.set_state(state["generator"].cpu())


class GeometricMean(Stateless):
    """GLS (Chennupati et al., CVPR workshops 2019): F = (product of the losses)^(1/T), weights F / (T L_k)."""

    least = "positive"
    why = "the geometric mean has no gradient elsewhere"

    def __call__(self, losses: Tensor, names: Names) -> Tensor:
        """Returns the weights, see Rule."""
        logs = losses.log()
        return (logs.mean() - logs).exp() / len(losses)


class DynamicWeightAverage:
    """DWA (Liu et al., CVPR 2019): more weight for the losses that fall less, from the means of the last two epochs.

    w_k = T softmax_k(r_k / temperature), r_k = mean of L_k in the last epoch / mean in the one before; 1 for an
    objective that was not in two epochs yet. The weights sum to T.

    Args:
        steps: of an epoch: how many calls there are from one mean to the next.
        temperature: above 0; the higher, the more alike are the weights.
    """

    least = "not negative"
    why = "the rate at which it falls is a ratio of means"
    drifts = True

    def __init__(self, steps: int, temperature: float = 2.0):
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        check_above_zero("temperature", temperature)
        self.steps = steps
        self.temperature = temperature
        self._step = 0  # of the epoch
        self._sums = ByName()  # [2, N], of the losses, and how many
        self._means = ByName(fill=torch.nan)  # [2, N], of the last epoch and of the one before

    def __call__(self, losses: Tensor, names: Names) -> Tensor:
        """Returns the weights, see Rule."""
        last, before = self._means.take(names, (2,), losses.device)
        known = (before > 0) & last.isfinite()
        rates = torch.where(known, last / torch.where(known, before, 1.0), 1.0)
        self._add(losses, names)
        return len(names) * (rates / self.temperature).softmax(dim=0)

    def _add(self, losses: Tensor, names: Names) -> None:
        sums = self._sums.take(names, (2,), losses.device)
        added = torch.stack([losses, torch.ones_like(losses)])
        self._sums.put(names, torch.where(losses.isfinite().all(), sums + added, sums))
        self._step += 1
        if self._step == self.steps:
            self._end_epoch(losses.device)

    def _end_epoch(self, device: torch.device) -> None:
        names = self._sums.names
        total, count = self._sums.take(names, (2,), device)
        means = self._means.take(names, (2,), device)
        rolled = torch.stack([total / count, means[0]])
        self._means.put(names, torch.where(count > 0, rolled, means))
        self._sums = ByName()
        self._step = 0

    def state_dict(self) -> dict[str, Any]:
        """Returns the means, and what the epoch has had so far."""
        return {"step": self._step, "sums": self._sums.state_dict(), "means": self._means.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned."""
        sums, means = ByName(), ByName(fill=torch.nan)
        sums.load_state_dict(state["sums"], (2,))
        means.load_state_dict(state["means"], (2,))
        self._step, self._sums, self._means = state["step"], sums, means


class Uncertainty:
    """UW (Kendall et al., CVPR 2018): F = sum_k exp(-s_k) L_k / 2 + s_k / 2, with s_k, a log variance, learnt by Adam.

    The weights are exp(-s_k) / 2, 1/2 at first. (LibMTL begins with s_k = -0.5.)

    Args:
        lr: above 0, of the s_k; often that of the network. Their step is made at once, at the same losses.
    """

    least = "not negative"
    why = "its variance would be fitted to minus infinity"
    drifts = True

    def __init__(self, lr: float = 1e-3):
        check_above_zero("lr", lr)
        self._log_variances = Learnt(lr)

    def __call__(self, losses: Tensor, names: Names) -> Tensor:
        """Returns the weights, see Rule."""
        precision = (-self._log_variances.values(names, losses.device)).exp()
        finite = losses.isfinite().all().expand(len(names))
        self._log_variances.step(names, (1 - precision * losses) / 2, finite)
        return precision / 2

    def state_dict(self) -> dict[str, Any]:
        """Returns the log variances and what Adam remembers of them."""
        return self._log_variances.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned."""
        self._log_variances.load_state_dict(state)


class Famo:
    """FAMO (Liu et al., NeurIPS 2023): all losses are to fall at the same rate, in the logarithm.

    F = c sum_k z_k log(L_k + 1e-8), z = softmax(xi), c such that the weights c z_k / (L_k + 1e-8) sum to 1. After a
    step, xi follows by Adam from how much the logarithm of each loss has fallen. The paper computes the losses of the
    same batch once more for that (give them to `Scalarised.update`); otherwise the losses of the next step serve, which
    costs nothing and adds the noise between two batches. An objective that was absent is compared with its last loss.
    A loss of exactly zero gets all the weight.

    Args:
        lr: above 0, of xi.
        weight_decay: at least 0, of xi, towards equal weights. (1e-3 as in the paper's algorithm and in LibMTL.)
    """

    least = "not negative"
    why = "its logarithm is taken"
    drifts = True

    def __init__(self, lr: float = 0.025, weight_decay: float = 1e-3):
        check_above_zero("lr", lr)
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay: expected at least 0, got {weight_decay}")
        self._logits = Learnt(lr, weight_decay)
        self._before = ByName(fill=torch.nan)  # [N], losses that xi has not followed yet

    def __call__(self, losses: Tensor, names: Names) -> Tensor:
        """Returns the weights, see Rule; first lets xi follow from the losses."""
        before = self.follow(losses, names)
        self._before.put(names, torch.where(losses.isfinite().all(), losses, before))
        shares = self._logits.values(names, losses.device).softmax(dim=0) / _shifted(losses)
        return shares / shares.sum()

    def update(self, losses: Tensor, names: Names) -> None:
        """Lets xi follow from losses of the same batch after the step."""
        before = self.follow(losses, names)
        self._before.put(names, torch.where(losses.isfinite().all(), torch.nan, before))

    def follow(self, losses: Tensor, names: Names) -> Tensor:
        """Lets xi follow from losses, of those objectives that were met before; returns what these were, [T]."""
        before = self._before.take(names, (), losses.device)
        known = ~before.isnan() & losses.isfinite().all()
        fallen = torch.where(known, _shifted(before).log() - _shifted(losses).log(), 0.0)
        shares = torch.where(known, self._logits.values(names, losses.device), -torch.inf).softmax(dim=0)
        shares = torch.where(known, shares, 0.0)
        self._logits.step(names, shares * (fallen - (shares * fallen).sum()), known)
        return before

    def state_dict(self) -> dict[str, Any]:
        """Returns xi, what Adam remembers of it, and the losses to compare with."""
        return {"logits": self._logits.state_dict(), "before": self._before.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned."""
        before = ByName(fill=torch.nan)
        before.load_state_dict(state["before"], ())
        self._logits.load_state_dict(state["logits"])
        self._before = before


class Learnt:
    """A number of each objective, 0 at first, that is learnt by Adam (Kingma and Ba, ICLR 2015) with steps of its own.

    Args:
        lr: learning rate.
        weight_decay: as in torch.optim.Adam, added to the gradient.
    """

    BETAS, EPS = (0.9, 0.999), 1e-8

    def __init__(self, lr: float, weight_decay: float = 0.0):
        self.lr = lr
        self.weight_decay = weight_decay
        self._kept = ByName()  # [4, N]: values, both moments, steps

    def values(self, names: Names, device: torch.device) -> Tensor:
        """Returns the numbers of T objectives, [T] float64."""
        return self._kept.take(names, (4,), device)[0]

    def step(self, names: Names, gradient: Tensor, where: Tensor) -> None:
        """Makes a step of those objectives that `where`, [T] bool, names, down the gradient, [T] float64."""
        kept = self._kept.take(names, (4,), gradient.device)
        values, first, second, steps = kept
        gradient = gradient + self.weight_decay * values
        steps = steps + 1
        first = first.lerp(gradient, 1 - self.BETAS[0])
        second = second.lerp(gradient.square(), 1 - self.BETAS[1])
        root = (second / (1 - self.BETAS[1] ** steps)).sqrt() + self.EPS
        values = values - self.lr * first / (1 - self.BETAS[0] ** steps) / root
        self._kept.put(names, torch.where(where, torch.stack([values, first, second, steps]), kept))

    def state_dict(self) -> dict[str, Any]:
        """Returns the numbers and what Adam remembers of them."""
        return self._kept.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned."""
        kept = ByName()
        kept.load_state_dict(state, (4,))
        self._kept = kept


def _shifted(losses: Tensor) -> Tensor:
    return losses + 1e-8


def _of(what: str, numbers: Mapping[Hashable, float], names: Names, like: Tensor) -> Tensor:
    """Returns the numbers of T objectives, [T]; raises a ValueError if one has none."""
    if lacking := [name for name in names if name not in numbers]:
        raise ValueError(f"{what}: expected a number for {lacking[0]!r} too, got {', '.join(map(repr, numbers))}")
    return torch.tensor([float(numbers[name]) for name in names], dtype=like.dtype, device="cpu").to(like)


def check_above_zero(what: str, value: float) -> None:
    """Raises a ValueError unless a number is finite and above 0."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{what}: expected a finite number above 0, got {value}")


RULES: dict[str, Callable[..., Rule]] = {
    "stch": SmoothTchebycheff,
    "famo": Famo,
    "dwa": DynamicWeightAverage,
    "uw": Uncertainty,
    "rlw": Random,
    "gls": GeometricMean,
}
