"""From the rows of the CSV files to what people read."""

import pandas as pd

from bench.contestants import OURS, PUBLISHED, TORCHJD
from bench.step import PHASES, WAYS

TARGET_CASES = ("unet-5.6M-T15", "transformer-5.6M-T15")
TARGETS = {PUBLISHED: 30.0, TORCHJD: 6.0}  # times as fast, at the target cases


def surgery_table(surgery: pd.DataFrame) -> pd.DataFrame:
    """A row for each case, a column for each contestant's milliseconds, then how ours compares."""
    wide = _wide(surgery, "median_ms")
    ratios, fractions = _wide(surgery, "ratio_to_ours"), _wide(surgery, "fraction_of_floor")
    floors = _wide(surgery, "floor_ms")
    return wide.round(2).assign(
        floor=floors[OURS].round(2),
        of_floor=(100 * fractions[OURS]).map("{:.0f} %".format),
        vs_published=ratios[PUBLISHED].map("{:.1f}x".format),
        vs_torchjd=ratios[TORCHJD].map("{:.1f}x".format),
    )


def step_table(steps: pd.DataFrame) -> pd.DataFrame:
    """A row for each way, a column for each phase."""
    if "phase" not in steps:
        return steps[["contestant", "error"]]
    wide = (
        steps.pivot(index="contestant", columns="phase", values="median_ms")
        .loc[list(WAYS), [*PHASES, "total"]]
        .round(1)
    )
    return wide.assign(peak_extra_MB=steps.groupby("contestant")["peak_extra_MB"].first().round(0))


def targets(surgery: pd.DataFrame) -> list[str]:
    """One sentence for each target: reached, missed or not measured."""
    sentences = []
    for case in TARGET_CASES:
        for peer, factor in TARGETS.items():
            row = surgery[(surgery["case"] == case) & (surgery["contestant"] == peer)]
            measured = row["ratio_to_ours"].iloc[0] if len(row) else float("nan")
            verdict = "not measured" if pd.isna(measured) else "reached" if measured >= factor else "MISSED"
            figure = "" if pd.isna(measured) else f": {measured:.1f}x"
            sentences.append(f"{case}, at least {factor:.0f}x as fast as {peer}: {verdict}{figure}")
    return sentences


def errors(table: pd.DataFrame) -> list[str]:
    """What is wrong with whose values."""
    wrong = table[table["error"].fillna("") != ""]
    case = wrong["case"] if "case" in wrong else ["whole step"] * len(wrong)
    return [f"{c}, {who}: {error}" for c, who, error in zip(case, wrong["contestant"], wrong["error"], strict=True)]


def surgery_markdown(surgery: pd.DataFrame, num_objectives: int = 15) -> str:
    """The README's table of the surgery alone."""
    chosen = surgery[surgery["T"] == num_objectives]
    columns = [OURS, "surgery (reference)", TORCHJD, "torchjd (stacked)", "torchjd (stacked, no concat)", PUBLISHED]
    times, ratios, memory = (_wide(chosen, key)[columns] for key in ("median_ms", "ratio_to_ours", "peak_extra_MB"))
    floors, fractions = _wide(chosen, "floor_ms")[OURS], _wide(chosen, "fraction_of_floor")[OURS]
    lines = [
        f"| T = {num_objectives} | {' | '.join(columns)} | floor |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for case in times.index:
        cells = [_cell(times.at[case, c], ratios.at[case, c], memory.at[case, c]) for c in columns]
        floor = f"{_significant(floors[case])} ms ({100 * fractions[case]:.0f} % reached)"
        lines.append(f"| {case.rpartition('-')[0]} | {' | '.join(cells)} | {floor} |")
    return "\n".join([*lines, "", _footnote(chosen) + " Memory: peak beyond the gradients."])


def step_markdown(steps: pd.DataFrame) -> str:
    """The README's table of the whole step."""
    table = step_table(steps)
    lines = [f"| ms | {' | '.join(table.columns[:-1])} | extra memory |", "|---" * (len(table.columns) + 1) + "|"]
    for who, row in table.iterrows():
        times = " | ".join(_significant(value) for value in row.iloc[:-1])
        lines.append(f"| {who} | {times} | {_megabytes(row.iloc[-1])} |")
    return "\n".join([*lines, "", _footnote(steps) + " Memory: peak beyond the network."])


def _wide(table: pd.DataFrame, values: str) -> pd.DataFrame:
    """Cases in rows, contestants in columns, both in the order of the file."""
    cases, names = table["case"].unique(), table["contestant"].unique()
    return table.pivot(index="case", columns="contestant", values=values).loc[cases, names]


def _cell(milliseconds: float, ratio: float, megabytes: float) -> str:
    factor = "" if ratio == 1 else f", {ratio:.1f}x"
    return f"{_significant(milliseconds)} ms{factor}, {_megabytes(megabytes)}"


def _megabytes(value: float) -> str:
    return "n/a" if pd.isna(value) else f"{value:.0f} MB"


def _significant(value: float) -> str:
    """Three significant digits, never in scientific notation."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _footnote(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    return (
        f"Measured {row['date']} UTC on {row['cpu']}, {row['cores']} cores, {row['threads']} threads, {row['isa']}, "
        f"torch {row['torch']}, TorchJD {row['torchjd']}, gmd {row['commit']}; medians."
    )
