"""What a step of each method costs beside one of joint training, on the same network: time and memory.

A step with `every` is one of two kinds, which takes weights or keeps them. Both are measured in whole cycles of
`every=8`; a cycle of another length, or of "auto", is put together from the same two.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean, median
from time import perf_counter
from typing import NamedTuple

import torch

from bench.measure import oracle
from bench.measure.auto_interval import CONFLICTING, QUIET, Counted
from bench.measure.autogram import Autogram
from bench.measure.memory import allocated_peak
from bench.measure.step import PUBLISHED, Stopwatch
from bench.measure.step import Step as PublishedStep
from bench.measure.step_names import (
    AUTO_CONFLICTING,
    AUTO_QUIET,
    AUTOGRAM,
    BOTH,
    COMPRESSED,
    DROPOUT,
    ENUMERATE,
    EVERY4,
    EVERY8,
    EXACT,
    JOINT,
    TOL,
)
from bench.measure.step_networks import Objectives, Setup
from gmd.data.pairs import Pairs
from gmd.models.multimodal import MultimodalNetwork
from gmd.surgery import GMD, MeanGradient, Report
from gmd.surgery._passes import Row, gradients_of
from gmd.training.objectives import full_objective, subset_objectives

EVERY = 8
SEED = 0
MOVED = 1.01  # parameters are multiplied with it, so that a step that keeps weights has gradients of its own

TRAININGS = {AUTO_QUIET: QUIET, AUTO_CONFLICTING: CONFLICTING}

Surgeon = GMD | MeanGradient | Autogram
Times = tuple[list[float], list[float]]  # milliseconds of ordinary steps, and of refreshes


class Way(NamedTuple):
    """How a step is computed.

    Attributes:
        make: (run) -> the surgeon.
        objectives: the losses of a step.
        steps: how many are taken one after the other in each round: a whole cycle.
        dropout: whether each sample keeps one subset of its modalities only, in turn all of them.
        intervals: whether steps are of two kinds.
        once: whether only the first round has it, for being slow or a mean over many steps.
        private_sum: whether parameters that some objectives reach only get T times the weights.
        compressed: whether the merged gradient is approximated, up to `TOL`.
    """

    make: Callable[["Run"], Surgeon]
    objectives: Objectives = subset_objectives
    steps: int = 4
    dropout: bool = False
    intervals: bool = False
    once: bool = False
    private_sum: bool = False
    compressed: bool = False


def _mean(run: "Run") -> MeanGradient:
    return MeanGradient(run.optimizer)


def _gmd(run: "Run", every: int = 1, tol: float = 0.0) -> GMD:
    generator = torch.Generator().manual_seed(SEED)
    return GMD(run.optimizer, generator=generator, every=every, tol=tol, by_sample=run.setup.by_sample)


_OF_GMD = Way(_gmd, steps=1, private_sum=True)
WAYS = {
    JOINT: Way(_mean, full_objective),
    DROPOUT: Way(_mean, full_objective, steps=15, dropout=True, once=True),
    ENUMERATE: Way(_mean),
    EXACT: _OF_GMD,
    EVERY8: _OF_GMD._replace(make=partial(_gmd, every=EVERY), steps=EVERY, intervals=True),
    COMPRESSED: _OF_GMD._replace(make=partial(_gmd, tol=TOL), compressed=True),
    BOTH: _OF_GMD._replace(make=partial(_gmd, every=EVERY, tol=TOL), steps=EVERY, intervals=True),
    AUTOGRAM: Way(lambda run: Autogram(run.network), steps=1, once=True),
}
# rows in their order, and the way whose steps each is made of
MEASURED = {
    PUBLISHED: PUBLISHED,
    **{name: name for name in (JOINT, DROPOUT, ENUMERATE, EXACT)},
    EVERY4: EVERY8,
    EVERY8: EVERY8,
    AUTO_QUIET: EVERY8,
    AUTO_CONFLICTING: EVERY8,
    **{name: name for name in (COMPRESSED, BOTH, AUTOGRAM)},
}
TOLERANCE, TOLERANCE_BFLOAT16 = 1e-4, 5e-2  # of a merged gradient and a Gramian, relative
COMPRESSED_TOLERANCE = 3 * TOL  # of the same where they are approximated


@dataclass
class Run:
    """One way's network with its optimizer and surgeon: copies, which change."""

    setup: Setup
    way: Way
    turn: int = 0
    network: MultimodalNetwork = field(init=False)
    surgeon: Surgeon = field(init=False)

    def __post_init__(self):
        self.network = copy.deepcopy(self.setup.network)
        self.params = list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(self.params, lr=1e-4)
        self.restart()

    def restart(self) -> None:
        """Forgets the weights that were taken."""
        self.surgeon = self.way.make(self)

    @property
    def inputs(self) -> Pairs:
        return self.setup.dropped(self.turn) if self.way.dropout else self.setup.inputs

    def backward(self) -> Report:
        """Goes forward and backward: leaves the step's gradient in `.grad`."""
        outputs, losses = self.setup.losses(self.network, self.inputs, self.way.objectives)
        self.optimizer.zero_grad()
        return self.surgeon.backward(losses, outputs)

    def step(self) -> tuple[float, bool]:
        """Takes a whole step. Returns its milliseconds, and whether weights were taken apart from other steps."""
        start = perf_counter()
        report = self.backward()
        self.optimizer.step()
        taken = 1e3 * (perf_counter() - start)
        self.turn += 1
        return taken, self.way.intervals and report.refreshed


