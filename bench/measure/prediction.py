"""Full-volume prediction on the CPU: memory and time of `gmd predict`, and what all 15 subsets cost beside one.

    python -m bench.measure.prediction    # minutes; writes bench/results/prediction_cpu.csv

Each against its hardest case. Memory: a brain that fills the volume. The subsets: a brain of real extent, of which the
passes through the network take half as long. What is scored then are balls beside the truth, as of a trained network:
the noise of this one, which is not trained, would have thousands of surfaces.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import nibabel
import numpy as np
import torch
from torch import Tensor

from bench.measure.files import RESULTS, write_csv
from bench.measure.host import host_columns
from gmd.config import TrainBrats
from gmd.config.file import CONFIG, write_config
from gmd.data.segmentation.cases import BRATS_MODALITIES, find_cases
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.volumes import load_case
from gmd.scoring.segmentation.prediction import fuse, num_windows, predict_modalities, present_volumes
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


def main() -> int:
    """Prints and writes the figures; 1 if a target is missed."""
    if sys.argv[1:2] == ["--subsets"]:
        print(json.dumps(times_of_subsets(Path(sys.argv[2]), Path(sys.argv[3]))))
        return 0
    with TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run")
        full, real = (Path(folder) / name for name in ("full", "real"))
        predicted, subsets = about(write_case(full, FULL)), about(write_case(real, REAL))
        # each in a process of its own, whose peak is its own
        predicted |= alone(COMMAND, "predict", run, full, "--out", full / "out.nii.gz", "--device", "cpu")
        command = ["-m", "bench.measure.prediction", "--subsets", run, real]
        subsets |= json.loads(subprocess.check_output([sys.executable, *command]))
    write_csv(RESULTS / "prediction_cpu.csv", [predicted, subsets], host_columns())
    peak, times = predicted["peak_MB"], subsets["times_one"]
    print(f"gmd predict: {peak:.0f} MB (at most {MOST_MB}) in {predicted['seconds']:.0f} s")
    print(f"all 15 subsets, scored: {times:.3f} times the cost of one (at most {MOST_TIMES})")
    return int(peak > MOST_MB or times > MOST_TIMES)


def about(sides: Sequence[int]) -> dict[str, object]:
    """sides: of the brain, in voxels"""
    return {
        "size": "x".join(map(str, SHAPE)),
        "brain": "x".join(map(str, sides)),
        "modalities": len(BRATS_MODALITIES),
        "width": WIDTH,
        "patch": PATCH[0],
        "windows": len(BRATS_MODALITIES) * num_windows(sides, PATCH),
    }


def alone(code: str, *arguments: object) -> dict[str, float]:
    """Seconds, and the peak of resident memory, of a Python process that does nothing else.

    Linux's own word (VmHWM): what wait4 says of a child is never less than its parent held when it was started.
    Raises CalledProcessError if `status`, which the code sets, is not 0.
    """
    start = perf_counter()
    code = f"import sys; {code}; print(open('/proc/self/status').read()); sys.exit(status)"
    told = subprocess.check_output([sys.executable, "-c", code, *map(str, arguments)], text=True)
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", told)[1])
    return {"seconds": perf_counter() - start, "peak_MB": peak * 1024 / 1e6}


def times_of_subsets(run: Path, folder: Path) -> dict[str, float]:
    """Seconds of one prediction, and of all subsets from the same passes and their scores; medians."""
    config, network = load_run(run)
    [case], _ = find_cases(folder)
    loaded = load_case(case, SCHEMES[config.labels])
    volumes = present_volumes(network, loaded)
    shifted = beside_the_truth(loaded["target"])
    taken = []
    for _ in range(ROUNDS):
        outputs, passes = timed(predict_modalities, network, volumes, config.patch, config.precision, True)
        _, fusion = timed(mask_of, outputs, volumes)
        _, scoring = timed(score_case, network, loaded, shifted, True)
        taken.append((passes + fusion, passes + scoring))
    one, every = np.median(taken, axis=0)
    return {"one_seconds": one, "subsets_seconds": every, "times_one": every / one}


def mask_of(outputs: dict[str, Tensor], volumes: dict[str, Tensor]) -> Tensor:
    """Of all modalities together, as `gmd predict` makes it."""
    return fuse(outputs, volumes) > 0


def timed(function: Callable, *arguments: object) -> tuple[object, float]:
    start = perf_counter()
    result = function(*arguments)
    return result, perf_counter() - start


def beside_the_truth(target: Tensor) -> dict[str, Tensor]:
    """Modality -> logits float32 [R, X, Y, Z]: each sees the truth a few voxels away, in a direction of its own."""
    signs = target.float() * 2 - 1
    shifts = ((APART, 0, 0), (0, APART, 0), (0, 0, APART), (-APART, 0, 0))
    return {m: signs.roll(shift, (1, 2, 3)) for m, shift in zip(BRATS_MODALITIES, shifts, strict=True)}


def write_run(run: Path) -> Path:
    config = TrainBrats(run, run, labels="brats2018", width=WIDTH, patch=PATCH, device="cpu")
    torch.manual_seed(0)
    state = {"config": config.to_dict(), "network": build_network(config).state_dict()}
    write_config(run / CONFIG, config)
    save_checkpoint(run / "best.pt", state)
    return run


def write_case(folder: Path, extent: float) -> list[int]:
    """An ellipsoid of noise, of this fraction of the volume along each axis, and a tumour of three nested balls.

    returns the ellipsoid's sides in voxels
    """
    rng = np.random.default_rng(0)
    grid = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE), indexing="ij", sparse=True)
    inside = sum(axis**2 for axis in grid) <= extent**2
    distance = np.sqrt(sum(((n - 1) / 2 * axis) ** 2 for n, axis in zip(SHAPE, grid, strict=True)))
    labels = np.select([distance < TRUTH / 3, distance < TRUTH / 2, distance < TRUTH], [4, 1, 2], 0)
    folder.mkdir()
    for modality in BRATS_MODALITIES:
        image = np.where(inside, rng.integers(1, 1000, SHAPE), 0).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / f"case_{modality}.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), np.eye(4)), folder / "case_seg.nii.gz")
    return [int(np.ptp(indices)) + 1 for indices in np.nonzero(inside)]


if __name__ == "__main__":
    sys.exit(main())
