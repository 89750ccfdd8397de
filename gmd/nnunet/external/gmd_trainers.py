"""Lets nnU-Net find gmd's trainers by their names. They live elsewhere, since it forgets modules of this folder."""

from gmd.nnunet.trainers import (
    nnUNetTrainerGMD,
    nnUNetTrainerGMDDropout,
    nnUNetTrainerGMDEnumerate,
    nnUNetTrainerGMDJoint,
)

__all__ = ["nnUNetTrainerGMD", "nnUNetTrainerGMDDropout", "nnUNetTrainerGMDEnumerate", "nnUNetTrainerGMDJoint"]
