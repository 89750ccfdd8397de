"""Measures the surgery alone, case by case: values first, then memory, then time."""

import warnings
from collections.abc import Callable, Sequence

import gmd_kernels as gk
from bench.measure.bandwidth import Bandwidth, floor_ms
from bench.measure.cases import Case
from bench.measure.contestant import Contestant
from bench.measure.contestants import OURS, contestants
from bench.measure.memory import with_peak_memory
from bench.measure.oracle import conflict_rate, exact_gram
from bench.measure.timing import interleaved, summary

UNMEASURED = dict.fromkeys(
    ("median_ms", "p20_ms", "p80_ms", "calls", "floor_ms", "fraction_of_floor", "ratio_to_ours"), float("nan")
)


def measure_surgery(case: Case, on_round: Callable[[], object]) -> list[dict]:
    """Returns a row for each contestant; one with wrong values gets an error instead of a time."""
    bandwidth = Bandwidth(case.num_objectives * case.num_bytes)
    grads = case.gradients()
    gram = exact_gram(grads)
    all_of_them = contestants(case, grads, gram)
    shared = {
        "case": case.name,
        "layout": case.layout,
        "dtype": str(case.dtype).removeprefix("torch."),
        "T": case.num_objectives,
        "N": case.num_elements,
        "tensors": len(case.shapes),
        "conflicts": conflict_rate(gram),
    }
    checked = {contestant.name: _check(contestant) for contestant in all_of_them}
    sound = [contestant for contestant in all_of_them if not checked[contestant.name]["error"]]

    def finish_round() -> None:
        bandwidth.sample()
        on_round()

    times = {name: summary(taken) for name, taken in interleaved(sound, finish_round).items()}
    speed = bandwidth.of_the_fastest()

    rows = []
    for contestant in all_of_them:
        row = shared | {"contestant": contestant.name} | checked[contestant.name] | speed | UNMEASURED
        row["floor_ms"] = floor_ms(contestant.work, case.num_bytes, speed["read_GBps"], speed["copy_GBps"])
        if contestant.name in times:
            row |= times[contestant.name]
            row["fraction_of_floor"] = row["floor_ms"] / row["median_ms"]
            if OURS in times:
                row["ratio_to_ours"] = row["median_ms"] / times[OURS]["median_ms"]
        rows.append(row)
    return rows


def with_ratio_to_float32(rows: Sequence[dict]) -> list[dict]:
    """Returns each row's time over that of the same contestant on float32 gradients of the same layout and T."""
    float32 = {
        (row["layout"], row["T"], row["contestant"]): row["median_ms"] for row in rows if row["dtype"] == "float32"
    }
    keys = [(row["layout"], row["T"], row["contestant"]) for row in rows]
    return [
        row | {"ratio_to_float32": row["median_ms"] / float32.get(key, float("nan"))}
        for key, row in zip(keys, rows, strict=True)
    ]


def warm_up(case: Case) -> None:
    """Has everybody load what is loaded on first use, so that nobody pays for it in time or memory."""
    grads = case.gradients()
    for contestant in contestants(case, grads, exact_gram(grads)):
        _check(contestant)


def _check(contestant: Contestant) -> dict:
    """Returns the columns of one untimed call: how far its values are from float64's, and how much memory it took.

    Kernels that leave the call to the reference have no time of their own: that is an error too.
    """
    unchecked = dict.fromkeys(("peak_extra_MB", "beyond_result_MB", "value_error"), float("nan"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", gk.FallbackWarning)
            contestant.prepare()
            result, megabytes = with_peak_memory(contestant.call)
    except gk.FallbackWarning as fallback:
        return unchecked | {"error": str(fallback)}
    distance = contestant.error(result)
    wrong = not distance <= contestant.tolerance  # NaN is wrong too
    error = f"values differ from float64 by {distance:.1e}, more than {contestant.tolerance:.0e}" if wrong else ""
    memory = {}
    if megabytes is not None:
        beyond = max(0.0, megabytes - contestant.result_bytes / 1e6)
        memory = {"peak_extra_MB": megabytes, "beyond_result_MB": beyond}
    return unchecked | memory | {"value_error": distance, "error": error}
