"""CGGM: classifier-guided gradient modulation (Guo et al., NeurIPS 2024) around any torch optimizer."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gmd.surgery._balance import RULES
from gmd.surgery._classifiers import Classifiers, models_and_heads
from gmd.surgery._delivery import check_one_process
from gmd.surgery._direction_loss import gradient_losses, weight_losses
from gmd.surgery._losses import Criterion, Losses, Metric, check_outputs, check_rows, named_losses
from gmd.surgery._modes import ordinary_modes
from gmd.surgery._optimizers import Optimizers, check_same, optimizers_of
from gmd.surgery.mean import MeanGradient
from gmd.surgery.report import Report
from gmd.surgery.surgeon import Surgeon


class CGGM:
    """Keeps the modality that is learnt fastest from outrunning the others.

        cggm = gmd.CGGM(optimizer, network.head, criterion, metric, network.modalities)
        ...
        outputs = {m: network(x[m], m) for m in x}
        loss = criterion(network.head(fuse(outputs)), target)
        report = cggm.backward([loss], outputs, {m: target for m in outputs})
        optimizer.step()

    A classifier for each modality, by default a copy of the head, learns to predict from that modality's output alone;
    it takes no part in the network. How fast its metric improves gives the modality's balancing term B_m
    (gmd.surgery._balance). That scales the gradients of everything before the modality's output by rho * B_m
    (magnitude), and weighs a loss that turns the head's gradient towards those of the classifiers (direction;
    gmd.surgery._direction_loss).

    A modality that a batch lacks altogether keeps its part in the balance as it was: the B_m of a batch are those of
    the whole training, not of the company that a modality happens to be in.

    The head and the criterion are differentiated twice, which torch.compile cannot do: leave these two out of it.

    Args:
        optimizer: any torch optimizer but LBFGS, of the network; or a list of them, as in GMD.
        head: the network's last layer, from fused outputs to predictions; its parts have reset_parameters().
        criterion: (predictions, targets) -> scalar, of a classifier.
        metric: (predictions, targets) -> number or scalar tensor, higher is better; of predictions without grad.
        modalities: names of all there are, two at least.
        rho: factor of the magnitude; None leaves the gradients' magnitudes as they are.
        lam: weight of the loss on the direction; None leaves it out.
        direction: "gradient", the paper's; "weights", the cosine of the weights that the published code takes.
        rule: how B_m follows from the metrics: "smooth", bounded; or "published", of two batches' difference.
        lr: learning rate of the classifiers.
        surgeon: what merges the losses' gradients, a Surgeon (GMD is one) or MeanGradient (the default) of the same
            optimizer.
        classifiers: modality -> a module with a `head` like the network's, in the place of the copies; see `seen` of
            `backward`. The published ones are transformers on the sequences that the encoders put out.
    """

    def __init__(
        self,
        optimizer: Optimizers,
        head: nn.Module,
        criterion: Criterion,
        metric: Metric,
        modalities: Sequence[str],
        rho: float | None = 1.3,
        lam: float | None = 0.1,
        direction: str = "gradient",
        rule: str = "smooth",
        lr: float = 1e-3,
        surgeon: Surgeon | MeanGradient | None = None,
        classifiers: Mapping[str, nn.Module] | None = None,
    ):
        check_one_process("CGGM", "each would have classifiers of its own")
        for name, value, known in (("direction", direction, ("gradient", "weights")), ("rule", rule, tuple(RULES))):
            if value not in known:
                raise ValueError(f"{name}: expected {' or '.join(map(repr, known))}, got {value!r}")
        for name, factor in (("rho", rho), ("lam", lam)):
            if factor is not None and not factor > 0:
                raise ValueError(f"{name}: expected a number above 0, or None, got {factor}")
        frozen = [not param.requires_grad for param in head.parameters()]
        if lam is not None and frozen and all(frozen):
            raise ValueError("head: expected a parameter that requires grad, for lam to turn its gradient, got none")
        self.modalities = tuple(modalities)
        if len(set(self.modalities)) < max(2, len(self.modalities)):
            raise ValueError(f"modalities: expected at least two different names, got {self.modalities}")
        self.surgeon = MeanGradient(optimizer) if surgeon is None else surgeon
        check_same(optimizers_of(optimizer), self.surgeon.optimizers)
        self.head = head
        self.rho = rho
        self.lam = lam
        self.direction = direction
        models, heads = models_and_heads(classifiers, head, self.modalities)
        self.classifiers = Classifiers(models, heads, criterion, metric, lr)
        self.balance = RULES[rule](len(self.modalities), next(head.parameters()).device)

    @ordinary_modes()
    def backward(
        self,
        losses: Losses,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        retain_graph: bool = False,
        seen: Mapping[str, Any] | None = None,
    ) -> Report:
        """Adds the modulated gradient to `.grad`, and lets the classifiers learn from the batch.

        Args:
            losses: T scalars, as in GMD.
            outputs: of the modalities that the batch has, [n_m, ...] each, the tensors that the losses came from.
            targets: of the same modalities, [n_m, ...] each: row i is what row i of the output should tell.
            retain_graph: as in `Tensor.backward`: whether the graph is kept for another backward pass, or freed.
            seen: what the classifiers are called with in the place of the outputs, detached, such as the sequences that
                these are the means of.

        `report.modality` has "metric" (NaN where there is none), "balance" (B_m), with rho "factor", and "gradient
        norm", that of the losses together with lam * L_gm. Nothing waits for the device. If a loss or gradient is not
        finite, nothing is learnt here, and nothing should be from `.grad`: look at `report.finite`.
        """
        named = named_losses(losses)
        self._check(outputs, targets, seen)
        verdicts = self.classifiers.judge(outputs, targets, seen)
        state = self.balance.after(self._of_all(verdicts.metrics))
        of_each = dict(zip(self.modalities, self.balance.terms(state), strict=True))
        balance = torch.stack([of_each[m] for m in outputs])
        factors = None if self.rho is None else self.rho * balance

        guided = self._guided(named, verdicts.gradients, balance)
        as_given = guided if isinstance(losses, Mapping) else list(guided.values())
        report = self.surgeon.backward(as_given, outputs=outputs, factors=factors, retain_graph=retain_graph)
        finite = report.finite
        self.classifiers.learn(verdicts.gradients, finite)
        self.balance.state = torch.where(finite, state, self.balance.state)

        modality = report.modality | {"metric": torch.stack(list(verdicts.metrics.values())), "balance": balance}
        modality |= {} if factors is None else {"factor": factors}
        return replace(report, losses=torch.stack([loss.detach() for loss in named.values()]), modality=modality)

    def _check(
        self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], seen: Mapping[str, Any] | None
    ) -> None:
        """Raises an error unless the outputs are of known modalities, and the targets go with them."""
        check_rows(outputs, targets, "targets")
        if unknown := [m for m in outputs if m not in self.modalities]:
            raise ValueError(f"outputs: expected some of {', '.join(self.modalities)}, got {unknown[0]!r}")
        if seen is not None and (absent := [m for m in outputs if m not in seen]):
            raise ValueError(f"seen: expected that of {absent[0]!r} too, got {', '.join(map(repr, seen)) or 'none'}")
        check_outputs(outputs)

    def _of_all(self, metrics: Mapping[str, Tensor]) -> Tensor:
        """Returns the metrics of all modalities, [M] float64, NaN for those that the batch lacks."""
        absent = torch.full_like(self.balance.state[0, 0], torch.nan)
        return torch.stack([metrics.get(m, absent) for m in self.modalities])

    def _guided(
        self, losses: Mapping[Hashable, Tensor], gradients: Mapping[str, Sequence[Tensor]], balance: Tensor
    ) -> dict[Hashable, Tensor]:
        """Returns the losses, each with lam times the loss on its direction."""
        if self.lam is None:
            return dict(losses)
        given = list(losses.values())
        if self.direction == "gradient":
            terms = gradient_losses(given, self.head, self.classifiers.of_heads(gradients), balance)
        else:
            terms = weight_losses(given, self.head, [self.classifiers.heads[m] for m in gradients], balance)
        return {name: losses[name] + self.lam * term for name, term in zip(losses, terms, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """Returns the classifiers, their optimizer, what the balance remembers, and the state of a Surgeon inside."""
        kept = {"classifiers": self.classifiers.state_dict(), "balance": self.balance.state}
        return kept | ({"surgeon": self.surgeon.state_dict()} if isinstance(self.surgeon, Surgeon) else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` has returned."""
        if isinstance(self.surgeon, Surgeon):
            self.surgeon.load_state_dict(state["surgeon"])
        self.classifiers.load_state_dict(state["classifiers"])
        self.balance.state = torch.empty_like(self.balance.state).copy_(state["balance"])
