"""`gmd nnunet`: the commands around nnU-Net, whose networks then segment with channels missing."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg
from tyro.extras import SubcommandApp

from gmd.config import TrainBrats
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.printing import say

DEFAULT = ("nnunet", "setup")  # what `gmd nnunet` alone does
Model = Annotated[Path, arg(aliases=["-m"])]
Out = Annotated[Path, arg(aliases=["-o"])]


def add_commands(app: SubcommandApp) -> None:
    """Adds the commands behind `gmd nnunet` to an app of their own."""
    for command in (setup, path, export, fill, predict, evaluate):
        app.command(command)
    app.command(name="train")(train_help)


def setup() -> None:
    """Print the lines to set and to type, whether nnU-Net can be used here, and what each trainer is for.

    Example: gmd nnunet setup
    """
    from gmd.nnunet.setup_lines import setup_lines

    say(*setup_lines())


def path() -> None:
    """Print the folder of the trainers, and nothing else: export nnUNet_extTrainer=$(gmd nnunet path)

    Example: gmd nnunet path
    """
    from gmd.nnunet.trainer_folder import TRAINERS

    say(TRAINERS)


def export(
    data: Positional[Path],
    out: Out,
    modalities: tuple[str, ...] = BRATS_MODALITIES,
    patterns: tuple[str, ...] = (),
    channels: tuple[str, ...] = (),
    labels: tuple[str, ...] = (),
) -> int:
    """Write cases in any layout that gmd train brats reads as a raw data set of nnU-Net.

    Modalities become channels, and those that a case lacks images of zeros; regions stay regions. Cases in a folder
    `test` become imagesTs. A case that cannot be used is told and left out; the exit status is 1 then.

    Example: gmd nnunet export BraTS2021 -o raw/Dataset501_Tumour

    Args:
        data: Folder of cases.
        out: The folder to write, nnUNet_raw/DatasetNNN_Name.
        modalities: The channels, in order; a case may lack any of them, but not all.
        patterns: For other file names than BraTS's: KEY=GLOB for each modality, seg (labels), mask (brain; optional).
        channels: For images that are numbered, the modality of each, in order; by default told by dataset.json.
        labels: Meaning of the label values, a name or a YAML file, as for gmd train brats; by default told by names.
    """
    from gmd.nnunet.export import export as write

    config = TrainBrats((data,), out=out, modalities=modalities, patterns=patterns, channels=channels, labels=labels)
    config.check_values()
    config.check_new()
    written = write(config)
    for name, reason in written.failed.items():
        say(f"left out: {name}: {reason}", error=True)
    number = out.name[len("Dataset") : len("Dataset000")]
    tests = f", {written.test} to test" if written.test else ""
    say(
        f"{written.training} cases to train on{tests}, in {out}; next: "
        f"nnUNetv2_plan_and_preprocess -d {number} -c 3d_fullres --verify_dataset_integrity"
    )
    return 1 if written.failed else 0


def fill(dataset: Positional[Path]) -> None:
    """Write files of zeros for the channels that cases of a raw data set of nnU-Net lack, in imagesTr and imagesTs.

    nnU-Net refuses a case with a channel missing; the trainers of gmd know what a channel of zeros means. No file that
    is there is changed.

    Example: gmd nnunet fill raw/Dataset501_Tumour

    Args:
        dataset: Folder of the data set, with its dataset.json.
    """
    from gmd.nnunet.fill import fill as write

    written = write(dataset)
    told = ", ".join(f"{count} of {name}" for name, count in written.items())
    say(f"files of zeros written: {told}" if told else "every case has all channels; nothing was written")


def predict(
    images: Annotated[Path, arg(aliases=["-i"])],
    out: Out,
    model: Model,
    folds: Annotated[tuple[str, ...], arg(aliases=["-f"])] = (),
    checkpoint: str = "checkpoint_final.pth",
    disable_tta: FlagCreatePairsOff[bool] = False,
    device: str = "auto",
) -> int:
    """Segment cases with a model of nnU-Net, from whatever channels there are: just leave out the file of one.

    What is written is what nnUNetv2_predict writes where the missing channels are files of zeros. Cases whose file is
    there are left out; one that cannot be used is told at the end, and the exit status is 1 then.

    Example: gmd nnunet predict -i new_cases -o segmentations -m
    results/Dataset501_Tumour/nnUNetTrainerGMD__nnUNetPlans__3d_fullres

    Args:
        images: Folder of CASE_0000.nii.gz, CASE_0001.nii.gz and so on, numbered as in training.
        out: Folder for CASE.nii.gz of each.
        model: Folder of the trained model, TRAINER__PLANS__CONFIGURATION.
        folds: Whose networks are averaged; by default all that are trained.
        checkpoint: The file in the folder of a fold: checkpoint_final.pth, checkpoint_best.pth.
        disable_tta: Do not average over mirrored images: in 3-D an eighth of the time, and a little less exact.
        device: auto: a GPU if there is one. Or cpu, cuda, cuda:1, ...
    """
    from gmd.nnunet.predict import predict as segment

    return segment(images, out, model, folds, checkpoint, not disable_tta, device)


def evaluate(
    model: Model,
    fold: Annotated[str, arg(aliases=["-f"])] = "0",
    images: Annotated[Path | None, arg(aliases=["-i"])] = None,
    labels: Path | None = None,
    out: Annotated[Path | None, arg(aliases=["-o"])] = None,
    checkpoint: str = "checkpoint_final.pth",
    disable_tta: FlagCreatePairsOff[bool] = False,
    device: str = "auto",
) -> int:
    """Score a model of nnU-Net with every subset of the channels: Dice and HD95 of each region or label.

    By default on the cases that the fold did not train on. A case that cannot be read is told and left out; the exit
    status is 1 then.

    Example: gmd nnunet evaluate -m results/Dataset501_Tumour/nnUNetTrainerGMD__nnUNetPlans__3d_fullres -f 0

    Args:
        model: Folder of the trained model, TRAINER__PLANS__CONFIGURATION.
        fold: The fold whose network is scored.
        images: Folder of other cases, CASE_0000.nii.gz and so on, with --labels.
        labels: Folder of their label maps, CASE.nii.gz.
        out: Folder for table.md, table.csv, cases.csv and shapley.csv; by default gmd_evaluation in the fold's folder.
        checkpoint: The file in the folder of the fold.
        disable_tta: Do not average over mirrored images: in 3-D an eighth of the time.
        device: auto: a GPU if there is one. Or cpu, cuda, cuda:1, ...
    """
    from gmd.nnunet.evaluate import evaluate as score

    return score(model, fold, images, labels, out, checkpoint, not disable_tta, device)


def train_help() -> None:
    """Train, with the words of nnUNetv2_train: works where that ends in an error of torchvision.

    Example: gmd nnunet train 501 3d_fullres 0 -tr nnUNetTrainerGMDEnumerate
    """
    raise AssertionError("gmd nnunet train is answered by `train` before options are parsed")


def train(arguments: Sequence[str]) -> int:
    """Runs nnU-Net's training with the words behind `gmd nnunet train`, which are nnU-Net's; returns its status."""
    from gmd.nnunet.train import train as run

    try:
        return run(arguments)
    except KeyboardInterrupt:
        again = shlex.join(["gmd", "nnunet", "train", *arguments, *(["--c"] if "--c" not in arguments else [])])
        say("", f"gmd: interrupted; nnU-Net goes on from its last checkpoint with: {again}", error=True)
        return 130
