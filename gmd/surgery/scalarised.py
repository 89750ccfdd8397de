"""The baselines that weigh losses by their values, without any gradient: STCH, FAMO, DWA, UW, RLW and GLS."""

import inspect
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

import gmd_kernels as gk
from gmd.surgery._by_name import Names
from gmd.surgery._delivery import check_one_process
from gmd.surgery._losses import Losses, Outputs, check_factors, check_outputs, check_same_kind, named_losses
from gmd.surgery._modes import ordinary_modes
from gmd.surgery._one_pass import one_pass
from gmd.surgery._optimizers import Optimizers, optimizers_of, parameters_of
from gmd.surgery._options import check_options
from gmd.surgery._scalarisations import RULES, Famo, Rule
from gmd.surgery._scaling import Scaling
from gmd.surgery._undone import check_keys, undone_on_error
from gmd.surgery.report import Report


class Scalarised:
    """Adds the gradient of one loss that is made of several to `.grad`, in one backward pass.

        surgeon = gmd.Scalarised(optimizer, "famo")
        ...
        optimizer.zero_grad()
        surgeon.backward(losses)
        optimizer.step()

    What the loss is, with its source, and what it takes for options:

        "stch"  smooth Tchebycheff scalarisation (Lin et al., ICML 2024): nearly the largest loss. mu=0.1, preference=
                and ideal= (dicts by name)
        "famo"  losses that fall at the same rate (Liu et al., NeurIPS 2023). lr=0.025, weight_decay=1e-3
        "dwa"   dynamic weight average (Liu et al., CVPR 2019): more weight for losses that fall less. steps= of an
                epoch, temperature=2
        "uw"    uncertainty weighting (Kendall et al., CVPR 2018), with learnt log variances. lr=1e-3
        "rlw"   random weights (Lin et al., TMLR 2022). generator=
        "gls"   geometric mean (Chennupati et al., CVPR workshops 2019)

    The weights of the losses sum to 1 with "famo" and "rlw", to T with "dwa" and, at first, to T/2 with "uw", to 1/T
    with "stch"; choose the learning rate for that. Details are in the classes of `gmd.surgery._scalarisations`.

    FAMO compares losses with those of the step before. To have those of the same batch compared, as in the paper, give
    them to `update` after each step of the optimizer; it costs another forward pass.

    Args:
        optimizer: any torch optimizer but LBFGS, or a list of them, as in GMD. In several processes "stch" and "gls"
            work, and a DistributedDataParallel averages; the others are refused, as their weights would drift apart.
        rule: one of these names.
        scaler: as in GMD: the losses come unscaled, and `.grad` does too.
        options: of the rule.

    Raises:
        ValueError, TypeError: no such rule or option, or an option of another type or value.
        RuntimeError: several processes, with a rule that does not work there.
    """

    def __init__(self, optimizer: Optimizers, rule: str, *, scaler: GradScaler | None = None, **options: Any):
        if rule not in RULES:
            raise ValueError(f"rule: expected one of {', '.join(RULES)}, got {rule!r}")
        what = f"rule {rule!r}"
        check_options(what, options, inspect.signature(RULES[rule]).parameters)
        try:
            self._rule: Rule = RULES[rule](**options)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error
        if self._rule.drifts:
            check_one_process(what, "each would have weights of its own")
        self.optimizer = optimizer
        self.optimizers = optimizers_of(optimizer)
        self.rule = rule
        self.scaler = scaler
        self._scaling = Scaling(scaler, self.optimizers)
        self._by_name: bool | None = None  # whether losses come by name; None before the first

    @ordinary_modes()
    def backward(
        self,
        losses: Losses,
        outputs: Outputs | None = None,
        factors: Tensor | None = None,
        retain_graph: bool = False,
    ) -> Report:
        """Adds the gradient of the scalarised losses to `.grad`.

        Args:
            losses: T scalars, of the same objectives in the same order at every step; or name -> scalar, where some may
                be absent from a step.
            outputs: as in `GMD.backward`, as are the others. The one pass tells the norm of the gradient at each
                output.

        The report's weights are [T], what the losses were multiplied with. As in MeanGradient, its Gramian has one
        objective, [[squared norm of what is in `.grad` afterwards]]. Nothing waits for the device. From a step with a
        loss that is not finite, the rule learns nothing.

        Raises ValueError: a loss that the rule cannot take (negative; with "gls", zero too). On a device other than the
            CPU, where a look at it would wait, all weights are NaN instead, and `.grad` with them.
        """
        named = named_losses(losses)
        by_name = check_same_kind(losses, self._by_name)
        check_factors(factors, outputs)
        found = [] if outputs is None else check_outputs(outputs)
        given = list(named.values())
        values = torch.stack([loss.detach() for loss in given])
        self._check_values(named, values)
        params = [param for param in parameters_of(self.optimizers) if param.requires_grad]
        scale = self._scaling.scale(given)
        with undone_on_error(self._rule):
            weights = self._weights(values, tuple(named))
            norms = one_pass(given, weights, params, found, factors, scale=scale, retain_graph=retain_graph)
        self._by_name = by_name
        gram = gk.gram([[param.grad for param in params]])
        if scale is not None:
            self._scaling.note_unscaled(gram)
        modality = {} if norms is None else {"gradient norm": norms}
        return Report(values, gram, weights, modality=modality, squared_norm=gram[0, 0])

    def update(self, losses: Losses) -> None:
        """Lets FAMO's weights follow from the losses of the same batch after the optimizer's step.

        Args:
            losses: of the same objectives as in `backward`, T scalars; they need no grad.

        Raises ValueError: another rule, or a loss that is negative.
        """
        if not isinstance(self._rule, Famo):
            raise ValueError(f"update: expected with rule 'famo' alone, got it with {self.rule!r}")
        self._by_name = check_same_kind(losses, self._by_name)
        named: dict[Hashable, Tensor] = dict(losses if isinstance(losses, Mapping) else enumerate(losses))
        values = torch.stack([torch.as_tensor(loss).detach().reshape(()) for loss in named.values()])
        self._check_values(named, values)
        self._rule.update(torch.where(self._refused(values), torch.nan, values.double()), tuple(named))

    def _weights(self, values: Tensor, names: Names) -> Tensor:
        """Returns the rule's weights, NaN if it cannot take one of the losses."""
        refused = self._refused(values)
        weights = self._rule(torch.where(refused, torch.nan, values.double()), names)
        return torch.where(refused.any(), torch.nan, weights)

    def _refused(self, values: Tensor) -> Tensor:
        """Returns which losses the rule cannot take, [T] bool."""
        if self._rule.least == "positive":
            return values <= 0
        return values < 0 if self._rule.least else torch.zeros_like(values, dtype=torch.bool)

    def _check_values(self, named: Mapping[Hashable, Tensor], values: Tensor) -> None:
        """Raises a ValueError for a loss that the rule cannot take, if that can be read without waiting."""
        if values.device.type != "cpu":
            return
        for name, value, refused in zip(named, values.tolist(), self._refused(values).tolist(), strict=True):
            if refused:
                expected = f"rule {self.rule!r} takes losses that are {self._rule.least}, as {self._rule.why}"
                raise ValueError(f"losses[{name!r}]: {expected}; got {value:g}")

    def state_dict(self) -> dict[str, Any]:
        """Returns what the rule remembers, as tensors and plain values."""
        return {"rule": self.rule, "state": self._rule.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned, from any device.

        Raises ValueError for the state of another rule, and changes nothing then.
        """
        check_keys("state", self.state_dict(), state)
        if state["rule"] != self.rule:
            raise ValueError(f"rule: expected the state of {self.rule!r}, got one of {state['rule']!r}")
        check_keys(f"rule {self.rule!r}", self._rule.state_dict(), state["state"])
        self._rule.load_state_dict(state["state"])
