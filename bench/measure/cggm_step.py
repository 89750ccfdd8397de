"""What CGGM adds to a step of joint training, in time and memory: the late-fusion transformer, one objective."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from bench.measure.memory import allocated_peak
from bench.measure.phases import time_phases
from bench.measure.sequences import BATCH, LENGTH, full_loss, make_batch, make_network, tensors_of
from bench.measure.step import Stopwatch
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.late_fusion import LateFusionTransformer
from gmd.surgery import CGGM, MeanGradient, Report
from gmd.training.tasks.criteria import absolute_error, negative_error

JOINT, MAGNITUDE, WHOLE = "joint", "cggm, magnitude", "cggm"
WAYS = (JOINT, MAGNITUDE, WHOLE)
TOLERANCE = 1e-5  # of the encoders' gradients, relative


@dataclass
class Step:
    """A network with its optimizer, and a batch of sequences that have all modalities.

    Equal arguments make equal steps.
    """

    way: str
    width: int
    layers: int
    network: LateFusionTransformer = field(init=False)

    def __post_init__(self):
        self.network = make_network(LateFusionTransformer, self.width, self.layers)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        self.inputs, self.scores = make_batch(seed=1)
        self.surgeon = self._make_surgeon()

    def _make_surgeon(self) -> MeanGradient | CGGM:
        if self.way == JOINT:
            return MeanGradient(self.optimizer)
        torch.manual_seed(0)  # of the classifiers' weights
        head, modalities = self.network.head, self.network.modalities
        cggm = partial(CGGM, self.optimizer, head, absolute_error, negative_error, modalities)
        return cggm(lam=None) if self.way == MAGNITUDE else cggm()

    def run(self, watch: Stopwatch) -> Report:
        """Takes one training step, with a lap of the watch at the end of each phase."""
        outputs = run_modalities(self.network, self.inputs)
        losses = full_loss(self.network, outputs, self.scores)
        watch.lap("forward")
        self.optimizer.zero_grad()
        if isinstance(self.surgeon, CGGM):
            targets = dict.fromkeys(self.network.modalities, self.scores)
            report = self.surgeon.backward(losses, tensors_of(outputs), targets)
        else:
            report = self.surgeon.backward(losses, tensors_of(outputs))
        watch.lap("gradients")
        self.optimizer.step()
        watch.lap("optimizer")
        return report

    def held_megabytes(self) -> float:
        """Returns the MB held between steps beyond joint's: classifiers, their optimizer's state, the balance's."""
        state: dict[str, object] = self.surgeon.state_dict() if isinstance(self.surgeon, CGGM) else {}
        return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(state)) / 1e6


def _tensors(state: object) -> Iterator[Tensor]:
    """Yields all tensors in nested dicts and lists."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _tensors(part)


def measure_cggm(width: int, layers: int, rounds: int, on_round: Callable[[], object]) -> list[dict]:
    """Returns a row for each way and phase ("total" among them).

    There are errors instead of times if a way's gradients are not joint's, modulated.
    """
    steps = {name: Step(name, width, layers) for name in WAYS}
    reports = {name: step.run(Stopwatch()) for name, step in steps.items()}
    rows = [_described(step, reports[name], steps[JOINT]) for name, step in steps.items()]
    if any(row["error"] for row in rows):
        return rows
    peaks = {name: allocated_peak(partial(step.run, Stopwatch())) for name, step in steps.items()}
    times = time_phases(steps, rounds, on_round)
    extra = {name: step.held_megabytes() + max(0.0, peaks[name] - peaks[JOINT]) for name, step in steps.items()}
    return [timed for row in rows for timed in _timed(row, extra[row["contestant"]], times)]


def _timed(row: dict, extra: float, times: Mapping[str, Mapping[str, dict[str, float]]]) -> Iterator[dict]:
    """Yields a way's row once more for each phase, with its times beside joint's."""
    joint = times[JOINT]
    for phase, taken in times[row["contestant"]].items():
        overhead = taken["median_ms"] / joint[phase]["median_ms"] - 1
        yield row | {"phase": phase, "extra_MB": extra, **taken, "overhead": overhead}


def _described(step: Step, report: Report, joint: Step) -> dict:
    """Returns the columns of a way that do not change from step to step, and whether its gradients are right."""
    distance = modulation_error(step, report, joint)
    wrong = not distance <= TOLERANCE  # NaN is wrong too
    return {
        "case": f"width {step.width}, {step.layers} layers",
        "contestant": step.way,
        "width": step.width,
        "layers": step.layers,
        "batch": BATCH,
        "length": LENGTH,
        "N": sum(p.numel() for p in step.network.parameters()),
        "held_MB": step.held_megabytes(),
        "value_error": distance,
        "error": f"a modality's gradient is off by {distance:.1e}" if wrong else "",
    }


def modulation_error(step: Step, report: Report, joint: Step) -> float:
    """Returns how far a way's gradients are from joint's, modulated, after a step of each.

    It is the largest, over the modalities, of |g - factor * joint's g| / |factor * joint's g|, where g is the gradient
    of the modality's encoder. The loss on the direction reaches the encoders too, by as much as it is weighed: with
    it, the error is 0 if every g is finite.
    """
    errors = []
    for m, factor in enumerate(report.modality.get("factor", torch.ones(len(step.network.modalities))).tolist()):
        ours, theirs = (_gradient(one.network.encoders[m]) for one in (step, joint))
        error = (ours - factor * theirs).norm() / (factor * theirs).norm()
        errors.append(float(error.new_zeros(()) if step.way == WHOLE and error.isfinite() else error))
    return max(errors)


def _gradient(module: nn.Module) -> Tensor:
    """Returns the gradients of all parameters of a module that has had a backward pass: [N]."""
    gradients = []
    for param in module.parameters():
        assert param.grad is not None
        gradients.append(param.grad.flatten())
    return torch.cat(gradients)