def measure_step_methods(
    setup: Setup, rounds: int, counted: Mapping[str, Counted], on_round: Callable[[], object]
) -> list[dict]:
    """Returns a row for each way; errors instead of times if a merged gradient or a Gramian is wrong.

    Args:
        setup: the network and what it is trained on.
        rounds: in each, all ways take turns.
        counted: how many refreshes "auto" made, by the name of the row.
        on_round: is called after each.
    """
    runs = {name: Run(setup, way) for name, way in WAYS.items()}
    rows = _check(setup, runs)
    right = {name: run for name, run in runs.items() if not rows[name]["error"] + rows[name]["cannot"]}
    times = _times(right, rounds, on_round)
    if setup.published is not None:
        rows[PUBLISHED], times[PUBLISHED] = _published(setup.published, rows[JOINT])
    timed = [rows[of] | _costs(name, times[of], counted.get(name)) for name, of in MEASURED.items() if of in times]
    return [*_compared(timed), *(row for name, row in rows.items() if name not in times)]


def _times(runs: Mapping[str, Run], rounds: int, on_round: Callable[[], object]) -> dict[str, Times]:
    """Takes the steps of all ways, in turns: drift of the machine hits all alike."""
    times: dict[str, Times] = {name: ([], []) for name in runs}
    for turn in range(rounds):
        for name, run in runs.items():
            for _ in range(run.way.steps if turn == 0 or not run.way.once else 0):
                taken, refreshed = run.step()
                times[name][refreshed].append(taken)
        on_round()
    return times


def _costs(name: str, times: Times, counted: Counted | None) -> dict:
    """Returns the columns of a row: the time of a step in the mean over a cycle, and of each of its kinds."""
    ordinary, refreshes = times
    usual = fmean(ordinary) if name == DROPOUT else median(ordinary)
    row = {"contestant": name, "median_ms": usual, "ordinary_ms": usual, "calls": len(ordinary) + len(refreshes)}
    if not refreshes:
        return row
    share, refresh = 1 / (4 if name == EVERY4 else EVERY), median(refreshes)
    if counted is not None:
        share = counted.refreshes / counted.steps
        row |= {"counted_steps": counted.steps, "counted_conflicts": counted.conflicts}
    return row | {
        "median_ms": share * refresh + (1 - share) * usual,
        "refresh_ms": refresh,
        "refreshes": share,
    }


def _compared(rows: list[dict]) -> list[dict]:
    """Returns the rows with their times beside joint's, and the memory of an ordinary step beside enumerate's."""
    by_name = {row["contestant"]: row for row in rows}
    if not {JOINT, ENUMERATE} <= by_name.keys():
        return rows
    joint, enumerate_ = by_name[JOINT]["median_ms"], by_name[ENUMERATE]["ordinary_MB"]
    return [
        row | {"of_joint": row["median_ms"] / joint, "memory_of_enumerate": row["ordinary_MB"] / enumerate_}
        for row in rows
    ]


def _published(step: PublishedStep, like: dict) -> tuple[dict, Times]:
    """Returns the row and the time of one step of the published procedure, whose values `bench.measure.step` checks."""
    peak = allocated_peak(partial(step.run, Stopwatch()))
    watch = Stopwatch()
    step.run(watch)
    told = {key: like[key] for key in ("case", "T", "N", "conflicts", "cannot", "error")}
    return told | {"contestant": PUBLISHED, "ordinary_MB": peak}, ([sum(watch.laps.values())], [])


# ---- values before times ----


