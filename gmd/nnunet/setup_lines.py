"""`gmd nnunet setup`: the lines that make nnU-Net train and predict with missing channels, and what a step costs."""

import os
import shlex

from gmd.errors import UserError
from gmd.nnunet import installation
from gmd.nnunet.trainer_folder import TRAINERS, VARIABLE, check_folders

# steps of 2 patches of 24 x 28 x 24 voxels, 4 channels, one CPU, as multiples of nnUNetTrainer's: docs/nnunet.md
TRAINERS_OFFERED = {
    "nnUNetTrainerGMDDropout": "one random subset of the channels a step: the cheapest",
    "nnUNetTrainerGMDEnumerate": "the mean of the losses of all subsets: to try first",
    "nnUNetTrainerGMD": "gradient surgery on the losses of all subsets",
    "nnUNetTrainerGMDJoint": "all channels only: what the others are compared with",
}


def setup_lines() -> list[str]:
    """Returns the lines to read: whether nnU-Net can be used here, what to set, what to type, what it costs."""
    return [
        *_state(),
        "",
        "Where things lie; nnU-Net needs the last one for predictions too, so all four belong into ~/.bashrc:",
        "  export nnUNet_raw=$HOME/nnunet/raw",
        "  export nnUNet_preprocessed=$HOME/nnunet/preprocessed",
        "  export nnUNet_results=$HOME/nnunet/results",
        f"  export {VARIABLE}={shlex.quote(str(TRAINERS))}",
        "",
        "From a folder of BraTS to a prediction without a channel; your own raw data set needs gmd nnunet fill instead",
        "of the first line. Memory: the networks of all channels work at once, so plan with a smaller target, in GB:",
        "  gmd nnunet export BraTS2021 -o $nnUNet_raw/Dataset501_Tumour",
        "  nnUNetv2_plan_and_preprocess -d 501 -c 3d_fullres --verify_dataset_integrity -gpu_memory_target 3 \\",
        "      -overwrite_plans_name nnUNetPlansGMD",
        "  nnUNetv2_train 501 3d_fullres 0 -p nnUNetPlansGMD -tr nnUNetTrainerGMDEnumerate",
        "  gmd nnunet evaluate -m $nnUNet_results/Dataset501_Tumour/"
        "nnUNetTrainerGMDEnumerate__nnUNetPlansGMD__3d_fullres -f 0",
        "  gmd nnunet predict -i new_cases -o segmentations -m $nnUNet_results/Dataset501_Tumour/"
        "nnUNetTrainerGMDEnumerate__nnUNetPlansGMD__3d_fullres",
        "Where nnUNetv2_train ends in an error of torchvision, gmd nnunet train with the same words does without it.",
        "",
        "Trainers:",
        *(f"  {name:26} {what}" for name, what in TRAINERS_OFFERED.items()),
    ]


def _state() -> list[str]:
    """Returns lines on whether nnU-Net can be used in this installation, and on what the variable is set to."""
    if not installation.is_installed():
        state = f"nnU-Net is not installed. It comes, and torch stays what it is, by: {installation.pip_line()}"
    else:
        state = installation.trouble() or "nnU-Net can be used here, with the trainers of gmd."
    given = os.environ.get(VARIABLE)
    try:
        check_folders(given or "")
    except UserError as error:
        return [state, str(error)]
    set_to = f"is {given}" if given else "is not set"
    missing = "" if given and str(TRAINERS) in given.split(os.pathsep) else ": nnU-Net does not find them yet"
    return [state, f"{VARIABLE} {set_to}{missing}"]
