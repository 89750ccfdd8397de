"""QMF: quality-aware multimodal fusion (Zhang et al., ICML 2023), its losses on how sure each modality may be."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gmd.surgery._delivery import check_one_process
from gmd.surgery._losses import check_losses, check_outputs, check_rows
from gmd.surgery._modes import ordinary_modes
from gmd.surgery._optimizers import Optimizers, check_same, optimizers_of, parameters_of
from gmd.surgery.mean import MeanGradient
from gmd.surgery.report import Report


class QMF:
    """Teaches each modality to be the surer of a sample the more easily it has learnt that sample.

    The gradient is that of the sum of the losses and, for each modality, of a ranking loss over the pairs of samples
    that follow each other in the batch, the last one and the first among them:

        mean over the pairs of max(0, s (c_i - c_j) + |h_i - h_j|),        s = sign(h_i - h_j)

    with c the confidences of the two, and h the sum of this modality's losses of the sample so far, scaled to [0, 1]
    over all samples of the training set. The sample that has had the smaller losses is to be surer, by that difference.
    The loss is that of Moon et al. (ICML 2020) on losses in the place of correct answers. The published code of QMF
    subtracts the difference, so that a pair in the wrong order by less than it costs nothing.

    Args:
        optimizer: any torch optimizer but LBFGS, or a list of them, as in GMD.
        modalities: names of all there are.
        samples: how many the training set has.
        surgeon: a MeanGradient of the same optimizer, with a scaler maybe; by default one without.

    Attributes:
        history: [M, samples] float64, the sums of each sample's losses, 0 for those not seen yet.
    """

    def __init__(
        self, optimizer: Optimizers, modalities: Sequence[str], samples: int, surgeon: MeanGradient | None = None
    ):
        if samples < 1:
            raise ValueError(f"samples: expected at least one, got {samples}")
        check_one_process("QMF", "each would have a history of its own samples")
        self.surgeon = MeanGradient(optimizer) if surgeon is None else surgeon
        check_same(optimizers_of(optimizer), self.surgeon.optimizers)
        self.optimizer = optimizer
        self.modalities = tuple(modalities)
        device = next(iter(parameters_of(self.surgeon.optimizers))).device
        self.history = torch.zeros(len(self.modalities), samples, dtype=torch.float64, device=device)

    @ordinary_modes()
    def backward(
        self,
        losses: Sequence[Tensor],
        outputs: Mapping[str, Tensor],
        confidences: Mapping[str, Tensor],
        sample_losses: Mapping[str, Tensor],
        samples: Mapping[str, Sequence[int]],
        retain_graph: bool = False,
    ) -> Report:
        """Adds the gradient of the sum of the losses and the ranking losses to `.grad`.

        Args:
            losses: T scalars; published one of each modality alone, and one of their fusion by confidence.
            outputs: of the modalities that the batch has, [n_m, ...] each, the tensors that the losses came from.
            confidences: of the same modalities, [n_m] each, with a graph; published log sum exp of the logits / 10.
            sample_losses: of the same modalities, [n_m] each, the loss of each sample by this modality alone.
            samples: of the same modalities, n_m numbers each: which samples of the training set these are.
            retain_graph: as in `Tensor.backward`: whether the graph is kept for another backward pass, or freed.

        `report.modality` has "confidence", the mean of each modality's, and "ranking", its loss. If a loss or gradient
        is not finite, the history stays as it is. Nothing waits for the device.
        """
        given = check_losses(losses)
        for what, rows in (("confidences", confidences), ("sample_losses", sample_losses), ("samples", samples)):
            check_rows(outputs, rows, what)
        check_outputs(outputs)
        _check_of_samples(confidences, "confidences")
        _check_of_samples(sample_losses, "sample_losses")
        self._check(outputs, samples)
        history = self._history_after({m: sample_losses[m] for m in outputs}, samples)
        rankings = [ranking_loss(confidences[m], self._scaled(history, m)[list(samples[m])]) for m in outputs]
        total = torch.stack([*given, *rankings]).sum()
        report = self.surgeon.backward([total], outputs, retain_graph=retain_graph)
        self.history = torch.where(report.finite, history, self.history)
        told = {"confidence": torch.stack([confidences[m].detach().mean() for m in outputs])}
        told |= {"ranking": torch.stack(rankings).detach()}
        values = torch.stack([loss.detach() for loss in given])
        return replace(report, losses=values, modality=report.modality | told)

    def _check(self, outputs: Mapping[str, Tensor], samples: Mapping[str, Sequence[int]]) -> None:
        """Raises a ValueError unless the modalities are known, and the samples are ones of the training set."""
        if unknown := [m for m in outputs if m not in self.modalities]:
            raise ValueError(f"outputs: expected some of {', '.join(self.modalities)}, got {unknown[0]!r}")
        most = self.history.shape[1]
        for m in outputs:
            given = list(samples[m])
            if not all(0 <= number < most for number in given) or len(set(given)) < len(given):
                raise ValueError(f"samples[{m!r}]: expected different numbers from 0 to {most - 1}, got {given}")

    def _history_after(self, losses: Mapping[str, Tensor], samples: Mapping[str, Sequence[int]]) -> Tensor:
        """Returns the sums with the losses of a batch added."""
        history = self.history.clone()
        for m, of_samples in losses.items():
            history[self.modalities.index(m), list(samples[m])] += of_samples.detach().to(history)
        return history

    def _scaled(self, history: Tensor, modality: str) -> Tensor:
        """Returns a modality's sums of losses from 0, the smallest of all samples, to 1; all 0 where they are equal."""
        row = history[self.modalities.index(modality)]
        span = row.max() - row.min()
        return (row - row.min()) / torch.where(span > 0, span, 1.0)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns a copy of the history, {"history": [M, samples]}."""
        return {"history": self.history.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` has returned; a ValueError if it is of other modalities or samples."""
        history = state["history"]
        if history.shape != self.history.shape:
            raise ValueError(f"history: expected {list(self.history.shape)}, got {list(history.shape)}")
        self.history.copy_(history)


def _check_of_samples(values: Mapping[str, Tensor], what: str) -> None:
    """Raises a ValueError unless there is one number for each sample: others would be broadcast to all pairs."""
    for m, of_one in values.items():
        if of_one.ndim != 1:
            raise ValueError(f"{what}[{m!r}]: expected one number for each sample, [n], got {list(of_one.shape)}")


def ranking_loss(confidences: Tensor, hardness: Tensor) -> Tensor:
    """Returns the mean over the pairs (i, i + 1), around the end, of max(0, s (c_i - c_i+1) + |h_i - h_i+1|).

    Args:
        confidences: c [n] floating, n at least 1.
        hardness: h [n], how large the losses of the samples were; s is the sign of h_i - h_i+1.
    """
    difference = (hardness - hardness.roll(-1)).to(confidences)
    apart = confidences - confidences.roll(-1)
    return (difference.sign() * apart + difference.abs()).clamp(min=0).mean()
