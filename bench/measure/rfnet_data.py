"""`python -m bench.measure.rfnet_data --data DIR`: real tumours as RFNet's `.npy` volumes, with lists and masks.

The data are six cases of BraTS 2015 of which FLAIR and T1c exist alone, in folders train, validation and test. They are
written as RFNet's preprocess.py does, t1 and t2 as channels of zeros, trained on for some steps, and scored. It is
a test of the way, not of the methods: two cases train.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from bench.measure.files import RESULTS, write_csv
from bench.measure.host import ROOT, host_columns
from gmd.cli import main as gmd
from gmd.data import SPLITS
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.npy_layout import CHANNELS
from gmd.data.segmentation.volumes import load_case, read_files
from gmd.files import replacing

CSV, WORK = RESULTS / "rfnet_data.csv", ROOT / "runs" / "rfnet_data"
THERE = ("flair", "t1ce")
PATTERNS = {"flair": "Flair_*.nii.gz", "t1ce": "T1c_*.nii.gz", "seg": "OTMultiClass.nii.gz", "mask": "brainmask.nii.gz"}
SMALLEST = 128  # voxels along each axis of their crop
LISTS = {"train": "train.txt", "validation": "val.txt", "test": "test.csv"}
# flair, t1ce, t1, t2; one for each test case
MASKS = ("[True, False, False, False]", "[False, True, False, False]")
METHODS = ("joint", "gmd")
OPTIONS = (
    *("--width", "0.125", "--patch", "64", "64", "64", "--device", "cpu"),
    *("--epochs", "2", "--steps-per-epoch", "10", "--validate-every", "2"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.measure.rfnet_data", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train, validation and test")
    parser.add_argument("--out", type=Path, default=CSV)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the volumes and the runs")
    options = parser.parse_args()
    brains = write_volumes(options.data, options.work)
    rows = [row for method in METHODS for row in measure(method, options.work)]
    write_csv(options.out, rows, brains | host_columns())


def write_volumes(data: Path, work: Path) -> dict[str, object]:
    """Writes the volumes and the lists of all splits.

    Returns how the brain that gmd finds in them agrees with the true one: the smallest share of its voxels in a case,
    and that of voxels which are not 0, as a reader would have it that takes the background for 0.
    """
    agree, not_zero = [], []
    for split in SPLITS:
        cases = find_cases(data / split, THERE, PATTERNS, scheme=SCHEMES["brats2015"])
        for case in cases:
            volumes = {key: volume.data for key, volume in read_files(case).items()}
            mask = volumes["mask"] > 0.5
            stacked = np.stack([above_zero(volumes[m], mask) if m in volumes else 0 * mask for m in CHANNELS])
            box = box_of(mask)
            save(work / "npy/vol" / f"{case.name}_vol.npy", z_scored(stacked[(slice(None), *box)]))
            save(work / "npy/seg" / f"{case.name}_seg.npy", volumes["seg"][box].round().astype(np.uint8))
            [written] = [each for each in find_cases(work / "npy") if each.name == case.name]
            agree.append(float((load_case(written)["brain"][0].numpy() == mask[box]).mean()))
            not_zero.append(float((np.load(written.images["flair"])[..., 0] != 0).mean()))
        write_list(work / LISTS[split], split, [case.name for case in cases])
    return {"brain_agrees": min(agree), "not_zero": min(not_zero)}


def above_zero(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns a normalised image as a scanner has it: above 0 in the brain, and 0 outside. [X, Y, Z] all"""
    return np.where(mask, image - image[mask].min() + 1, 0)


def box_of(mask: np.ndarray) -> tuple[slice, ...]:
    """Returns the brain's bounding box, SMALLEST voxels along each axis at least, as far as the volume goes."""
    box = []
    for axis in range(3):
        there = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        low, high = int(there[0]), int(there[-1]) + 1
        more = max(SMALLEST - (high - low), 0)
        low = max(low - more // 2, 0)
        box.append(slice(low, max(high, low + SMALLEST)))
    return tuple(box)


def z_scored(images: np.ndarray) -> np.ndarray:
    """Returns [X, Y, Z, C] float32, normalised everywhere by the voxels where the channels' sum is above 0.

    images: [C, X, Y, Z]; a channel of zeros stays one, where the published code has NaN.
    """
    mask = images.sum(axis=0) > 0
    result = images.astype(np.float32)
    for i in range(len(result)):
        if result[i].any():
            inside = result[i][mask]
            result[i] = (result[i] - inside.mean()) / inside.std()
    return result.transpose(1, 2, 3, 0)


def save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as unfinished:
        np.save(unfinished, array)


def write_list(path: Path, split: str, names: list[str]) -> None:
    """Writes a list as the field has it: names, and for the test cases IM-Fuse's table with a mask for each."""
    with replacing(path) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        if split == "test":
            lines.writerows([("case", "mask"), *zip(names, MASKS, strict=True)])
        else:
            lines.writerows([name] for name in names)


def measure(method: str, work: Path) -> list[dict[str, object]]:
    """Trains and scores a method, and returns the lines of its table: subset, Dice of each column, their mean."""
    run = work / method
    lists = [f"--{'val' if split == 'validation' else split}-list={work / name}" for split, name in LISTS.items()]
    if not (run / "last.pt").exists():
        arguments = ["train", "brats", "--data", str(work / "npy"), *lists, "--method", method, "--out", str(run)]
        _run([*arguments, *OPTIONS])
    _run(["evaluate", str(run), "--missing-list", str(work / LISTS["test"])])
    with open(run / "evaluation/table.csv", newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["WT"] != "absent"]
    columns = ("subset", "cases", "WT", "TC", "ET", "ET_postpro", "mean", "hd95_mean")
    return [{"method": method} | {column: line[column] for column in columns} for line in lines]


def _run(arguments: list[str]) -> None:
    """Runs a command of gmd. Raises RuntimeError if it fails."""
    if status := gmd(arguments):
        raise RuntimeError(f"gmd {' '.join(arguments)} ended with {status}")


if __name__ == "__main__":
    main()
