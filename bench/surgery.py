"""The surgery alone, case by case: values first, then memory, then time."""

from collections.abc import Callable

from bench.cases import Case
from bench.contestants import OURS, Contestant, contestants
from bench.measure import Bandwidth, floor_ms, interleaved, summary, with_peak_memory
from bench.oracle import conflict_rate, exact_gram

UNMEASURED = dict.fromkeys(
    ("median_ms", "p20_ms", "p80_ms", "calls", "floor_ms", "fraction_of_floor", "ratio_to_ours"), float("nan")
)


def measure_surgery(case: Case, on_round: Callable[[], object]) -> list[dict]:
    """A row for each contestant; one with wrong values gets an error instead of a time."""
    bandwidth = Bandwidth(case.num_objectives * case.num_elements)
    grads = case.gradients()
    gram = exact_gram(grads)
    all_of_them = contestants(grads, gram)
    shared = {
        "case": case.name,
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
    speed = bandwidth.best()

    rows = []
    for contestant in all_of_them:
        row = shared | {"contestant": contestant.name} | checked[contestant.name] | speed | UNMEASURED
        row["floor_ms"] = floor_ms(contestant.passes, case.num_elements, speed["read_GBps"])
        if contestant.name in times:
            row |= times[contestant.name]
            row["fraction_of_floor"] = row["floor_ms"] / row["median_ms"]
            if OURS in times:
                row["ratio_to_ours"] = row["median_ms"] / times[OURS]["median_ms"]
        rows.append(row)
    return rows


def _check(contestant: Contestant) -> dict:
    """One call: how far its values are from float64's, and how much memory it took."""
    result, megabytes = with_peak_memory(contestant)
    distance = contestant.error(result)
    wrong = not distance <= contestant.tolerance  # NaN is wrong too
    error = f"values differ from float64 by {distance:.1e}, more than {contestant.tolerance:.0e}" if wrong else ""
    return {"peak_extra_MB": megabytes, "value_error": distance, "error": error}
