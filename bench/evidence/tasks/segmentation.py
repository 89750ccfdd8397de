"""Tumours and lesions in volumes: hard phantoms, and real ones by folds, small enough for two cores.

All are trained by `gmd train brats` with patches of 32^3 until `--patience` validations in a row have been no better
than the best before, or the steps are used up; the weights of the best validation are scored. The score of a subset is
the mean over the regions of hard Dice, mean over the test cases.

The real volumes are made smaller once, see `write_small`: that is for time, and no figure here can be set beside one of
the field's.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import nibabel as nib
import numpy as np

from bench.evidence.arms import JOINT, Settings, arms_on_one_network, seconds, settings
from bench.evidence.task import Outcome, Request, Task
from bench.evidence.tasks import by_command
from bench.evidence.tasks.shared_data import lacking, made_once
from bench.measure.arms import Arm
from bench.measure.rfnet_data import PATTERNS, above_zero
from bench.measure.sentiment import call_gmd
from gmd.config import TrainBrats
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.volumes import load_case, read_files
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.scoring.segmentation.scores import evaluate_cases
from gmd.scoring.segmentation.tables import subset_table
from gmd.subsets import Subset, subset_name
from gmd.training.saved_run import load_run, read_splits

SEEDS = 5
LRS = (0.003, 0.01, 0.03)
DECAY = 1e-5
OPTIONS: Mapping[str, object] = {"width": 0.125, "patch": (32, 32, 32), "no_check": True}
PHANTOM_SIDE, PHANTOM_CASES = 48, {"train": 16, "validation": 2, "test": 8}
FOLDS = 3
OPEN_MS = {
    "t1": "T1_*.nii.gz",
    "t1ce": "T1POST_*.nii.gz",
    "t2": "T2_*.nii.gz",
    "flair": "FLAIR_*.nii.gz",
    "seg": "GOLD_STANDARD_*.nii.gz",
}


@dataclass(frozen=True)
class Real:
    """A data set of real volumes.

    Attributes:
        folders: of its cases, in the folder of all data sets.
        modalities: that its cases have.
        patterns: of its files.
        scheme: of its labels.
        pooled: voxels along each axis that become one.
        box: voxels of the middle of the brain that are kept, after that; None: all of the brain.
    """

    folders: Sequence[str]
    modalities: Subset
    patterns: Mapping[str, str]
    scheme: str
    pooled: int
    box: tuple[int, int, int] | None = None


TUMOURS = Real(
    [f"brats15_two_modalities/{split}" for split in ("train", "validation", "test")],
    ("flair", "t1ce"),
    PATTERNS,
    "brats2015",
    pooled=3,
)
LESIONS = Real(["open_ms"], BRATS_MODALITIES, OPEN_MS, "binary", pooled=2, box=(48, 48, 32))


def run_phantoms(request: Request, *, options: Mapping[str, object]) -> Outcome:
    """Trains and scores one network on phantoms of the seed's own."""
    data = made_once(request.shared, f"seed {request.seed}", partial(write_hard_phantoms, seed=request.seed))
    return _trained_and_scored(request, data, BRATS_MODALITIES, options)


def write_hard_phantoms(folder: Path, seed: int) -> None:
    """Writes hard phantoms in three splits, which share no case with each other or with another seed's."""
    for number, (split, count) in enumerate(PHANTOM_CASES.items()):
        draw, side = str(len(PHANTOM_CASES) * seed + number), str(PHANTOM_SIDE)
        options = ("--kind", "hard", "--cases", str(count), "--shape", side, side, side, "--seed", draw)
        call_gmd("phantom", str(folder / split), *options)


def run_real(request: Request, *, real: Real, options: Mapping[str, object]) -> Outcome:
    """Trains and scores one network on a fold: three seeds in a row are the three folds of one draw of the patients."""
    data = made_once(request.shared, "small", partial(write_small, data=request.data, real=real))
    fold = {"folds": FOLDS, "fold": request.seed % FOLDS, "labels": real.scheme}
    of_draw = request._replace(seed=request.seed // FOLDS)
    return _trained_and_scored(of_draw, data, real.modalities, {**options, **fold})


def write_small(folder: Path, *, data: Path, real: Real) -> None:
    """Writes small volumes in BraTS's layout: cropped to the brain, means of blocks of voxels, labels of each block's
    first voxel; 0 outside the brain."""
    for cases_of in real.folders:
        for case in find_cases(data / cases_of, real.modalities, dict(real.patterns), scheme=SCHEMES[real.scheme]):
            volumes = read_files(case)
            brain = load_case(case)["brain"][0].numpy() > 0
            box = box_of(brain, real)
            step = real.pooled
            labels = volumes["seg"].data.round().astype(np.uint8)[box][::step, ::step, ::step]
            small = {m: pooled(above_zero(volumes[m].data, brain)[box], step) for m in real.modalities}
            (folder / case.name).mkdir()
            for key, values in {**small, "seg": labels}.items():
                affine = np.diag([step, step, step, 1.0])
                nib.save(nib.Nifti1Image(values, affine), folder / case.name / f"{case.name}_{key}.nii.gz")


def box_of(brain: np.ndarray, real: Real) -> tuple[slice, ...]:
    """Returns the brain's bounding box, or as much of its middle as is kept; its sides are whole blocks of voxels."""
    box = []
    for axis in range(3):
        there = np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))
        low, size = int(there[0]), int(there[-1]) + 1 - int(there[0])
        kept = min(size, real.box[axis] * real.pooled) if real.box else size
        kept -= kept % real.pooled
        first = low + (size - kept) // 2
        box.append(slice(first, first + kept))
    return tuple(box)


