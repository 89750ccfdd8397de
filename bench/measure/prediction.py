"""Full-volume prediction on the CPU: memory and time of `gmd predict`, and what all 15 subsets cost beside one.

    python -m bench.measure.prediction    # minutes; writes bench/results/prediction_cpu.csv

Each is measured on its hardest case. Memory is measured on a brain that fills the volume; the subsets on a brain of
real extent, for which the passes through the network take half as long. What is scored then are balls beside the truth,
as a trained network would find them: the noise of this one, which is not trained, would have thousands of surfaces.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TypeVar

import nibabel
import numpy as np
import torch
from torch import Tensor

from bench.measure.files import RESULTS, write_csv
from bench.measure.host import host_columns
from gmd.config import TrainBrats
from gmd.config.file import CONFIG, write_config
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.volumes import load_case
from gmd.models.unet3d import UNet3d
from gmd.scoring.segmentation.prediction import num_windows, predict_label_map, predict_modalities, present_volumes
from gmd.scoring.segmentation.scores import score_case
from gmd.training.checkpoint import save_checkpoint
from gmd.training.networks import build_network
from gmd.training.saved_run import load_run

SHAPE = (182, 218, 182)
WIDTH, PATCH = 0.5, (96, 96, 96)
FULL, REAL = 1.0, 0.8  # extent of the brain along each axis
ROUNDS = 3
MOST_MB, MOST_TIMES = 3000, 1.3  # the targets
COMMAND = "from gmd.cli import main; status = main(sys.argv[1:])"
TRUTH, APART = 25, 3  # radius of the whole tumour in voxels; how far beside it the modalities see it

Result = TypeVar("Result")


def main() -> int:
    """Prints and writes the figures; returns 1 if a target is missed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.measure.prediction", description=__doc__)
    parser.add_argument("--subsets", nargs=2, type=Path, metavar=("RUN", "CASE"), help="print one measurement only")
    options = parser.parse_args()
    if options.subsets:
        print(json.dumps(times_of_subsets(*options.subsets)))
        return 0
    with TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run")
        full, real = (Path(folder) / name for name in ("full", "real"))
        full_sides, real_sides = write_case(full, FULL), write_case(real, REAL)
        # each in a process of its own, whose peak is its own
        predicted = alone(COMMAND, "predict", run, full, "--out", full / "out.nii.gz", "--device", "cpu")
        command = ["-m", "bench.measure.prediction", "--subsets", str(run), str(real)]
        subsets = json.loads(subprocess.check_output([sys.executable, *command]))
    rows = [about(full_sides) | predicted, about(real_sides) | subsets]
    write_csv(RESULTS / "prediction_cpu.csv", rows, host_columns())
    peak, times = predicted["peak_MB"], subsets["times_one"]
    print(f"gmd predict: {peak:.0f} MB (at most {MOST_MB}) in {predicted['seconds']:.0f} s")
    print(f"all 15 subsets, scored: {times:.3f} times the cost of one (at most {MOST_TIMES})")
    return int(peak > MOST_MB or times > MOST_TIMES)


def about(sides: Sequence[int]) -> dict[str, object]:
    """Returns the columns that say what was predicted.

    sides: of the brain, in voxels
    """
    return {
        "size": "x".join(map(str, SHAPE)),
        "brain": "x".join(map(str, sides)),
        "modalities": len(BRATS_MODALITIES),
        "width": WIDTH,
        "patch": PATCH[0],
        "windows": len(BRATS_MODALITIES) * num_windows(sides, PATCH),
    }


def alone(code: str, *arguments: object) -> dict[str, float]:
    """Returns seconds, and the peak of resident memory in MB, of a Python process that does nothing else.

    The peak is Linux's own word (VmHWM): what wait4 says of a child is never less than its parent held when it was
    started. Raises CalledProcessError if `status`, which the code sets, is not 0.
    """
    start = perf_counter()
    code = f"import sys; {code}; print(open('/proc/self/status').read()); sys.exit(status)"
    told = subprocess.check_output([sys.executable, "-c", code, *map(str, arguments)], text=True)
    found = re.search(r"VmHWM:\s+(\d+) kB", told)
    assert found is not None, "Linux tells the peak of every process"
    return {"seconds": perf_counter() - start, "peak_MB": int(found[1]) * 1024 / 1e6}


def times_of_subsets(run: Path, folder: Path) -> dict[str, float]:
    """Returns the seconds of one prediction, and of all subsets from the same passes with their scores; medians."""
    config, network = load_run(run)
    assert isinstance(config, TrainBrats)
    assert isinstance(network, UNet3d)
    [case] = find_cases(folder)
    loaded = load_case(case)
    volumes = present_volumes(network, loaded)
    shifted = beside_the_truth(loaded["target"])
    taken = []
    for _ in range(ROUNDS):
        outputs, passes = timed(predict_modalities, network, volumes, config.patch, config.precision, True)
        _, fusion = timed(predict_label_map, outputs, config.label_scheme())
        _, scoring = timed(score_case, loaded, shifted, config.label_scheme(), True)
        taken.append((passes + fusion, passes + scoring))
    one, every = np.median(taken, axis=0)
    return {"one_seconds": one, "subsets_seconds": every, "times_one": every / one}


def timed(function: Callable[..., Result], *arguments: object) -> tuple[Result, float]:
    """Returns what the function returns, and the seconds that it takes."""
    start = perf_counter()
    result = function(*arguments)
    return result, perf_counter() - start


def beside_the_truth(target: Tensor) -> dict[str, Tensor]:
    """Returns logits, float32 [R, X, Y, Z], by modality: each sees the truth shifted in a direction of its own."""
    signs = target.float() * 2 - 1
    shifts = ((APART, 0, 0), (0, APART, 0), (0, 0, APART), (-APART, 0, 0))
    return {m: signs.roll(shift, (1, 2, 3)) for m, shift in zip(BRATS_MODALITIES, shifts, strict=True)}


def write_run(run: Path) -> Path:
    """Writes the folder of a run whose network is not trained, as `gmd predict` reads it; returns the folder."""
    config = TrainBrats((run,), run, labels=("brats2018",), width=WIDTH, patch=PATCH, device="cpu")
    torch.manual_seed(0)
    state = {"config": config.to_dict(), "network": build_network(config).state_dict()}
    write_config(run / CONFIG, config)
    save_checkpoint(run / "best.pt", state)
    return run


def write_case(folder: Path, extent: float) -> list[int]:
    """Writes an ellipsoid of noise and in it a tumour of three nested balls; returns the ellipsoid's sides in voxels.

    extent: the ellipsoid's fraction of the volume along each axis
    """
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE), indexing="ij", sparse=True)
    inside = x**2 + y**2 + z**2 <= extent**2
    half_x, half_y, half_z = ((n - 1) / 2 for n in SHAPE)
    distance = np.sqrt((half_x * x) ** 2 + (half_y * y) ** 2 + (half_z * z) ** 2)
    labels = np.select([distance < TRUTH / 3, distance < TRUTH / 2, distance < TRUTH], [4, 1, 2], 0)
    folder.mkdir()
    for modality in BRATS_MODALITIES:
        image = np.where(inside, rng.integers(1, 1000, SHAPE), 0).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / f"case_{modality}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), np.eye(4)), folder / "case_seg.nii.gz")
    return [int(np.ptp(indices)) + 1 for indices in np.nonzero(inside)]


if __name__ == "__main__":
    sys.exit(main())
