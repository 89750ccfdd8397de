"""Weightings alone, from Gramian to weights: ours beside TorchJD's of the same name; values first, then time."""

import inspect
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

import gmd_kernels as gk
from bench.measure.contestant import Contestant, Work
from bench.measure.timing import interleaved, summary

try:
    from torchjd import aggregation as jd

    NO_TORCHJD = None
except ModuleNotFoundError as error:  # on a machine without a network: ours are measured all the same
    NO_TORCHJD = f"torchjd is not installed: {error}"

OURS, TORCHJD = "ours", "TorchJD"
SIZES = (4, 7, 15, 31, 63)  # objectives
GRAMIANS = 5  # take turns, so that no call is the one before it
AT_RANDOM = ("pcgrad", "gradvac", "random")  # draw an order, or the weights: nobody's is another's

# Relative, of the merged gradients. TorchJD regularises UPGrad and DualProj by 1e-4, and takes a hundred Frank-Wolfe
# steps for MGDA and twenty convex programs for Nash-MTL, which is not enough from T = 31 on;
# tests/kernels/test_weightings_torchjd.py compares more closely.
TOLERANCE, TOLERANCES = 2e-2, {"mgda": 0.5, "nash_mtl": 0.5}

# Makes the weighting of T objectives as TorchJD has it; those of MATRIX take the gradients, [T, N], not the Gramian.
THEIRS: dict[str, Callable[[int], Any]] = {
    "mean": lambda _: jd.MeanWeighting(),
    "sum": lambda _: jd.SumWeighting(),
    "random": lambda _: jd.RandomWeighting(),
    "constant": lambda t: jd.ConstantWeighting(torch.ones(t, dtype=torch.float64)),
    "pcgrad": lambda _: jd.PCGradWeighting(),
    "gradvac": lambda _: jd.GradVacWeighting(beta=0.01),
    "mgda": lambda _: jd.MGDAWeighting(),
    "cagrad": lambda _: jd.CAGradWeighting(c=0.4),
    "nash_mtl": lambda t: jd.NashMTL(n_tasks=t, max_norm=0.0).weighting,
    "fairgrad": lambda _: jd.FairGradWeighting(alpha=1.0),
    "imtl_g": lambda _: jd.IMTLGWeighting(),
    "aligned_mtl": lambda _: jd.AlignedMTLWeighting(),
    "upgrad": lambda _: jd.UPGradWeighting(),
    "dualproj": lambda _: jd.DualProjWeighting(),
    "pcd": lambda _: jd.PCDWeighting(),
    "krum": lambda _: jd.KrumWeighting(n_byzantine=1),
}
MATRIX = ("nash_mtl",)


def names() -> list[str]:
    """Returns the names of all weightings of the package."""
    return [name for name, value in vars(gk.weightings).items() if getattr(value, "batched", False) is True]


def ours(name: str, num_objectives: int, device: str = "cpu") -> Callable[[Tensor], Tensor]:
    """Returns our weighting; what it cannot do without is zeros for moving averages, and ones for losses or weights."""
    weighting = getattr(gk.weightings, name)
    zeros = torch.zeros(num_objectives, num_objectives, dtype=torch.float64, device=device)
    ones = torch.ones(num_objectives, dtype=torch.float64, device=device)
    needed = [p.name for p in inspect.signature(weighting).parameters.values() if p.default is inspect.Parameter.empty]
    options = {"cosines": zeros, "losses": ones, "weights": ones}
    chosen = {option: options[option] for option in needed[1:]}
    return lambda gram: weighting(gram, **chosen)


def jacobians(num_objectives: int) -> list[Tensor]:
    """Returns gradients [T, 4 T] float64, of which a third are against what the others have in common."""
    found = []
    for seed in range(GRAMIANS):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(num_objectives, 4 * num_objectives, generator=generator, dtype=torch.float64)
        common = torch.randn(4 * num_objectives, generator=generator, dtype=torch.float64)
        found.append(torch.where(torch.arange(num_objectives) % 3 == 2, -1.0, 1.0)[:, None] * common + noise)
    return found


def measure_weightings(sizes: Sequence[int], on_round: Callable[[], object]) -> list[dict]:
    """Returns a row for each number of objectives, weighting and contestant.

    TorchJD's gets an error in the place of a time where its values are not ours; `on_round` is called after each
    weighting of each size.
    """
    rows = []
    for num_objectives in sizes:
        for name in names():
            rows += measure_case(name, num_objectives)
            on_round()
    return rows


def measure_case(name: str, num_objectives: int) -> list[dict]:
    """Returns the row of ours and, where TorchJD has the weighting and it takes as many objectives, of theirs."""
    given = jacobians(num_objectives)
    weighting = ours(name, num_objectives)
    contestants = [_contestant(OURS, weighting, [jacobian @ jacobian.T for jacobian in given])]
    error = None
    if name in THEIRS and NO_TORCHJD is None:
        theirs = THEIRS[name](num_objectives)
        inputs = given if name in MATRIX else [jacobian @ jacobian.T for jacobian in given]
        error = None if name in AT_RANDOM else _difference(theirs, inputs, weighting, given)
        contestants.append(_contestant(TORCHJD, theirs, inputs))
    tolerance = TOLERANCES.get(name, TOLERANCE)
    right = contestants if error is None or error <= tolerance else contestants[:1]
    times = {who: summary(taken) for who, taken in interleaved(right, on_round=lambda: None).items()}
    return [
        {"case": f"{name}, T = {num_objectives}", "weighting": name, "T": num_objectives, "contestant": contestant.name}
        | {"value_error": error if contestant.name == TORCHJD else None}
        | _times_of(contestant.name, times, tolerance)
        for contestant in contestants
    ]


def _times_of(who: str, times: dict[str, dict], tolerance: float) -> dict:
    if who not in times:
        missing = dict.fromkeys(("median_ms", "p20_ms", "p80_ms", "calls", "ratio_to_ours"))
        return {"error": f"values differ from ours by more than {tolerance:.0e}", **missing}
    return {"error": "", **times[who], "ratio_to_ours": times[who]["median_ms"] / times[OURS]["median_ms"]}


def _contestant(name: str, weighting: Callable[[Tensor], Tensor], inputs: Sequence[Tensor]) -> Contestant[Tensor]:
    turns = cycle(inputs)
    return Contestant(name, Work(reads=0, copies=0), lambda: weighting(next(turns)), lambda _: 0.0)


def _difference(
    theirs: Callable[[Tensor], Tensor],
    inputs: Sequence[Tensor],
    weighting: Callable[[Tensor], Tensor],
    given: Sequence[Tensor],
) -> float:
    """Returns the largest |theirs - ours| / |ours| of the merged gradients."""
    largest, reset = 0.0, getattr(theirs, "reset", lambda: None)
    for jacobian, for_theirs in zip(given, inputs, strict=True):
        reset()  # of one that starts from its weights of the call before, or averages over calls
        merged = weighting(jacobian @ jacobian.T) @ jacobian
        largest = max(largest, float((theirs(for_theirs) @ jacobian - merged).norm() / merged.norm()))
    return largest
