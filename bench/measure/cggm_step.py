"""What CGGM adds to a step of joint training, in time and memory: the late-fusion transformer, one objective."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from bench.measure.sequence_step import PHASES
from bench.measure.sequences import BATCH, LENGTH, full_loss, make_batch, make_network
from bench.measure.step import Stopwatch
from bench.measure.timing import summary
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.late_fusion import LateFusionTransformer
from gmd.models.sequences.network import SequenceNetwork
from gmd.surgery import CGGM, MeanGradient, Report
from gmd.training.tasks.criteria import absolute_error, negative_error

JOINT, MAGNITUDE, WHOLE = "joint", "cggm, magnitude", "cggm"
WAYS = {JOINT: None, MAGNITUDE: {"lam": None}, WHOLE: {}}  # what CGGM is given
TOLERANCE = 1e-5  # of the encoders' gradients


@dataclass
class Step:
    """A network with its optimizer, and a batch of sequences that have all modalities. Equal arguments, equal steps."""

    way: str
    width: int
    layers: int
    network: SequenceNetwork = field(init=False)

    def __post_init__(self):
        self.network = make_network(LateFusionTransformer, self.width, self.layers)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)
        self.inputs, self.scores = make_batch(seed=1)
        self.surgeon, self.given = MeanGradient(self.optimizer), {}
        if (options := WAYS[self.way]) is not None:
            torch.manual_seed(0)  # of the classifiers' weights
            network = self.network
            self.surgeon = CGGM(
                self.optimizer, network.head, absolute_error, negative_error, network.modalities, **options
            )
            self.given = {"targets": dict.fromkeys(network.modalities, self.scores)}

    def run(self, watch: Stopwatch) -> Report:
        outputs = run_modalities(self.network, self.inputs)
        losses = full_loss(self.network, outputs, self.scores)
        watch.lap("forward")
        self.optimizer.zero_grad()
        report = self.surgeon.backward(losses, outputs=outputs.values, **self.given)
        watch.lap("gradients")
        self.optimizer.step()
        watch.lap("optimizer")
        return report

    def held_megabytes(self) -> float:
        """What stays between steps beyond joint's: the classifiers, their optimizer's state, the balance's."""
        state = self.surgeon.state_dict() if isinstance(self.surgeon, CGGM) else {}
        return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(state)) / 1e6


def _tensors(state: object) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _tensors(part)


def measure_cggm(width: int, layers: int, rounds: int, on_round: Callable[[], object]) -> list[dict]:
    """A row for each way and phase ("total" among them); errors instead of times if the gradients are not joint's,
    modulated."""
    steps = {name: Step(name, width, layers) for name in WAYS}
    reports = {name: step.run(Stopwatch()) for name, step in steps.items()}
    rows = [_described(step, reports[name], steps[JOINT]) for name, step in steps.items()]
    if any(row["error"] for row in rows):
        return rows
    peaks = {name: allocated_peak(partial(step.run, Stopwatch())) for name, step in steps.items()}
    laps = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, step in steps.items():
            watch = Stopwatch()
            step.run(watch)
            laps[name].append(watch.laps | {"total": sum(watch.laps.values())})
        on_round()
    extra = {name: step.held_megabytes() + max(0.0, peaks[name] - peaks[JOINT]) for name, step in steps.items()}
    timed = [
        row | {"phase": phase, "extra_MB": extra[name]} | summary([lap[phase] for lap in laps[name]])
        for name, row in zip(steps, rows, strict=True)
        for phase in (*PHASES, "total")
    ]
    joint = {row["phase"]: row["median_ms"] for row in timed if row["contestant"] == JOINT}
    return [row | {"overhead": row["median_ms"] / joint[row["phase"]] - 1} for row in timed]


def _described(step: Step, report: Report, joint: Step) -> dict:
    """A row of what does not change."""
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
    """After a step of each: the largest, over the modalities, of |g - factor * joint's g| / |factor * joint's g|, g the
    gradient of the modality's encoder.

    The loss on the direction reaches the encoders too, by as much as it is weighed; then only whether g is finite.
    """
    errors = []
    for m, factor in enumerate(report.modality.get("factor", torch.ones(len(step.network.modalities))).tolist()):
        ours, theirs = (_gradient(one.network.encoders[m]) for one in (step, joint))
        error = (ours - factor * theirs).norm() / (factor * theirs).norm()
        errors.append(float(error.new_zeros(()) if step.way == WHOLE and error.isfinite() else error))
    return max(errors)


def _gradient(module: nn.Module) -> Tensor:
    return torch.cat([param.grad.flatten() for param in module.parameters()])


def allocated_peak(call: Callable[[], object]) -> float:
    """MB that torch has allocated at most during the call, beyond those it had before: every allocation is counted.

    Resident memory, as bench.measure.timing takes it, also has what malloc keeps for later, megabytes of chance.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(held, default=0) / 1e6
