"""A whole training step on the transformer of Dynamic Sharing: ours beside the published procedure, T = 7.

Every way starts from one network that has been trained for a while, as in bench.measure.step, and takes the same batch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

import gmd_kernels as gk
from bench.measure import oracle
from bench.measure.peers import published
from bench.measure.sequences import BATCH, LENGTH, make_batch, make_network, subset_losses
from bench.measure.step import Stopwatch
from bench.measure.timing import summary, with_peak_memory
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.network import SequenceNetwork
from gmd.models.sequences.shared_transformer import SharedTransformer
from gmd.subsets import all_subsets
from gmd.surgery import GMD, MeanGradient
from gmd.surgery.passes import gradients_of
from gmd.training.tasks.criteria import absolute_error

PHASES = ("forward", "gradients", "optimizer")
SEED = 0
TOL = 0.1


class Way(NamedTuple):
    """How a step is computed; without `surgeon` as published.

    Attributes:
        surgeon: (optimizer, generator) -> GMD or MeanGradient
        outputs: whether its backward pass is told the modalities' outputs
        tolerance: of the merged gradient's relative distance from the published way's, or of the mean gradient's from
            the mean of the published way's gradients, in norm, over the parameters that all modalities share
    """

    surgeon: Callable | None
    outputs: bool
    tolerance: float


def _gmd(optimizer: torch.optim.Optimizer, generator: torch.Generator, **options: object) -> GMD:
    return GMD(optimizer, generator=generator, **options)


PUBLISHED, MEAN, PLAIN, EXACT, BY_SAMPLE, COMPRESSED = (
    "published",
    "mean of the losses",
    "exact without outputs",
    "exact",
    "exact by sample",
    f"compressed to {TOL}",
)
WAYS = {
    PUBLISHED: Way(None, False, 0.0),
    MEAN: Way(lambda optimizer, generator: MeanGradient(optimizer), False, 1e-3),
    PLAIN: Way(_gmd, False, 1e-3),
    EXACT: Way(_gmd, True, 1e-3),
    BY_SAMPLE: Way(partial(_gmd, by_sample=True), True, 1e-3),
    COMPRESSED: Way(partial(_gmd, tol=TOL), True, 3 * TOL),
}


@dataclass
class Step:
    """A network with its optimizer, and a batch of sequences that have all modalities. Equal arguments, equal steps."""

    way: str
    width: int
    layers: int
    network: SequenceNetwork = field(init=False)

    def __post_init__(self):
        self.network = make_network(SharedTransformer, self.width, self.layers)
        self.params = list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(self.params, lr=1e-4)
        self.inputs, self.scores = make_batch(seed=1)
        self.generator = torch.Generator().manual_seed(SEED)  # of the projection orders, one a step
        make = WAYS[self.way].surgeon
        self.surgeon = make and make(self.optimizer, self.generator)

    def run(self, watch: Stopwatch) -> "StepResult":
        return (published_step if self.surgeon is None else our_step)(self, watch)


class StepResult(NamedTuple):
    merged: list[Tensor]  # [P]
    passes: int  # through the path of one modality
    rows: list | None = None  # [T][P], the published way's
    discarded: float = 0.0


def our_step(step: Step, watch: Stopwatch) -> StepResult:
    """As a user of `gmd.GMD`, or of the mean of the losses, writes it."""
    outputs = run_modalities(step.network, step.inputs)
    losses = subset_losses(step.network, outputs, step.scores)
    watch.lap("forward")
    step.optimizer.zero_grad()
    report = step.surgeon.backward(losses, outputs=outputs.values if WAYS[step.way].outputs else None)
    watch.lap("gradients")
    merged = [p.grad for p in step.params]
    step.optimizer.step()
    watch.lap("optimizer")
    one_pass = len(step.network.modalities) if step.way == MEAN else sum(map(len, all_subsets(step.network.modalities)))
    discarded = 0.0 if report.discarded is None else float(report.discarded.max())
    return StepResult(merged, sum(report.directions or [one_pass]), discarded=discarded)


def published_step(step: Step, watch: Stopwatch) -> StepResult:
    """Every modality through the network; each subset's loss masks the outputs of those that are absent.

    So every backward pass goes through the paths of all modalities, and the private parameters of an absent modality
    get zeros instead of no gradient.
    """
    network, modalities = step.network, step.network.modalities
    outputs = torch.stack([network(step.inputs.values[m], k) for k, m in enumerate(modalities)])
    masks = [[m in subset for m in modalities] for subset in all_subsets(modalities)]
    losses = [absolute_error(network.head(outputs[mask].mean(dim=0)), step.scores) for mask in masks]
    watch.lap("forward")
    rows = gradients_of(losses, step.params)
    merged = published(rows, gk.projection_order(len(losses), step.generator))
    for param, gradient in zip(step.params, merged, strict=True):
        param.grad = gradient
    watch.lap("gradients")
    step.optimizer.step()
    watch.lap("optimizer")
    return StepResult(merged, len(losses) * len(modalities), rows)


def measure_sequence_step(width: int, layers: int, rounds: int, on_round: Callable[[], object]) -> list[dict]:
    """A row for each way and phase ("total" among them); errors instead of times if the gradients differ."""
    steps = {name: Step(name, width, layers) for name in WAYS}
    rows = _check(steps)
    if any(row["error"] for row in rows):
        return rows
    laps = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, step in steps.items():
            watch = Stopwatch()
            step.run(watch)
            laps[name].append(watch.laps | {"total": sum(watch.laps.values())})
        on_round()
    timed = [
        row | {"phase": phase} | summary([lap[phase] for lap in laps[row["contestant"]]])
        for row in rows
        for phase in (*PHASES, "total")
    ]
    theirs = {row["phase"]: row["median_ms"] for row in timed if row["contestant"] == PUBLISHED}
    return [row | {"times_faster": theirs[row["phase"]] / row["median_ms"]} for row in timed]


def _check(steps: dict[str, Step]) -> list[dict]:
    """The first step of each: memory, and how far its gradients are from the published. A row for each way."""
    results, memory = {}, {}
    for name, step in steps.items():
        results[name], memory[name] = with_peak_memory(partial(step.run, Stopwatch()))
    theirs = results[PUBLISHED]
    gram = oracle.exact_gram(theirs.rows)
    mean = [torch.stack(column).mean(dim=0) for column in zip(*theirs.rows, strict=True)]
    rows = []
    for name, result in results.items():
        network = steps[name].network
        distance = shared_difference(network, result.merged, mean if name == MEAN else theirs.merged)
        wrong = not distance <= WAYS[name].tolerance
        rows.append(
            {
                "case": f"width {steps[name].width}, {steps[name].layers} layers",
                "contestant": name,
                "width": steps[name].width,
                "layers": steps[name].layers,
                "batch": BATCH,
                "length": LENGTH,
                "T": len(gram),
                "N": sum(p.numel() for p in steps[name].params),
                "tensors": len(steps[name].params),
                "conflicts": oracle.conflict_rate(gram),
                "passes": result.passes,
                "discarded": result.discarded,
                "value_error": distance,
                "error": f"merged gradient differs by {distance:.1e}" if wrong else "",
                "peak_extra_MB": memory[name],
            }
        )
    return rows


def shared_difference(network: SequenceNetwork, ours: list[Tensor], theirs: list[Tensor]) -> float:
    """|ours - theirs| / |theirs| over the parameters that all modalities share.

    The projections and the norms' affines differ by design: the published way takes zeros for gradients, so it divides
    their sum by T.
    """
    shared = [not name.startswith("inputs.") and "norm" not in name for name, _ in network.named_parameters()]
    pairs = [(a, b) for a, b, is_shared in zip(ours, theirs, shared, strict=True) if is_shared]
    of_all = lambda tensors: torch.stack([tensor.norm() for tensor in tensors]).norm()  # noqa: E731
    return float(of_all([a - b for a, b in pairs]) / of_all([b for _, b in pairs]))
