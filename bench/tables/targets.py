"""The targets of the benchmark as data, and the sentences that say whether the results reach them."""

import operator
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import pandas as pd
import torch

from bench.measure.cases import CASES, GPU_CASES
from bench.measure.contention import GMD as CHOSEN
from bench.measure.contention import case_of
from bench.measure.contestants import COMBINE, GRAM, OURS, OURS_IN_PLACE, PUBLISHED, TORCHJD
from bench.measure.nnunet import GMD as NNUNET_GMD
from bench.measure.norm import PYTORCH as PYTORCH_NORM
from bench.measure.one_gradient import SKETCHES
from bench.measure.owm import CLASSES as OWM_CLASSES
from bench.measure.owm import PYTORCH as PYTORCH_OWM
from bench.measure.processes import GLOBAL
from bench.measure.share import LONE, QUICK, SHARED
from bench.measure.sketch import OURS as OUR_SKETCH
from bench.measure.sketch import cases as sketch_cases
from bench.measure.step_names import AUTO_CONFLICTING, AUTO_QUIET, EVERY8
from bench.measure.strip_mlp import OURS as STRIP_OURS
from bench.measure.weightings import OURS as OUR_WEIGHTING
from bench.tables.norm import totals

LARGE = tuple(name for name, case in CASES.items() if case.dtype == torch.float32 and case.num_elements > 5e6)
BF16 = tuple(name for name, case in CASES.items() if case.dtype == torch.bfloat16)
# On a GPU: beyond its caches; what one launch keeps on an H100's or H200's chip; what it reads twice.
GPU_LARGE = tuple(n for n, case in GPU_CASES.items() if case.num_elements > 15e6 and case.num_objectives in (4, 15))
GPU_KEPT = tuple(n for n, case in GPU_CASES.items() if case.num_objectives * case.num_bytes <= 28e6)
GPU_READ_TWICE = tuple(n for n in GPU_CASES if n not in GPU_KEPT)
T4, T15, SMALL = ("transformer-5.6M-T4",), ("transformer-5.6M-T15",), ("small-0.3M-T7",)

BOUNDS = {"at least": operator.ge, "at most": operator.le}


class Target(NamedTuple):
    """What is expected of one contestant: of `quantity`, a column of the results, in each of `cases`."""

    contestant: str
    quantity: str
    bound: str  # a key of BOUNDS
    value: float
    cases: Sequence[str]


TARGETS = (
    Target(GRAM, "fraction_of_floor", "at least", 0.90, LARGE),
    Target(COMBINE, "fraction_of_floor", "at least", 0.90, LARGE),
    Target(GRAM, "ratio_to_float32", "at most", 0.6, BF16),
    Target(COMBINE, "ratio_to_float32", "at most", 0.6, BF16),
    Target(OURS, "ratio_to_float32", "at most", 0.6, BF16),
    Target(PUBLISHED, "ratio_to_ours", "at least", 45, T15),
    Target(TORCHJD, "ratio_to_ours", "at least", 9, T15),
    Target(PUBLISHED, "ratio_to_ours", "at least", 15, T4),
    Target(TORCHJD, "ratio_to_ours", "at least", 5, T4),
    Target(PUBLISHED, "ratio_to_ours", "at least", 15, SMALL),
    Target(OURS, "median_ms", "at most", 0.7, SMALL),
    Target(OURS_IN_PLACE, "beyond_result_MB", "at most", 1.0, tuple(CASES)),
)

SIZES = ("32³", "48³")
# of the total of step_cpu.csv
STEP_TARGETS = (
    Target("exact float32", "times_faster", "at least", 1.4, SIZES),
    Target("compressed float32", "times_faster", "at least", 3.5, SIZES),
    Target("exact float32", "memory_of_published", "at most", 0.6, SIZES),
    Target("compressed float32", "memory_of_published", "at most", 0.6, SIZES),
)
# where the processor has instructions for bfloat16
STEP_TARGETS_BF16 = (
    Target("exact bfloat16", "times_faster", "at least", 5.0, SIZES),
    Target("compressed bfloat16", "times_faster", "at least", 15.0, SIZES),
)

UNETS, NETWORKS = ("U-Net, float32", "U-Net, bfloat16"), ("transformer", "MONAI's SegResNet", "MONAI's DynUNet")
# shares of one joint step; between refreshes, of the memory of enumerate
STEP_METHOD_TARGETS = (
    Target(EVERY8, "of_joint", "at most", 1.9, UNETS),
    Target(AUTO_QUIET, "of_joint", "at most", 1.4, UNETS),
    Target(AUTO_CONFLICTING, "of_joint", "at most", 2.2, UNETS),
    Target(EVERY8, "of_joint", "at most", 1.5, ("transformer",)),
    Target(EVERY8, "memory_of_enumerate", "at most", 1.01, (*UNETS, *NETWORKS)),
)

