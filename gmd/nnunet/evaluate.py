"""`gmd nnunet evaluate`: the table of all subsets of the channels, of a model that nnU-Net has trained."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from gmd.config import TrainBrats
from gmd.data.segmentation.label_map import regions_of
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.text_files import brief, read_json
from gmd.errors import UserError
from gmd.evaluation.results_folder import write_texts
from gmd.evaluation.segmentation.failed_case import why_failed
from gmd.evaluation.segmentation.single_run import ABOUT_HD95, counted, failures
from gmd.evaluation.shapley import OF_DICE, with_contributions
from gmd.files import real_path
from gmd.nnunet.model import CHECKPOINT, Model, find_model, is_ours, load_predictor
from gmd.nnunet.predict import segment
from gmd.nnunet.raw_cases import RawCase, RawDataset, check_order, group_cases
from gmd.nnunet.read_case import ReadCase, check_nifti, read_case, readable, without
from gmd.output_paths import check_folder
from gmd.printing import say
from gmd.scoring.segmentation.metrics import hard_dice, hausdorff95
from gmd.scoring.segmentation.shapley import case_contributions
from gmd.scoring.segmentation.tables import Score, cases_csv, hd95_markdown, subset_table, table_csv, table_markdown
from gmd.scoring.table_text import markdown_text
from gmd.subsets import all_subsets

if TYPE_CHECKING:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


class Labelled(NamedTuple):
    """Cases to score: their images, the folder of their label maps, and where they come from, in words."""

    cases: list[RawCase]
    labels: Path
    source: str


def evaluate(
    folder: Path,
    fold: str,
    images: Path | None = None,
    labels: Path | None = None,
    out: Path | None = None,
    checkpoint: str = CHECKPOINT,
    tta: bool = True,
    device: str = "auto",
) -> int:
    """Scores a model with every subset of its channels, as `gmd nnunet predict` would segment from that subset.

    Prints the tables, and writes `table.md`, `table.csv`, `cases.csv` and `shapley.csv`. A case is scored for the
    subsets of the channels that it has; a file of zeros is none. Voxels with nnU-Net's label `ignore` count for
    nothing.

    Args:
        folder: that of the model, TRAINER__PLANS__CONFIGURATION.
        fold: the model to score; a number, or `all` with `images` and `labels`.
        images, labels: folders of other cases, CASE_0000.nii.gz and so on, and CASE.nii.gz; by default those that the
            fold did not train on, found by nnU-Net's variables.
        out: folder for the tables; by default `gmd_evaluation` in that of the fold.
        checkpoint, tta, device: as in `gmd.nnunet.predict.predict`.

    returns the exit status: 0; 1 if a case could not be scored
    Raises UserError: what `find_model` and `load_predictor` raise, cases that are not there, and if nothing was scored.
    """
    model = find_model(Path(folder), (fold,), checkpoint)
    labelled = _labelled(model, fold, images, labels)
    out = Path(out) if out else model.folder / f"fold_{fold}" / "gmd_evaluation"
    check_folder(out, "-o")
    on = TrainBrats((out,), device=device).torch_device()  # checks the name of a device as every command does
    predictor = load_predictor(model, tta, on)
    scores, failed = _score(predictor, model.dataset, labelled)
    if not scores:
        raise UserError(f"{folder}: nothing was scored. {failures(failed, len(failed))}")
    texts = _texts(model, labelled, scores, failed, tta, is_ours(predictor))
    written = write_texts(out, texts)
    say(*texts["table.md"].split("\n"), *written)
    return 1 if failed else 0


def scheme_of(dataset: RawDataset) -> LabelScheme:
    """Returns the regions of a dataset.json, each with its label values; a label alone is a region of one value."""
    regions: dict[str, tuple[int, ...]] = {}
    for name, values in dataset.labels.items():
        own = tuple(values) if isinstance(values, list) else (values,)
        if not all(type(value) is int and 0 <= value < 256 for value in own):
            raise UserError(f"{dataset.path}: labels: {name}: got {brief(values)}, expected numbers from 0 to 255")
        if name != "ignore" and set(own) != {0}:
            regions[name] = own
    meanings = {value: str(value) for own in regions.values() for value in own}
    return LabelScheme("nnU-Net", {0: "background"} | meanings, regions)


def _labelled(model: Model, fold: str, images: Path | None, labels: Path | None) -> Labelled:
    """Returns the cases to score. Raises UserError if they are not there, or without a label map."""
    if images is None and labels is None:
        raw, names = _held_out(model, fold)
        return _with_labels(raw / "imagesTr", raw / "labelsTr", model, names, f"the validation cases of fold {fold}")
    if images is None or labels is None:
        raise UserError("--images and --labels: got one of them; other cases need both, images and label maps")
    for place in (images, labels):
        if not place.is_dir():
            raise UserError(f"{place}: there is no such folder; give one with images, and one with label maps")
    check_order(model.dataset, images)
    return _with_labels(images, labels, model, [], markdown_text(real_path(images)))


def _with_labels(images: Path, labels: Path, model: Model, names: Sequence[str], source: str) -> Labelled:
    """Returns the cases of these names, or all if none are given. Raises UserError for what of them is not there."""
    ending = model.dataset.ending
    there = {case.name: case for case in group_cases(images, ending)} if images.is_dir() else {}
    wanted = list(names) or list(there)
    absent = [name for name in wanted if name not in there or not (labels / f"{name}{ending}").is_file()]
    if absent or not wanted:
        which = f"of {absent[0]}" if absent else f"such as CASE_0000{ending}"
        raise UserError(f"{images}: no image or label map {which}; labels are looked for in {labels}")
    return Labelled([there[name] for name in wanted], labels, source)


def _held_out(model: Model, fold: str) -> tuple[Path, list[str]]:
    """Returns the raw data set of a model and the cases that a fold did not train on, by nnU-Net's own files.

    Raises UserError if a variable of nnU-Net is not set, or if what should be there is not.
    """
    name = real_path(model.folder).parent.name
    places = {}
    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        if not os.environ.get(variable):
            raise UserError(
                f"{variable} is not set, by which the cases are found; set it, or give --images and --labels"
            )
        places[variable] = Path(os.environ[variable]) / name
        if not places[variable].is_dir():
            raise UserError(f"{places[variable]}: there is no such folder; give --images and --labels")
    path = places["nnUNet_preprocessed"] / "splits_final.json"
    splits = read_json(path) if path.is_file() else None
    if not fold.isdigit() or not isinstance(splits, list) or int(fold) >= len(splits):
        raise UserError(f"{path}: tells no cases that fold {fold} has not seen; give --images and --labels")
    held_out = splits[int(fold)].get("val") if isinstance(splits[int(fold)], dict) else None
    if not isinstance(held_out, list) or not held_out:
        raise UserError(f"{path}: fold {fold}: val: got {brief(held_out)}, expected names of cases")
    return places["nnUNet_raw"], [str(case) for case in held_out]


def _score(predictor: "nnUNetPredictor", dataset: RawDataset, labelled: Labelled) -> tuple[list[Score], dict[str, str]]:
    """Scores all cases, and returns the scores and those that could not be scored: name -> why."""
    scores: list[Score] = []
    failed: dict[str, str] = {}
    scheme = scheme_of(dataset)
    reader = predictor.plans_manager.image_reader_writer_class()
    for case in tqdm(labelled.cases, desc="evaluation", unit="case"):
        try:
            read = read_case(reader.read_images, case, dataset.channels)
            truth = labelled.labels / f"{case.name}{dataset.ending}"
            check_nifti(truth)
            with readable(truth):
                target = reader.read_seg(str(truth))[0][0]
            if target.shape != read.data.shape[1:]:
                raise UserError(f"{truth}: has shape {target.shape}, its images {read.data.shape[1:]}")
            scores += list(_score_case(predictor, dataset, scheme, case.name, read, target))
        except (UserError, MemoryError, RuntimeError) as error:
            failed[case.name] = why_failed(error)
            say(f"gmd: {case.name} cannot be scored: {failed[case.name]}", error=True)
    return scores, failed


def _score_case(
    predictor: "nnUNetPredictor",
    dataset: RawDataset,
    scheme: LabelScheme,
    name: str,
    case: ReadCase,
    target: np.ndarray,
) -> Iterator[Score]:
    """Scores a case for each region and each subset of the channels that it has. target: labels [X, Y, Z]"""
    ignored = target == dataset.labels.get("ignore", -1)
    truth = regions_of(torch.from_numpy(np.where(ignored, 0, target).astype(np.uint8)), scheme)
    spacing = [float(size) for size in case.properties["spacing"]]
    for subset in all_subsets(case.present):
        labels = segment(predictor, without(case, dataset.channels, subset), case.properties)
        found = regions_of(torch.from_numpy(np.where(ignored, 0, labels).astype(np.uint8)), scheme)
        scored = zip(scheme.regions, hard_dice(found, truth), hausdorff95(found, truth, spacing), strict=True)
        yield from (Score(name, subset, *each) for each in scored)


def _texts(
    model: Model, labelled: Labelled, scores: Sequence[Score], failed: dict[str, str], tta: bool, ours: bool
) -> dict[str, str]:
    """Returns the files of an evaluation: name -> content."""
    channels, regions = model.dataset.channels, tuple(scheme_of(model.dataset).regions)
    rows = subset_table(scores, channels, regions)
    network = f"{model.checkpoint} of fold {model.folds[0]} of {markdown_text(real_path(model.folder).name)}"
    cases = counted(len(labelled.cases), failed)
    mirrored = "means over mirrored images" if tta else "no mirroring"
    lines = [f"Hard Dice, mean over {cases} of {labelled.source}; {network}, {mirrored}."]
    if not ours:
        lines.append("Note: this trainer has never seen a channel missing; absent channels are zeros to its network.")
    if failed:
        lines.append(failures(failed, len(labelled.cases)))
    dice, hd95 = (table(rows, channels, regions) for table in (table_markdown, hd95_markdown))
    texts = {
        "table.md": "\n".join([*lines, "", dice, ABOUT_HD95, "", hd95]),
        "table.csv": table_csv(rows, channels, regions),
        "cases.csv": cases_csv(scores),
    }
    return with_contributions(texts, case_contributions(scores, channels, regions), channels, OF_DICE, "case")