def _check(setup: Setup, runs: Mapping[str, Run]) -> dict[str, dict]:
    """Returns a row for each way: memory, and how far its gradients and Gramian are from the float64 ones.

    Ways of two kinds of step are judged at a refresh, and at the step after it, whose gradients are others.
    """
    expected = _gradients(setup, runs[ENUMERATE])
    rows = {name: _row(setup, name, run, expected) | _first(run, expected) for name, run in runs.items()}
    for run in runs.values():
        with torch.no_grad():
            for param in run.params:
                param.mul_(MOVED)
    expected = _gradients(setup, runs[ENUMERATE])
    for name, run in runs.items():
        if run.way.intervals:
            rows[name] = _with_second(rows[name], run, expected)
    for run in runs.values():
        if any(param.grad is not None for param in run.params):  # not where it could not be run
            run.optimizer.step()  # makes the optimizer's state
        run.restart()
    return rows


def _row(setup: Setup, name: str, run: Run, expected: Sequence[Row]) -> dict:
    return {
        "case": setup.case,
        "contestant": name,
        "T": len(expected),
        "N": sum(p.numel() for p in run.params),
        "conflicts": oracle.conflict_rate(oracle.exact_gram(expected)),
        "cannot": "",
        "error": "",
    }


def _first(run: Run, expected: Sequence[Row]) -> dict:
    """Returns the columns that the first step tells: of a refresh, where there are other steps too."""
    if not isinstance(run.surgeon, Autogram):
        return _judged(run, expected, "refresh" if run.way.intervals else "ordinary")
    try:
        return _judged(run, expected, "ordinary")
    except (RuntimeError, NotImplementedError, ValueError) as error:  # what torch.vmap has no rule for
        return {"cannot": " ".join(str(error).split())[:200]}


def _with_second(row: dict, run: Run, expected: Sequence[Row]) -> dict:
    """Returns a row with what the step after a refresh tells."""
    told = _judged(run, expected, "ordinary")
    worst = {column: max(row[column], told[column]) for column in ("value_error", "gram_error")}
    return row | told | worst | {"error": row["error"] or told["error"]}


def _judged(run: Run, expected: Sequence[Row], kind: str) -> dict:
    """Makes one backward pass, and returns what it took and how far it is from the float64 combination."""
    reports: list[Report] = []
    run.optimizer.zero_grad()  # so that its gradients are memory of this step
    peak = allocated_peak(lambda: reports.append(run.backward()))
    [report] = reports
    if run.way.objectives is full_objective:
        expected = _gradients(run.setup, run)
    distance, of_gram = _distance(run, report, expected), _gram_distance(run, report, expected, kind)
    allowed = TOLERANCE_BFLOAT16 if run.setup.bfloat16 else TOLERANCE
    of_merged = max(allowed, COMPRESSED_TOLERANCE) if run.way.compressed else allowed
    of_weights = max(allowed, COMPRESSED_TOLERANCE) if isinstance(run.surgeon, GMD) and run.surgeon.tol else allowed
    wrong = [] if distance <= of_merged else [f"merged gradient differs by {distance:.1e}"]  # NaN is wrong too
    wrong += [] if of_gram <= of_weights else [f"Gramian differs by {of_gram:.1e}"]
    return {f"{kind}_MB": peak, "value_error": distance, "gram_error": of_gram, "error": ", ".join(wrong)}


def _gradients(setup: Setup, run: Run) -> list[Row]:
    """Returns the gradient of each loss by itself, at a way's parameters and for its inputs."""
    _, losses = setup.losses(run.network, run.inputs, run.way.objectives)
    return gradients_of(losses, run.params)


def _distance(run: Run, report: Report, expected: Sequence[Row]) -> float:
    """Returns the relative distance of `.grad` from the combination with the report's weights, in float64."""
    t = len(expected)
    weights = report.weights if len(report.weights) == t else torch.full((t,), 1 / t, dtype=torch.float64)
    reached = [sum(g is not None for g in column) for column in zip(*expected, strict=True)]
    factors = [t if run.way.private_sum and 0 < count < t else 1 for count in reached]
    combined = oracle.exact_merge(expected, torch.stack([factor * weights for factor in factors]))
    error, norm = torch.zeros(2, dtype=torch.float64)
    for param, exact, count in zip(run.params, combined, reached, strict=True):
        if count:
            error += ((exact if param.grad is None else param.grad - exact) ** 2).sum()
            norm += (exact**2).sum()
    return float((error / norm).sqrt())


def _gram_distance(run: Run, report: Report, expected: Sequence[Row], kind: str) -> float:
    """Returns how far a step's Gramian is from the exact one; 0 where it has none of its own.

    TorchJD's is compared with that of the parameters it sees.
    """
    if isinstance(run.surgeon, MeanGradient) or (run.way.intervals and kind == "ordinary"):
        return 0.0
    seen = {id(p) for p in (run.surgeon.seen if isinstance(run.surgeon, Autogram) else run.params)}
    rows = [[g for g, p in zip(row, run.params, strict=True) if id(p) in seen] for row in expected]
    return oracle.gram_error(report.gram, oracle.exact_gram(rows))
