"""What several tests of training start from."""

from dataclasses import replace
from pathlib import Path

import pytest

from gmd.config import TrainSentiment
from gmd.training.loop import train
from helpers.run_cases import tiny_sentiment


@pytest.fixture
def trained(sentiment: Path, tmp_path: Path) -> TrainSentiment:
    """A run that has ended."""
    config = replace(tiny_sentiment(sentiment, tmp_path / "run"), epochs=1)
    train(config)
    return config
