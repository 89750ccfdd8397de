"""What each modality adds to the scores of an evaluation: a table below the others, and one for programs."""

from collections.abc import Mapping, Sequence

from gmd.scoring.shapley import Contributions, shapley_csv, shapley_markdown
from gmd.training.run_files import SHAPLEY

OF_DICE = "no segmentation, which counts 0"
OF_PREDICTIONS = (
    "what always saying the same scores: the most frequent class, the more frequent sign, of an R2 the mean, which is 0"
)


def with_contributions(
    texts: Mapping[str, str], found: Sequence[Contributions], modalities: Sequence[str], of_nothing: str, noun: str
) -> dict[str, str]:
    """Returns the text files of an evaluation with a table more in `table.md`, and with `shapley.csv`.

    texts: name of the file -> content
    found: nothing, if there was nothing to compute them from; `shapley.csv` has no line then
    of_nothing: what the column `nothing` is, in words; noun: what is scored, "case" or "prediction"
    """
    table = texts["table.md"]
    if found:
        counts = sorted({one.scored for one in found})
        count = f"{counts[0]} {noun}{'s' * (counts[-1] > 1)}" if len(counts) == 1 else f"the {noun}s"
        about = (
            f"Shapley value of each modality, over {count} with all of them: what it adds to the score, mean over all "
            f"orders in which the modalities can be added to nothing. `nothing` is {of_nothing}; it and the values sum "
            "to `all`."
        )
        table = f"{table}\n{about}\n\n{shapley_markdown(found, modalities)}"
    return {**texts, "table.md": table, SHAPLEY: shapley_csv(found, modalities)}
