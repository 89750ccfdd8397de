"""From the rows of the CSV files to the tables that people read, in the README and at the end of a run."""

from pathlib import Path

import pandas as pd

from bench.gpu.contestants import MOVED, TRITON_COMBINE, TRITON_GRAM, TRITON_SURGERY
from bench.measure.contestants import (
    COMBINE,
    COMBINE_IN_PLACE,
    GRAM,
    LIBMTL,
    OURS,
    OURS_IN_PLACE,
    PCGRAD,
    PUBLISHED,
    REFERENCE,
    TORCHJD,
)
from bench.measure.step import PHASES, WAYS

PEERS = (TORCHJD, LIBMTL, PCGRAD, PUBLISHED)


def surgery_markdown(surgery: pd.DataFrame) -> str:
    """Milliseconds of the whole surgery, ours and the peers', float32, where they took part."""
    chosen = surgery[(surgery["dtype"] == "float32") & surgery["case"].isin(_cases_of(PUBLISHED, surgery))]
    times, ratios, floors = (_wide(chosen, key) for key in ("median_ms", "ratio_to_ours", "floor_ms"))
    lines = _head("ms", OURS, *PEERS, "floor")
    for case in times.index:
        peers = [_with(times.at[case, peer], f"{ratios.at[case, peer]:.1f}x") for peer in PEERS]
        lines.append(_row(case, significant(times.at[case, OURS]), *peers, significant(floors.at[case, OURS])))
    return "\n".join([*lines, "", footnote(surgery)])


def memory_markdown(surgery: pd.DataFrame) -> str:
    """Peak beyond the gradients and the result, float32, T = 15."""
    columns = (OURS, OURS_IN_PLACE, REFERENCE, *PEERS)
    beyond = _wide(surgery[(surgery["dtype"] == "float32") & (surgery["T"] == 15)], "beyond_result_MB")
    rows = [_row(case, *map(_megabytes, beyond.loc[case, list(columns)])) for case in beyond.index]
    return "\n".join([*_head("MB", *columns), *rows])


def kernels_markdown(surgery: pd.DataFrame) -> str:
    """Ours in parts: milliseconds and the fraction of the floor that they reach, all types."""
    columns = (GRAM, COMBINE, COMBINE_IN_PLACE, OURS)
    times, fractions, ratios = (_wide(surgery, key) for key in ("median_ms", "fraction_of_floor", "ratio_to_float32"))
    lines = _head("ms, of the floor", *columns, "of float32's time")
    for case in times.index:
        cells = [_with(times.at[case, c], f"{100 * fractions.at[case, c]:.0f} %") for c in columns]
        is_float32 = (surgery.loc[surgery["case"] == case, "dtype"] == "float32").all()
        lines.append(_row(case, *cells, "" if is_float32 else significant(ratios.at[case, OURS])))
    return "\n".join(lines)


def gpu_markdown(surgery: pd.DataFrame) -> str:
    """Microseconds of our kernels on the device and how much of the floor they reach; until the host goes on."""
    ours, triton = (GRAM, COMBINE, OURS, MOVED), (TRITON_GRAM, TRITON_COMBINE, TRITON_SURGERY)
    columns = ("median_ms", "fraction_of_floor", "host_ms")
    times, fractions, host = (_wide(surgery, key).reindex(columns=[*ours, *triton]) for key in columns)
    lines = _head("µs, of the floor", *ours, "of the host", *triton)
    for case in times.index:
        device = [_with(1e3 * times.at[case, c], f"{100 * fractions.at[case, c]:.0f} %") for c in (*ours, *triton)]
        lines.append(_row(case, *device[:4], significant(1e3 * host.at[case, OURS]), *device[4:]))
    return "\n".join(lines)


def step_markdown(steps: pd.DataFrame) -> str:
    """A whole step: a row for each size and way, a column for each phase."""
    if "phase" not in steps:
        return "not measured: wrong values"
    steps = steps[steps["phase"].notna()]  # a size with wrong values has no times
    columns = [*PHASES, "total"]
    lines = _head("ms", *columns, "speed-up", "paths", "extra memory, MB", "off by")
    for case, of_case in steps.groupby("case", sort=False):
        times = of_case.pivot(index="contestant", columns="phase", values="median_ms").loc[list(WAYS), columns]
        whole = of_case[of_case["phase"] == "total"].set_index("contestant")
        for who, row in times.iterrows():
            told = whole.loc[who]
            memory, faster = _megabytes(told["peak_extra_MB"]), f"{told['times_faster']:.2f}x"
            error = f"{100 * told['value_error']:.2g} %" if told["value_error"] else ""
            lines.append(_row(f"{case} {who}", *map(significant, row), faster, str(told["passes"]), memory, error))
    return "\n".join([*lines, "", footnote(steps)])


def evaluation_markdown(evaluation: pd.DataFrame) -> str:
    """All subsets of one case: a row for each size and way."""
    if "median_ms" not in evaluation:
        return "not measured: wrong values"
    evaluation = evaluation[evaluation["median_ms"].notna()]
    lines = _head("all 15 subsets", "ms", "speed-up", "passes", "extra memory, MB")
    for _, row in evaluation.iterrows():
        faster, memory = f"{row['times_faster']:.1f}x", _megabytes(row["peak_extra_MB"])
        name = f"{row['case']} {row['contestant']}"
        lines.append(_row(name, significant(row["median_ms"]), faster, str(row["passes"]), memory))
    return "\n".join([*lines, "", footnote(evaluation)])


def errors(table: pd.DataFrame) -> list[str]:
    """What is wrong with whose values."""
    wrong = table[table["error"].fillna("") != ""]
    case = wrong["case"] if "case" in wrong else ["whole step"] * len(wrong)
    return [f"{c}, {who}: {error}" for c, who, error in zip(case, wrong["contestant"], wrong["error"], strict=True)]


def _cases_of(contestant: str, table: pd.DataFrame) -> pd.Series:
    return table.loc[table["contestant"] == contestant, "case"]


def _wide(table: pd.DataFrame, values: str) -> pd.DataFrame:
    """Cases in rows, contestants in columns, both in the order of the file."""
    cases, names = table["case"].unique(), table["contestant"].unique()
    return table.pivot(index="case", columns="contestant", values=values).loc[cases, names]


def _head(*cells: str) -> list[str]:
    return [_row(*cells), _row(":--", *["--:"] * (len(cells) - 1))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _with(milliseconds: float, note: str) -> str:
    return "n/a" if pd.isna(milliseconds) else f"{significant(milliseconds)}, {note}"


def _megabytes(value: float) -> str:
    return "n/a" if pd.isna(value) else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def significant(value: float) -> str:
    """Three significant digits, never in scientific notation."""
    return "n/a" if pd.isna(value) else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def read_results(path: Path) -> pd.DataFrame:
    """What `write_csv` wrote. A commit is text, also where it has digits only, or one e among them."""
    return pd.read_csv(path, dtype={"commit": str})


def footnote(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    if "gpu" in row:
        return (
            f"Measured {row['date']} UTC on {row['gpu']}, driver {row['driver']}, CUDA {row['cuda']}, torch "
            f"{row['torch']}, Triton {row['triton']}, TorchJD {row['torchjd']}, gmd {row['commit']}; medians, caches "
            f"{row['caches']}. A copy on the device moved {row['copy_GBps']:.0f} GB/s, counted both ways."
        )
    return (
        f"Measured {row['date']} UTC on {row['cpu']}, {row['cores']} cores, {row['threads']} threads, {row['isa']}, "
        f"torch {row['torch']}, TorchJD {row['torchjd']}, gmd {row['commit']}; medians."
    )
