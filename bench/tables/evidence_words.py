"""What the evidence says, in words that are made from its rows, so that no new run can contradict them."""

from collections.abc import Sequence

import pandas as pd
from scipy import stats

from bench.tables.bootstrap import Gain, excludes_by_chance
from bench.tables.evidence import DROPOUT, ENUMERATE, JOINT, SCORES, SURGERY, WEIGHTED, TaskResults, groups

FEWEST_FOR_A_RANK = 5  # data sets and cells
QUESTIONS = (
    ("Does training on all subsets pay?", ENUMERATE, JOINT),
    ("Do weights of subsets that were tuned pay?", WEIGHTED, ENUMERATE),
    ("Is a random subset as good as all of them?", DROPOUT, ENUMERATE),
    *((f"Does surgery pay, `{arm}`?", arm, ENUMERATE) for arm in SURGERY),
)


def summary(tasks: Sequence[TaskResults]) -> str:
    """Returns what was found, question by question: on the mean of the subsets, and for surgery on the other scores."""
    lines = [f"- **{question}** {answer(tasks, arm, base)}" for question, arm, base in QUESTIONS]
    others = dict.fromkeys(
        (arm, base)
        for task in tasks
        for arm, base in task.bases.items()
        if arm not in (JOINT, DROPOUT, ENUMERATE, WEIGHTED, *SURGERY)
    )
    lines += [f"- **Does `{arm}` pay, against `{base}`?** {answer(tasks, arm, base)}" for arm, base in others]
    return "\n".join([*lines, *elsewhere(tasks), *ranks(tasks), chance(tasks)]) + "\n"


def answer(tasks: Sequence[TaskResults], arm: str, base: str, score: str = "mean") -> str:
    """Returns what was found of an arm against another: where its interval excludes 0, and where nothing was."""
    gains = {task.name: task.gain(arm, base, score) for task in tasks}
    sets = {task.title: gains[task.name] for task in tasks if not task.group and gains[task.name].seeds}
    parts = [_of_data_sets(sets)]
    for name, cells in groups(tasks).items():
        parts.append(_of_cells(name, [gains[cell.name] for cell in cells if gains[cell.name].seeds]))
    told = " ".join(part for part in parts if part)
    return told or "Not measured."


def _of_data_sets(gains: dict[str, Gain]) -> str:
    """Returns a sentence on each sign of gains, by the titles of data sets; nothing for none."""
    if not gains:
        return ""
    by_sign = {sign: [title for title, gain in gains.items() if gain.sign == sign] for sign in (1, -1, 0)}
    found = []
    for sign, word in ((1, "more"), (-1, "less")):
        told = "; ".join(f"{title} ({points(gains[title])})" for title in by_sign[sign])
        found += [f"{word} on {len(by_sign[sign])}: {told}"] if told else []
    nothing = by_sign[0]
    if not found:
        return f"Nothing was found on any of {_count(len(gains), 'data set')}: {_listed(nothing)}."
    rest = f" Nothing was found on {_listed(nothing)}." if nothing else ""
    return f"Of {_count(len(gains), 'data set')}, {', and '.join(found)}.{rest}"


def _of_cells(name: str, gains: list[Gain]) -> str:
    """Returns a sentence on the cells of a group; nothing for none."""
    if not gains:
        return ""
    more, less = (sum(gain.sign == sign for gain in gains) for sign in (1, -1))
    means = [gain.mean for gain in gains]
    return (
        f"Of the {len(gains)} cells of {name}: more in {more}, less in {less}, nothing found in "
        f"{len(gains) - more - less}; {min(means):+.1f} to {max(means):+.1f} points."
    )


def elsewhere(tasks: Sequence[TaskResults]) -> list[str]:
    """Returns, for the scores besides the mean, how often surgery's interval is above and below 0."""
    lines = []
    for score in list(SCORES)[1:]:
        gains = [task.gain(arm, score=score) for task in tasks for arm in SURGERY if arm in task.arms]
        gains = [gain for gain in gains if gain.seeds]
        more, less = (sum(gain.sign == sign for gain in gains) for sign in (1, -1))
        lines.append(
            f"- **Surgery on another score: {SCORES[score]}**, against `{ENUMERATE}`. Of {len(gains)} comparisons, "
            f"more in {more}, less in {less}."
        )
    return lines


def ranks(tasks: Sequence[TaskResults]) -> list[str]:
    """Returns whether surgery gains more where more conflicts: rank correlations over all data sets and cells."""
    told = []
    for arm in SURGERY:
        pairs = [(task.conflicts(), task.gain(arm)) for task in tasks]
        known = [(rate, gain.mean) for rate, gain in pairs if gain.seeds and not pd.isna(rate)]
        rates, means = {rate for rate, _ in known}, {mean for _, mean in known}
        if len(known) >= FEWEST_FOR_A_RANK and len(rates) > 1 and len(means) > 1:
            rank, p = stats.spearmanr(*zip(*known, strict=True))
            told.append(f"`{arm}` {rank:+.2f} (p = {p:.2g}, {len(known)} of them)")
    if not told:
        return []
    return [
        "- **Does surgery gain more where more pairs conflict?** Rank correlation of conflict rate and gain over all "
        f"data sets and cells: {'; '.join(told)}. 0 is none; it says nothing of how much is gained."
    ]


def chance(tasks: Sequence[TaskResults]) -> str:
    """Returns how much of the above chance alone would show, with so few seeds and so many comparisons."""
    counts = sorted({int(n) for task in tasks for n in task.runs.groupby("arm")["seed"].nunique() if n > 1})
    gains = [task.gain(arm) for task in tasks for arm in SURGERY if arm in task.arms]
    gains = [gain for gain in gains if gain.seeds > 1]
    expected = sum(excludes_by_chance(gain.seeds) for gain in gains)
    found = sum(gain.sign != 0 for gain in gains)
    shares = ", ".join(f"{100 * excludes_by_chance(n):.0f} % with {n} seeds" for n in counts)
    return (
        "- **What chance would show:** intervals of few seeds are too narrow. Without any effect, an interval excludes "
        f"0 in {shares or 'no case'} (normal differences, simulated). Of the {len(gains)} comparisons of a surgery "
        f"with `{ENUMERATE}` on the {SCORES['mean']}, {found} exclude 0; chance alone would make about {expected:.0f} "
        "do so. None is corrected for their number."
    )


def points(gain: Gain) -> str:
    """Returns a gain in points with its interval."""
    return f"{gain.mean:+.1f} points, {gain.low:+.1f} to {gain.high:+.1f}"


def _listed(names: Sequence[str]) -> str:
    return "; ".join(names)  # there are commas in titles


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
