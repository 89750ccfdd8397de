"""The tables of what an evaluation measured beside Dice and HD95, among the other results."""

from collections.abc import Sequence
from pathlib import Path

from gmd.config.metrics import Metrics
from gmd.evaluation.results_folder import write_texts
from gmd.scoring.segmentation.further_tables import further_csv, further_markdown
from gmd.scoring.segmentation.tables import Score
from gmd.training.run_files import FURTHER_TABLES, remove_files


def write_further(
    folder: Path, scores: Sequence[Score], metrics: Metrics, modalities: Sequence[str], data: Path | None = None
) -> list[Path]:
    """Writes `other_metrics.md` and `other_metrics.csv`, and returns their paths; those from before are removed.

    folder: of the results
    metrics: without any beside Dice and HD95, nothing is written
    modalities: those of the run
    data: what the results are about, as in `write_texts`
    Raises OSError if a table cannot be written.
    """
    remove_files(folder, FURTHER_TABLES)
    if not metrics.further:
        return []
    texts = (further_markdown(scores, metrics, modalities), further_csv(scores, metrics, modalities))
    return write_texts(folder, dict(zip(FURTHER_TABLES, texts, strict=True)), data)[-len(texts) :]