GPU_TARGETS = (
    Target(GRAM, "fraction_of_floor", "at least", 0.90, GPU_LARGE),
    Target(COMBINE, "fraction_of_floor", "at least", 0.90, GPU_LARGE),
    Target(OURS, "over_one_pass", "at most", 1.25, GPU_KEPT),
    Target(OURS, "fraction_of_floor", "at least", 0.88, GPU_READ_TWICE),
    Target(PUBLISHED, "ratio_to_ours", "at least", 60, T15),
    Target(TORCHJD, "ratio_to_ours", "at least", 5, T15),
    Target(OURS, "median_ms", "at most", 0.060, SMALL),
    Target(OURS, "host_ms", "at most", 0.300, SMALL),
)


def verdicts(surgery: pd.DataFrame, targets: Sequence[Target] = TARGETS) -> list[str]:
    """Returns a sentence for each target: reached, MISSED or not measured, and the case that is furthest off."""
    return [_verdict(surgery, target) for target in targets]


def step_verdicts(steps: pd.DataFrame) -> list[str]:
    """Returns sentences on the U-Net's whole step; bfloat16 is expected to be fast where the processor has it."""
    if "phase" not in steps:
        return ["whole step: not measured, wrong values"]
    whole = steps[steps["phase"] == "total"]
    of_bf16 = verdicts(whole, STEP_TARGETS_BF16)
    if whole["bfloat16"].iloc[0] == "none":
        of_bf16 = [f"{verdict} (but this processor has no instructions for bfloat16)" for verdict in of_bf16]
    return verdicts(whole, STEP_TARGETS) + of_bf16


def step_methods_verdicts(steps: pd.DataFrame) -> list[str]:
    """Returns sentences on what a step of surgery costs beside one of joint training, now that weights last."""
    if "of_joint" not in steps:
        return ["a step of each method: not measured, wrong values"]
    return verdicts(steps, STEP_METHOD_TARGETS)


def norm_verdicts(norm: pd.DataFrame) -> list[str]:
    """Returns a sentence on all norms of one pass together, in bfloat16 and channels-last."""
    chosen = norm[(norm["dtype"] == "bfloat16") & (norm["layout"] == "channels-last")]
    return verdicts(totals(chosen), (Target(PYTORCH_NORM, "ratio_to_ours", "at least", 2.5, ("32³", "48³")),))


def sketch_verdicts(sketches: pd.DataFrame) -> list[str]:
    """Returns a sentence on the count sketch of float32 gradients that the caches do not hold."""
    large = {case.name for case in sketch_cases() if case.layout in ("transformer-16M", "transformer-64M")}
    float32 = sketches["dtype"] == "float32"
    chosen = sketches[float32 & sketches["case"].isin(large)]
    names = tuple(chosen["case"].unique())
    return verdicts(chosen, (Target(OUR_SKETCH, "fraction_of_floor", "at least", 0.8, names),))


def one_gradient_verdicts(rows: pd.DataFrame) -> list[str]:
    """Returns a sentence on the memory of a surgery with sketches: one gradient and the sketches, N + T d."""
    if "bound_MB" not in rows:
        return ["surgery with sketches: not measured"]
    rows = rows.assign(of_bound=rows["allocated_MB"] / rows["bound_MB"])
    return verdicts(rows, (Target(SKETCHES, "of_bound", "at most", 1.005, tuple(rows["case"].unique())),))


def owm_verdicts(owm: pd.DataFrame) -> list[str]:
    """Returns sentences on the update of MLA's projector.

    Few classes and many are judged apart, as with many the product alone is most of the work; and so are a projector
    that the caches have kept, and one that they have not, as it is after a network's passes.
    """
    found = []
    for classes, kept in product(OWM_CLASSES, (False, True)):
        chosen = owm[(owm["C"] == classes) & (owm["kept"] == kept)]
        found += verdicts(
            chosen, (Target(PYTORCH_OWM, "ratio_to_ours", "at least", 2.5, tuple(chosen["case"].unique())),)
        )
    return found


def processes_verdicts(processes: pd.DataFrame) -> list[str]:
    """Returns sentences on the step of a global surgery: its time beside a local one's."""
    chosen = processes[processes["processes"] > 1]
    return verdicts(chosen, (Target(GLOBAL, "ratio_to_local", "at most", 1.15, tuple(chosen["case"].unique())),))


SLOWER_WEIGHTINGS = ("nash_mtl", "fairgrad")


