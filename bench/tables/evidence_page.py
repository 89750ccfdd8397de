"""The generated parts of docs/evidence.md: the data sets, and for each of them differences, scores and settings."""

import json
from pathlib import Path

import pandas as pd

from bench.measure.files import RESULTS
from bench.tables.bootstrap import Gain
from bench.tables.evidence import (
    ENUMERATE,
    GMD,
    SCORES,
    SURGERY,
    TaskResults,
    groups,
    read_evidence,
)
from bench.tables.evidence_words import summary
from bench.tables.markdown import markdown_table
from gmd.errors import shown

CONFLICTS = "![Gains over enumerate against conflicts](../bench/results/evidence_conflict.png)\n"
MOST_OF_A_VALUE = 60  # characters; the files of results have all
NO_RUN = "No run has been made yet: `python -m bench.evidence --data FOLDER` does it, in two hours on two cores."


def sections(results: Path = RESULTS) -> dict[str, str]:
    """Returns what docs/evidence.md shows between its markers, or plainly that there is nothing yet."""
    tasks = read_evidence(results)
    if not tasks:
        return dict.fromkeys(("evidence found", "evidence tasks", "evidence knob", "evidence tables"), NO_RUN)
    return {
        "evidence found": f"{summary(tasks)}\n{CONFLICTS}",
        "evidence tasks": tasks_markdown(tasks),
        "evidence knob": "\n".join(knob_section(name, cells) for name, cells in groups(tasks).items()) or NO_RUN,
        "evidence tables": "\n".join(task_section(task) for task in tasks if not task.group) or NO_RUN,
    }


def tasks_markdown(tasks: list[TaskResults]) -> str:
    """Returns a row for each data set, a group of generated ones being one: what was measured, and how often."""
    lines = [["data", "modalities", "score", "arms", "settings tried for each", "seeds", "pairs in conflict", "ratio"]]
    shown = {task.group or task.name: [task] for task in tasks} | groups(tasks)
    for cells in shown.values():
        first = cells[0]
        title = f"{first.group}, {len(cells)} cells" if first.group else first.title
        seeds = _range([float(cell.runs["seed"].nunique()) for cell in cells], "{:.0f}")
        measured = (
            _range([cell.conflicts() for cell in cells], "{:.0f} %"),
            _range([cell.ratio() for cell in cells], "{:.1f}"),
        )
        counts = (str(first.modalities), first.score, str(len(first.arms)), str(first.settings), seeds)
        lines.append([title, *counts, *measured])
    row = tasks[0].runs.iloc[0]
    codes = ", ".join(dict.fromkeys(code for task in tasks for code in task.runs["code"]))
    return f"{markdown_table(lines)}\nMeasured on {row['cpu']}, one thread a run, torch {row['torch']}, code {codes}.\n"


def _range(values: list[float], form: str) -> str:
    """Returns the least and the greatest of some numbers, as one where they look alike."""
    known = [value for value in values if not pd.isna(value)]
    ends = [form.format(end) for end in (min(known), max(known))] if known else [""]
    return " to ".join(dict.fromkeys(ends))


def task_section(task: TaskResults) -> str:
    """Returns the tables and the picture of one data set."""
    heading = f"{task.title[:1].upper()}{task.title[1:]}"
    return (
        f"### {heading}\n\nPoints above `{ENUMERATE}`, tuned alike; {task.score}:\n\n{differences_markdown(task)}\n"
        f"![{heading}: points above enumerate](../bench/results/evidence_{task.name}.png)\n\n"
        f"Scores in hundredths, mean ± standard deviation over the seeds:\n\n{scores_markdown(task)}"
    )


def differences_markdown(task: TaskResults) -> str:
    """Returns the points of each arm above `enumerate`, and on the mean above what else it is compared with."""
    lines = [["arm", "seeds", *SCORES.values(), "mean, above its base"]]
    for arm in task.arms:
        if arm == ENUMERATE:
            continue
        gains = [task.gain(arm, score=score) for score in SCORES]
        base = task.bases.get(arm, ENUMERATE)
        beside = "" if base == ENUMERATE else f"{gain_text(task.gain(arm, base))}, `{base}`"
        lines.append([f"`{arm}`", str(gains[0].seeds), *map(gain_text, gains), beside])
    return markdown_table(lines)


def scores_markdown(task: TaskResults) -> str:
    """Returns the scores of each arm, its setting, and how its gradients lay."""
    lines = [["arm", "seeds", *SCORES.values(), "most often worst", "setting chosen", "pairs in conflict", "ratio"]]
    for arm, rows in task.runs.groupby("arm", sort=False):
        name = str(arm)
        scores = [_spread(100 * rows[score]) for score in SCORES]
        conflicts, ratio = _range([task.conflicts(name)], "{:.1f} %"), _range([task.ratio(name)], "{:.1f}")
        worst, setting = rows["worst_subset"].mode()[0], setting_text(rows["setting"].iloc[0])
        lines.append([f"`{name}`", str(len(rows)), *scores, worst, setting, conflicts, ratio])
    return markdown_table(lines)


def knob_section(name: str, cells: list[TaskResults]) -> str:
    """Returns the table of the cells of a group, points of each surgery above `enumerate`, and its picture."""
    keys = list(cells[0].knob)
    arms = [arm for arm in SURGERY if any(arm in cell.arms for cell in cells)]
    lines = [[*keys, "seeds", "pairs in conflict", "ratio measured", f"`{ENUMERATE}`", *(f"`{arm}`" for arm in arms)]]
    for cell in cells:
        scores = cell.runs.loc[cell.runs["arm"] == ENUMERATE, "mean"]
        facts = [_range([cell.conflicts(GMD)], "{:.0f} %"), _range([cell.ratio(GMD)], "{:.1f}"), _spread(100 * scores)]
        gains = [gain_text(cell.gain(arm)) for arm in arms]
        lines.append([*(f"{cell.knob[key]:g}" for key in keys), str(cell.runs["seed"].nunique()), *facts, *gains])
    return (
        f"{markdown_table(lines)}\n![Points above enumerate in each cell of {name}]"
        f"(../bench/results/evidence_{name}_cells.png)\n"
    )


def gain_text(gain: Gain) -> str:
    """Returns a mean difference and its interval; bold if that excludes 0, nothing where there is none."""
    if not gain.seeds:
        return ""
    mean, low, high = (f"{round(value, 2) + 0:+.2f}" for value in gain[:3])  # + 0: there is no -0
    if gain.seeds == 1:
        return f"{mean} (one seed)"
    text = f"{mean} ({low} to {high})"
    return f"**{text}**" if gain.sign else text


def setting_text(setting: str) -> str:
    """Returns the options of a setting as people read them: `lr 0.01, weight decay 0`; of many weights the first."""
    values = {name.replace("_", " "): value for name, value in json.loads(setting).items()}
    texts = {name: " ".join(map(str, v)) if isinstance(v, list) else v for name, v in values.items()}
    return ", ".join(f"{name} {shown(text, MOST_OF_A_VALUE)}" for name, text in texts.items())


def _spread(values: pd.Series) -> str:
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}" if len(values) > 1 else f"{values.mean():.1f}"
