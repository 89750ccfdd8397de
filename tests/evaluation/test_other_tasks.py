"""Runs of another task are refused in a line that says which task came, and which was expected."""

from pathlib import Path

import pytest

from gmd.config import TrainSentiment
from gmd.data.sequences.phantom import write_sentiment_phantom
from gmd.errors import UserError
from gmd.evaluation.segmentation import single_run as segmentation
from gmd.evaluation.sequences import single_run as sequences
from gmd.training.checkpoint import save_checkpoint
from gmd.training.run_folder import open_run
from gmd.training.tasks import open_task
from helpers.evaluation_cases import untrained_run


def untrained_sentiment(folder: Path) -> Path:
    """A run on made-up sentiment, as it stands after the first validation, but for the training."""
    write_sentiment_phantom(folder / "sentiment.npz", 40, 0)
    small = {"width": 16, "layers": 1, "heads": 2, "device": "cpu"}
    task = open_task(TrainSentiment(folder / "sentiment.npz", folder / "sentiment", **small))
    open_run(task.config, task.described())
    state = {"config": task.config.to_dict(), "network": task.build_network().state_dict(), "epochs": 1}
    save_checkpoint(task.config.out / "best.pt", state)
    return task.config.out


def test_a_run_on_sequences_does_not_segment(tmp_path: Path):
    """A bug: it went on to the data and failed at an option that the run does not have."""
    run = untrained_sentiment(tmp_path)
    with pytest.raises(UserError, match="trained on sentiment, which has no volumes to segment; give a run of brats"):
        segmentation.evaluate_run(run)
    assert not (run / "evaluation").exists()


def test_a_run_that_segments_has_no_sequences(phantoms: Path, tmp_path: Path):
    """A bug: as above."""
    (tmp_path / "data").symlink_to(phantoms)
    run = untrained_run(tmp_path)
    with pytest.raises(
        UserError,
        match="which has no sequences; give a run of sequences, sentiment, digits or classify",
    ):
        sequences.evaluate_run(run)
    assert not (run / "evaluation").exists()
