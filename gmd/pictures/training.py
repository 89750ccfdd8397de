"""Draws how the training of a run went, from what its folder has recorded: curves.png and cosines.png."""

from pathlib import Path

from gmd.config.file import CONFIG, read_yaml
from gmd.monitor.metrics_file import METRICS, read_metrics
from gmd.pictures.cosines import draw_cosines
from gmd.pictures.curves import ValidationPanel, draw_curves


def draw_training(run: Path, validation: ValidationPanel) -> list[Path]:
    """Draws `curves.png` in the run's folder, and `cosines.png` of the last epoch that has any. Returns their paths.

    Raises UserError if no step has been recorded.
    """
    steps, epochs = read_metrics(run / METRICS)
    modalities = read_yaml(run / CONFIG)["modalities"]
    written = [draw_curves(steps, epochs, run / "curves.png", validation)]
    if compared := [step for step in steps if step["cosines"]]:
        last_epoch = [step for step in compared if step["epoch"] == compared[-1]["epoch"]]
        written.append(draw_cosines(last_epoch, modalities, run / "cosines.png"))
    return written
