"""`gmd nnunet train`: nnUNetv2_train, which finds our trainers without a variable, beside any torchvision."""

import os
import sys
from collections.abc import Sequence

from gmd.errors import UserError
from gmd.nnunet import installation
from gmd.nnunet.trainer_folder import use_trainers

VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def train(arguments: Sequence[str]) -> int:
    """Runs nnU-Net's own command in this process, and returns its exit status.

    arguments: those of nnUNetv2_train
    Raises UserError: what keeps nnU-Net from being used, a bad nnUNet_extTrainer, a variable that is not set.
    """
    unset = [name for name in VARIABLES if not os.environ.get(name)]
    if unset and not {"-h", "--help"}.intersection(arguments):
        raise UserError(f"{unset[0]} is not set, by which nnU-Net finds its files; gmd nnunet setup has the lines")
    installation.prepare()
    use_trainers()
    from nnunetv2.run.run_training import run_training_entry

    before = sys.argv
    sys.argv = ["nnUNetv2_train", *arguments]
    try:
        run_training_entry()
    finally:
        sys.argv = before
    return 0