def weightings_verdicts(weightings: pd.DataFrame) -> list[str]:
    """Returns sentences on the weightings of 15 and of 63 objectives; two solve an equation that is not quadratic."""
    slower = weightings["weighting"].isin(SLOWER_WEIGHTINGS)
    expected = ((15, ~slower, 1.0), (15, slower, 3.0), (63, slower | ~slower, 25.0))
    found = []
    for size, which, most in expected:
        chosen = weightings[(weightings["T"] == size) & which]
        found += verdicts(
            chosen, (Target(OUR_WEIGHTING, "median_ms", "at most", most, tuple(chosen["case"].unique())),)
        )
    return found


def evaluation_verdicts(evaluation: pd.DataFrame) -> list[str]:
    """Returns a sentence on the evaluation with all subsets."""
    if "median_ms" not in evaluation:
        return ["evaluation: not measured, wrong values"]
    return verdicts(evaluation, (Target("ours", "times_faster", "at least", 12, tuple(evaluation["case"].unique())),))


def sequence_step_verdicts(steps: pd.DataFrame) -> list[str]:
    """Returns a sentence on the step of Dynamic Sharing's transformer, without an approximation."""
    if "phase" not in steps:
        return ["the transformer's step: not measured, wrong values"]
    whole = steps[steps["phase"] == "total"]
    return verdicts(whole, (Target("exact by sample", "times_faster", "at least", 3.0, tuple(whole["case"].unique())),))


def cggm_verdicts(steps: pd.DataFrame) -> list[str]:
    """Returns sentences on what CGGM adds to a step of joint training, in time and memory."""
    if "phase" not in steps:
        return ["cggm: not measured, wrong values"]
    whole = steps[steps["phase"] == "total"]
    cases = tuple(whole["case"].unique())
    targets = (
        Target("cggm", "overhead", "at most", 0.20, cases),
        Target("cggm", "extra_MB", "at most", 8.0, cases),
    )
    return verdicts(whole, targets)


def nnunet_verdicts(steps: pd.DataFrame) -> list[str]:
    """Returns a sentence on what a step of GMD costs beside one of nnU-Net's own."""
    return verdicts(steps, [Target(NNUNET_GMD, "of_plain", "at most", 5.0, tuple(steps["case"].unique()))])


def share_verdicts(share: pd.DataFrame) -> list[str]:
    """Returns sentences on what `gmd.share` costs a step, and on SegResNet with a lone sample."""
    if "of_first" not in share:
        return ["sharing: not measured, wrong values"]
    shared = tuple(share.loc[share["contestant"] == SHARED, "case"])
    segresnet = tuple(case for case in share.loc[share["what"] == LONE, "case"].unique() if "SegResNet" in case)
    return verdicts(
        share,
        (Target(SHARED, "of_first", "at most", 1.03, shared), Target(QUICK, "of_first", "at most", 0.5, segresnet)),
    )


def strip_mlp_verdicts(rows: pd.DataFrame) -> list[str]:
    """Returns a sentence on the whole network beside the published way."""
    if "of_first" not in rows:
        return ["Strip-MLP: not measured, wrong values"]
    whole = tuple(case for case in rows["case"].unique() if case.startswith("the light network"))
    return verdicts(rows, [Target(STRIP_OURS, "of_first", "at most", 0.8, whole)])


def contention_verdicts(contention: pd.DataFrame) -> list[str]:
    """Returns sentences on a step whose threads wait as gmd chooses, beside torch as it comes, with nobody there."""
    targets = (
        Target(CHOSEN, "times_slower", "at most", 1.12, (case_of(0),)),
        Target(CHOSEN, "times_slower", "at most", 3.0, (case_of(1),)),
    )
    return verdicts(contention, targets)


def _verdict(surgery: pd.DataFrame, target: Target) -> str:
    of_contestant = surgery[surgery["contestant"] == target.contestant].set_index("case")
    measured = of_contestant[target.quantity].reindex(target.cases)
    wanted = f"{target.contestant}, {target.quantity} {target.bound} {target.value:g}"
    if measured.isna().all():
        return f"{wanted}: not measured"
    worst = measured.idxmin() if target.bound == "at least" else measured.idxmax()
    figure = f"{measured[worst]:.3g} in {worst}"
    missed = sum(not BOUNDS[target.bound](value, target.value) for value in measured.dropna())
    if missed:
        return f"{wanted}: MISSED in {missed} of {len(measured)} cases, {figure}"
    if unmeasured := measured.isna().sum():
        return f"{wanted}: not measured in {unmeasured} of {len(measured)} cases, {figure}"
    return f"{wanted}: reached, {figure}"
