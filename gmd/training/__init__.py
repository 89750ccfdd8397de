"""Training: from a configuration to a trained run in its folder.

`train(config)` trains one run, `train_folds(config)` all runs of a cross-validation; both return folders. `loop` is
what one reads first: epochs, steps, validations, checkpoints. Beside it `state` is all that a checkpoint holds, `step`
one optimizer step, `methods` how its gradient comes about, `tasks` what is learnt from which data; `run_folder` opens
the folder of a run, which `run_mark` tells from other folders, `run_files` knows the files of, and `run_lock` keeps for
one writer; `saved_run` reads a run back.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gmd.training.folds import train_folds
    from gmd.training.loop import train

__all__ = ["train", "train_folds"]


def __getattr__(name: str) -> object:
    # on demand: those who only read a run back need not wait for what training imports
    if name == "train":
        from gmd.training.loop import train

        return train
    if name == "train_folds":
        from gmd.training.folds import train_folds

        return train_folds
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
