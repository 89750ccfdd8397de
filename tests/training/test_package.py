"""`gmd.training` offers `train` and `train_folds`, and imports what they need when they are asked for."""

import subprocess
import sys

import pytest

import gmd.training
import gmd.training.folds
import gmd.training.loop


def test_the_package_offers_both_ways_to_train():
    assert gmd.training.train is gmd.training.loop.train
    assert gmd.training.train_folds is gmd.training.folds.train_folds
    with pytest.raises(AttributeError, match="no attribute 'trains'"):
        gmd.training.trains  # noqa: B018


@pytest.mark.parametrize("module", ["gmd.training", "gmd.report", "gmd.evaluation.compare.command"])
def test_nothing_heavy_comes_with_what_reads_runs(module: str):
    """A bug: the report of a run took two seconds longer, for what trains cross-validations."""
    code = (
        f"import sys, {module}\n"
        "assert not {'gmd.training.loop', 'gmd.training.folds', 'monai', 'tensorboard'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
