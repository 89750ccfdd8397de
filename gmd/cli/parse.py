"""Parses the command line and calls the function that does what it asks for.

The --help of a command is the docstring of its function, or of the class of its options and the text below each.
"""

from collections.abc import Sequence

import tyro

from gmd.cli import data, prediction, runs, training
from gmd.config import TASKS, TrainConfig

DESCRIPTION = """Gradient surgery for multimodal learning with missing modalities.

From nothing to a table of results, a report, and a segmentation:
  gmd phantom data/phantoms --cases 20 --shape 64 64 64
  gmd train brats --data data/phantoms --out runs/first --patch 64 64 64 --epochs 20
  gmd evaluate runs/first
  gmd predict runs/first --t1 a_t1.nii.gz --flair a_flair.nii.gz -o a_seg.nii.gz

The same for sequences of text, audio and vision:
  gmd phantom data/sentiment.npz --task sentiment
  gmd train sentiment --data data/sentiment.npz --out runs/second
  gmd evaluate runs/second"""


def run(arguments: Sequence[str]) -> int | None:
    """Parses a command and does it; returns its exit status or None. --help and unknown options raise SystemExit."""
    app, tasks = tyro.extras.SubcommandApp(), tyro.extras.SubcommandApp()
    app.command(data.phantom)
    app.command(tasks, name="train", help="Train a network: gmd train brats --data BraTS2021 --out runs/brats")
    for name, options in TASKS.items():
        tasks.command(name=name)(options)
    app.command(runs.evaluate)
    app.command(name="predict")(prediction.Predict)
    app.command(runs.compare)
    app.command(runs.report)
    app.command(data.convert)
    app.command(doctor)
    given = training.with_file(arguments)
    result = app.cli(prog="gmd", description=DESCRIPTION, args=given)
    if isinstance(result, TrainConfig):
        return training.train(result, given)
    return prediction.predict(result) if isinstance(result, prediction.Predict) else result


def doctor() -> int | None:
    """Say which kernels this installation has, what is missing, and why.

    Example: gmd doctor
    """
    from gmd.cli.doctor import main

    return main()
