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


def test_nothing_heavy_comes_with_the_package():
    code = (
        "import sys, gmd.training\n"
        "assert not {'gmd.training.loop', 'gmd.training.folds', 'monai', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
