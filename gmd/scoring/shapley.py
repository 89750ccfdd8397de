"""What each modality adds to a score: its Shapley value, from the scores of all subsets, which an evaluation has.

Of modality m among M, v(S) the score of subset S:

    value(m) = sum over S without m of |S|! (M - |S| - 1)! / M! * (v(S + m) - v(S))

It is what m adds when its turn comes, mean over all orders in which the modalities can be added one by one (Shapley, "A
Value for n-Person Games", 1953). The values and v(nothing) sum up to v(all), so that v(nothing) has to be a number: the
score of a prediction that is the same whatever the sample.
"""

from collections.abc import Mapping, Sequence
from math import factorial
from pathlib import Path
from typing import NamedTuple

from gmd.data.text_files import EVALUATE_AGAIN, LARGEST, brief, damaged, read_csv
from gmd.errors import shown
from gmd.scoring.read_back import number, whole_number
from gmd.scoring.table_text import Line, csv_text, lines_markdown
from gmd.subsets import Subset, all_subsets

FIRST, LAST = ("score", "scored", "nothing"), "all"  # columns before and behind those of the modalities


class Contributions(NamedTuple):
    """What the modalities add to one score.

    Attributes:
        score: its name: the metric, or the region of a Dice.
        scored: over how many cases or predictions, each with all modalities.
        nothing: the score without a modality.
        values: modality -> its Shapley value.
        whole: the score with all modalities: `nothing` and all of `values` together.
    """

    score: str
    scored: int
    nothing: float
    values: dict[str, float]
    whole: float


def shapley_weights(modalities: Sequence[str]) -> dict[str, dict[Subset, float]]:
    """Returns modality -> subset -> the number that the subset's score is multiplied with in the modality's value.

    The score of nothing is multiplied with -1 / M in each, for M modalities.
    """
    count = len(modalities)
    # of a subset with s members: of the orders in which one of these comes behind the other s - 1
    behind = [0.0, *(factorial(s - 1) * factorial(count - s) / factorial(count) for s in range(1, count + 1)), 0.0]
    return {
        m: {
            subset: behind[len(subset)] if m in subset else -behind[len(subset) + 1]
            for subset in all_subsets(modalities)
        }
        for m in modalities
    }


def contributions(
    score: str, scored: int, nothing: float, by_subset: Mapping[Subset, float], modalities: Sequence[str]
) -> Contributions:
    """Returns what the modalities add to a score.

    score, scored, nothing: as in `Contributions`
    by_subset: every subset of the modalities -> its score, over the same cases or predictions
    """
    values = {
        m: sum(weight * by_subset[subset] for subset, weight in weights.items()) - nothing / len(modalities)
        for m, weights in shapley_weights(modalities).items()
    }
    return Contributions(score, scored, nothing, values, by_subset[tuple(modalities)])


def shapley_markdown(found: Sequence[Contributions], modalities: Sequence[str]) -> str:
    """Returns the table for people: a line for each score, three digits."""
    lines = [Line(one.score, None, None, [one.nothing, *one.values.values(), one.whole]) for one in found]
    return lines_markdown(lines, ["score"], "", ["nothing", *modalities, LAST])


def shapley_csv(found: Sequence[Contributions], modalities: Sequence[str]) -> str:
    """Returns the table for programs, with all digits; without a line if there was nothing to compute it from."""
    lines = [[one.score, one.scored, one.nothing, *one.values.values(), one.whole] for one in found]
    return csv_text([[*FIRST, *modalities, LAST], *lines])


def read_shapley(path: Path, modalities: Sequence[str]) -> list[Contributions]:
    """Reads a table that `shapley_csv` has written; nothing from an evaluation of an earlier gmd, which has none.

    modalities: those of the run
    Raises UserError, which names the line, for a table of something else, and for what is no number.
    """
    if not path.exists():
        return []
    lines = read_csv(path)
    _, header = next(lines)
    if header != [*FIRST, *modalities, LAST]:
        expected = ", ".join([*FIRST, *modalities, LAST])
        raise damaged(path, f"its columns are {shown(', '.join(header), 200)}, expected {expected}", EVALUATE_AGAIN)
    found: list[Contributions] = []
    for line, cells in lines:
        try:
            if any(one.score == cells[0] for one in found):
                raise ValueError(f"{brief(cells[0])} has a line before it already")
            scored = whole_number(cells[1], "the count")
            numbers = [number(*each, -LARGEST, LARGEST) for each in zip(cells[2:], header[2:], strict=True)]
        except ValueError as error:
            raise damaged(path, f"line {line}: {error}", EVALUATE_AGAIN) from error
        nothing, *values, whole = numbers
        found.append(Contributions(cells[0], scored, nothing, dict(zip(modalities, values, strict=True)), whole))
    return found
