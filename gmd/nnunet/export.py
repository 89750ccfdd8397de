"""`gmd nnunet export`: cases in the layout of BraTS, or any other that gmd knows, as a raw data set of nnU-Net."""

import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from tqdm import tqdm

from gmd.config import TrainBrats
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.data_sets import WHOLE, find_all
from gmd.data.segmentation.label_map import region_values
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.labels import region_targets
from gmd.data.segmentation.nifti import Volume
from gmd.data.segmentation.volumes import read_files
from gmd.errors import UserError
from gmd.evaluation.segmentation.failed_case import why_failed
from gmd.files import making_folder
from gmd.nnunet.channels import DATASET_JSON
from gmd.output_paths import check_folder

ENDING = ".nii.gz"
COMPRESSION = 4  # gzip's level: a third of the time of gzip's own 9, for files one per cent larger
_NAME = re.compile(r"Dataset\d{3}_.+")


class Exported(NamedTuple):
    """What was written: how many cases to train on and to test, and those that could not be used, name -> why."""

    training: int
    test: int
    failed: dict[str, str]


def export(config: TrainBrats) -> Exported:
    """Writes the cases of a data set as nnU-Net wants them, into a new folder, which appears when all is written.

    Cases in a folder `test` of the data become imagesTs and labelsTs, all others imagesTr and labelsTr. Channels are
    the modalities in their order; one that a case lacks is an image of zeros. Images are turned to RAS+, float32, 0
    outside the brain mask if there is one, so that all files of a case have one grid, bit by bit. Label values become
    consecutive, as nnU-Net wants them, and regions are kept.

    config: says where the data are and how they are named, as for `gmd train brats`; `out` is the folder, DatasetNNN_X
    Raises UserError: a name that nnU-Net does not take, a folder that is there, data that cannot be found, no case that
        can be used.
    """
    out = Path(config.out)
    if not _NAME.fullmatch(out.name):
        raise UserError(
            f"-o: got {out}, expected nnU-Net's form of a name, Dataset and three digits: Dataset501_Tumour"
        )
    check_folder(out, "-o")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: is there already and not empty; give another number, or delete it")
    [found] = find_all(config.data_sets())
    numbers = consecutive_values(found.scheme)
    failed: dict[str, str] = {}
    with making_folder(out) as unfinished:
        written = {
            split: _write_cases(unfinished, split, cases, config.modalities, numbers, failed)
            for split, cases in found.cases.items()
        }
        test = written.pop("test", 0)
        if not (training := sum(written.values())):
            raise UserError(f"{out}: no case to train on. {next(iter(failed.values()), 'All are in the folder test')}")
        content = dataset_json(config.modalities, found.scheme, training)
        (unfinished / DATASET_JSON).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return Exported(training, test, failed)


def consecutive_values(scheme: LabelScheme) -> dict[int, int]:
    """Returns the label values of a scheme's regions, each with the number that it gets: 1, 2, ..., outer ones first.

    BraTS 2018-2021: oedema 2 becomes 1, core 1 becomes 2, enhancing 4 becomes 3. Values of no region are background.
    """
    regions = scheme.regions.values()
    values = list(dict.fromkeys(value for own in regions for value in own))
    by_depth = sorted(values, key=lambda value: sum(value in own for own in regions))
    return {value: number for number, value in enumerate(by_depth, start=1)}


def dataset_json(modalities: tuple[str, ...], scheme: LabelScheme, training: int) -> dict[str, Any]:
    """Returns what nnU-Net's dataset.json says of the data: channels, labels or regions, and how many cases."""
    numbers = consecutive_values(scheme)
    regions = {name: sorted(numbers[value] for value in own) for name, own in scheme.regions.items()}
    alone = all(len(own) == 1 for own in regions.values())
    labels: Mapping[str, Any] = {name: own[0] for name, own in regions.items()} if alone else regions
    order = {} if alone else {"regions_class_order": [numbers[value] for value in region_values(scheme)]}
    told = ", ".join(f"{value} ({scheme.meanings[value]}) became {number}" for value, number in numbers.items())
    return {
        "channel_names": {str(index): name for index, name in enumerate(modalities)},
        "labels": {"background": 0, **labels},
        **order,
        "numTraining": training,
        "file_ending": ENDING,
        "description": f"Label values of {scheme.name}: {told}",
    }


def _write_cases(
    out: Path,
    split: str,
    cases: list[Case],
    modalities: tuple[str, ...],
    numbers: dict[int, int],
    failed: dict[str, str],
) -> int:
    """Writes the cases of a split, and returns how many; those that cannot be used go to `failed`."""
    folder = "Ts" if split == "test" else "Tr"
    for kind in ("images", "labels"):
        (out / f"{kind}{folder}").mkdir(exist_ok=True)
    done = 0
    for case in tqdm(cases, desc=split if split != WHOLE else "cases", unit="case"):
        try:
            volumes = read_files(case)
            labels = _relabelled(case, volumes["seg"].data, numbers)
        except (UserError, MemoryError) as error:
            failed[case.name] = why_failed(error)
            continue
        affine = next(iter(volumes.values())).affine
        for index, modality in enumerate(modalities):
            data = _channel(volumes, modality, labels.shape)
            _write(out / f"images{folder}" / f"{case.name}_{index:04d}{ENDING}", data, affine)
        _write(out / f"labels{folder}" / f"{case.name}{ENDING}", labels, affine)
        done += 1
    return done


def _channel(volumes: dict[str, Volume], modality: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a modality, float32 [X, Y, Z] and 0 outside the mask; zeros, uint8, if the case lacks it."""
    if modality not in volumes:
        return np.zeros(shape, np.uint8)
    data = volumes[modality].data
    return np.where(volumes["mask"].data > 0.5, data, 0).astype(np.float32) if "mask" in volumes else data


def _relabelled(case: Case, labels: np.ndarray, numbers: dict[int, int]) -> np.ndarray:
    """Returns a label map with consecutive values, uint8 [X, Y, Z]. Raises UserError for a value that is unknown."""
    assert case.scheme is not None, "which find_all gives"
    region_targets(labels, case.scheme, str(case.label))  # checks the values
    whole = np.rint(labels)
    result = np.zeros(labels.shape, np.uint8)
    for value, number in numbers.items():
        result[whole == value] = number
    return result


def _write(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Writes an image whose two kinds of orientation agree, as SimpleITK wants it; the same image, the same bytes."""
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    path.write_bytes(gzip.compress(image.to_bytes(), COMPRESSION, mtime=0))