def pooled(image: np.ndarray, step: int) -> np.ndarray:
    """Returns the means of blocks of `step` voxels along each axis, float32."""
    x, y, z = (size // step for size in image.shape)
    return image.reshape(x, step, y, step, z, step).mean(axis=(1, 3, 5)).astype(np.float32)


def _trained_and_scored(request: Request, data: Path, modalities: Subset, options: Mapping[str, object]) -> Outcome:
    given = {**OPTIONS, **options, "data": data, "modalities": modalities}
    trained = by_command.train(request, "brats", given)
    return by_command.outcome(trained, score(trained.run, data, modalities))


def score(run: Path, data: Path, modalities: Subset) -> dict[str, float]:
    """Returns the mean over regions of hard Dice, mean over the test cases, of each subset: its name -> Dice."""
    config, network = load_run(run, "best")
    assert isinstance(config, TrainBrats)
    assert isinstance(network, SegmentationNetwork)
    tested = {case["name"] for case in read_splits(run).cases("test")}
    folder = data / "test" if (data / "test").is_dir() else data
    scheme = config.label_scheme()
    cases = [case for case in find_cases(folder, modalities, scheme=scheme) if case.name in tested]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* count as brain")  # true of the lesions: a box inside the brain
        scores = evaluate_cases(network, map(load_case, cases), scheme, config.patch)
    rows = subset_table(scores, modalities, network.regions)
    return {subset_name(row.subset): fmean(row.dice.values()) for row in rows}


def _arms(modalities: Subset) -> tuple[Arm, ...]:
    return (*arms_on_one_network(modalities), Arm("cggm", {"method": "cggm"}, JOINT))


def _settings(modalities: Subset) -> Settings:
    return settings(modalities, LRS, (DECAY,), LRS[1:2])


PHANTOMS_TASK = Task(
    name="phantoms",
    title="hard phantoms, 48 voxels along each axis",
    modalities=BRATS_MODALITIES,
    score="Dice, mean of WT, TC and ET",
    arms=_arms(BRATS_MODALITIES),
    settings=_settings(BRATS_MODALITIES),
    run=partial(
        run_phantoms, options={"epochs": 12, "steps_per_epoch": 20, "batch": 1, "validate_every": 2, "patience": 3}
    ),
    lacking=partial(lacking, needed=()),
    seeds=SEEDS,
    seconds=seconds(_arms(BRATS_MODALITIES), 65, 115, cggm=70),
)
TUMOURS_TASK = Task(
    name="tumours",
    title="real tumours, two modalities",
    modalities=TUMOURS.modalities,
    score="Dice, mean of WT, TC and ET",
    arms=_arms(TUMOURS.modalities),
    settings=_settings(TUMOURS.modalities),
    run=partial(
        run_real,
        real=TUMOURS,
        options={"epochs": 8, "steps_per_epoch": 15, "batch": 2, "validate_every": 2, "patience": 2},
    ),
    lacking=partial(lacking, needed=TUMOURS.folders),
    seeds=SEEDS,
    seconds=seconds(_arms(TUMOURS.modalities), 26, 30),
)
LESIONS_TASK = Task(
    name="lesions",
    title="real lesions of multiple sclerosis",
    modalities=LESIONS.modalities,
    score="Dice",
    arms=_arms(LESIONS.modalities),
    settings=_settings(LESIONS.modalities),
    run=partial(
        run_real,
        real=LESIONS,
        options={"epochs": 8, "steps_per_epoch": 9, "batch": 1, "validate_every": 2, "patience": 2},
    ),
    lacking=partial(lacking, needed=LESIONS.folders),
    seeds=SEEDS,
    seconds=seconds(_arms(LESIONS.modalities), 20, 38),
)
TASKS = (PHANTOMS_TASK, TUMOURS_TASK, LESIONS_TASK)
