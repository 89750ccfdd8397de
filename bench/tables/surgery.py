"""The tables of the surgery, from the rows of surgery_cpu.csv and surgery_gpu.csv."""

import pandas as pd

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
from bench.measure.gpu_names import MOVED, TRITON_COMBINE, TRITON_GRAM, TRITON_SURGERY
from bench.tables.markdown import head, line, megabytes, significant, with_note
from bench.tables.results import footnote

PEERS = (TORCHJD, LIBMTL, PCGRAD, PUBLISHED)


def surgery_markdown(surgery: pd.DataFrame) -> str:
    """Returns milliseconds of the whole surgery, ours and the peers', float32, where they took part."""
    chosen = surgery[(surgery["dtype"] == "float32") & surgery["case"].isin(_cases_of(PUBLISHED, surgery))]
    times, ratios, floors = (_wide(chosen, key) for key in ("median_ms", "ratio_to_ours", "floor_ms"))
    lines = head("ms", OURS, *PEERS, "floor")
    for case in times.index:
        peers = [with_note(times.at[case, peer], f"{ratios.at[case, peer]:.1f}x") for peer in PEERS]
        lines.append(line(case, significant(times.at[case, OURS]), *peers, significant(floors.at[case, OURS])))
    return "\n".join([*lines, "", footnote(surgery)])


def memory_markdown(surgery: pd.DataFrame) -> str:
    """Returns megabytes at the peak beyond the gradients and the result, float32, T = 15."""
    columns = (OURS, OURS_IN_PLACE, REFERENCE, *PEERS)
    beyond = _wide(surgery[(surgery["dtype"] == "float32") & (surgery["T"] == 15)], "beyond_result_MB")
    rows = [line(case, *map(megabytes, beyond.loc[case, list(columns)])) for case in beyond.index]
    return "\n".join([*head("MB", *columns), *rows])


def kernels_markdown(surgery: pd.DataFrame) -> str:
    """Returns our ops one by one: milliseconds and the fraction of the floor that they reach, all types."""
    columns = (GRAM, COMBINE, COMBINE_IN_PLACE, OURS)
    times, fractions, ratios = (_wide(surgery, key) for key in ("median_ms", "fraction_of_floor", "ratio_to_float32"))
    lines = head("ms, of the floor", *columns, "of float32's time")
    for case in times.index:
        cells = [with_note(times.at[case, c], f"{100 * fractions.at[case, c]:.0f} %") for c in columns]
        is_float32 = (surgery.loc[surgery["case"] == case, "dtype"] == "float32").all()
        lines.append(line(case, *cells, "" if is_float32 else significant(ratios.at[case, OURS])))
    return "\n".join(lines)


def gpu_markdown(surgery: pd.DataFrame) -> str:
    """Returns microseconds of our kernels on the device, how much of the floor they reach, when the host goes on."""
    ours, triton = (GRAM, COMBINE, OURS, MOVED), (TRITON_GRAM, TRITON_COMBINE, TRITON_SURGERY)
    columns = ("median_ms", "fraction_of_floor", "host_ms", "warm_ms")
    times, fractions, host, warm = (_wide(surgery, key).reindex(columns=[*ours, *triton]) for key in columns)
    lines = head("µs, of the floor", *ours, "caches warm", "of the host", *triton)
    for case in times.index:
        device = [with_note(1e3 * times.at[case, c], f"{100 * fractions.at[case, c]:.0f} %") for c in (*ours, *triton)]
        once = [significant(1e3 * of.at[case, OURS]) for of in (warm, host)]
        lines.append(line(case, *device[:4], *once, *device[4:]))
    return "\n".join(lines)


def _cases_of(contestant: str, table: pd.DataFrame) -> pd.Series:
    return table.loc[table["contestant"] == contestant, "case"]


def _wide(table: pd.DataFrame, values: str) -> pd.DataFrame:
    """Returns one column of the results, cases in rows and contestants in columns, both in the order of the file."""
    cases, names = table["case"].unique(), table["contestant"].unique()
    return table.pivot(index="case", columns="contestant", values=values).loc[cases, names]
