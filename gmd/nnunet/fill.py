"""`gmd nnunet fill`: files of zeros for the channels that the cases of a raw data set lack."""

import tempfile
from pathlib import Path

from gmd.errors import UserError
from gmd.files import replacing
from gmd.nnunet.channels import DATASET_JSON
from gmd.nnunet.raw_cases import RawCase, RawDataset, check_numbers, group_cases, read_dataset
from gmd.nnunet.read_case import readable

FOLDERS = ("imagesTr", "imagesTs")
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".gipl")  # of volumes, as nnU-Net and SimpleITK both know them


def fill(folder: Path) -> dict[str, int]:
    """Writes an image of zeros, uint8, for each channel that a case in imagesTr or imagesTs has no file of.

    Its grid is that of the case's first file. No file that is there is changed.

    folder: that of a data set in nnU-Net's raw layout, with its dataset.json
    returns the name of each channel that some case lacked -> how many files were written for it
    Raises UserError, before anything is written: no such data set, a format without a grid, a file whose number is of
        no channel; while it is written: a file that cannot be read.
    """
    dataset = read_dataset(folder / DATASET_JSON)
    if dataset.ending not in ENDINGS:
        raise UserError(f"{dataset.path}: file_ending: got {dataset.ending}, expected one of {', '.join(ENDINGS)}")
    folders = [folder / name for name in FOLDERS if (folder / name).is_dir()]
    cases = [case for images in folders for case in group_cases(images, dataset.ending)]
    if not cases:
        raise UserError(f"{folder}: no images of the kind CASE_0000{dataset.ending} in {' or '.join(FOLDERS)}")
    for case in cases:
        check_numbers(case, dataset.channels)
    written = dict.fromkeys(dataset.channels, 0)
    for case in cases:
        for index in _fill_case(case, dataset):
            written[dataset.channels[index]] += 1
    return {name: count for name, count in written.items() if count}


def _fill_case(case: RawCase, dataset: RawDataset) -> list[int]:
    """Writes the absent channels of a case, and returns their numbers."""
    absent = [index for index in range(len(dataset.channels)) if index not in case.files]
    like = next(iter(case.files.values()))
    for index in absent:
        write_zeros(like, like.with_name(f"{case.name}_{index:04d}{dataset.ending}"))
    return absent


def write_zeros(like: Path, path: Path) -> None:
    """Writes an image of zeros, uint8, with the grid of another file, whole or not at all.

    Raises UserError if the other cannot be read, or if something is at `path`.
    """
    import SimpleITK

    if path.exists():
        raise UserError(f"{path}: is there already; no file is written over")
    with readable(like):
        image = SimpleITK.ReadImage(str(like))
    zeros = SimpleITK.Image(image.GetSize(), SimpleITK.sitkUInt8)
    zeros.CopyInformation(image)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / f"zeros{''.join(path.suffixes[-2:])}"
        SimpleITK.WriteImage(zeros, str(whole), useCompression=True)
        with replacing(path) as unfinished:
            unfinished.write_bytes(whole.read_bytes())
