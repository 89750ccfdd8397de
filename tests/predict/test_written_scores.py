"""What is scored is what is written: MONAI scores the files of `gmd predict` as `gmd evaluate` has scored the run."""

from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance
from torch import Tensor

import gmd.evaluation.segmentation.case_pictures
import gmd.evaluation.segmentation.single_run
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.phantom import write_phantoms
from gmd.evaluation.segmentation.single_run import evaluate_run
from gmd.predict import predict
from gmd.scoring.segmentation.metrics import hard_dice
from gmd.scoring.segmentation.prediction import predict_modalities, present_volumes
from gmd.scoring.segmentation.tables import read_cases
from gmd.subsets import Subset
from gmd.training.checkpoint import save_checkpoint
from gmd.training.saved_run import load_run
from gmd.training.tasks import open_task
from helpers.evaluation_cases import untrained_run
from helpers.nifti_cases import OBLIQUE, ORIENTATIONS, save, stored_as

pytestmark = pytest.mark.usefixtures("one_thread")

MODALITIES = ("flair", "t1", "t1ce")
CASES: dict[str, tuple[Subset, list[Subset]]] = {  # test case -> its modalities, and the subsets that are tried
    "whole": (MODALITIES, [("t1",), ("flair", "t1ce"), MODALITIES]),
    "turned": (MODALITIES, [("flair",), MODALITIES]),
    "lacking": (("t1", "t1ce"), [("t1ce",), ("t1", "t1ce")]),
}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """Case -> file -> voxels in RAS+, of five phantoms."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, cases=5, shape=(20, 18, 16), seed=0)
    phantoms = zip([*CASES, "train", "validation"], sorted(folder.iterdir()), strict=True)
    return {
        case: {path.name.split("_")[-1].split(".")[0]: voxels(path)[0] for path in sorted(phantom.iterdir())}
        for case, phantom in phantoms
    }


def voxels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of a file in RAS+, and their size in mm."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.dataobj), nibabel.affines.voxel_sizes(image.affine)


def make_run(folder: Path, volumes: dict[str, dict[str, np.ndarray]], scheme: LabelScheme, **options) -> Path:
    """A run whose network contradicts itself: untrained, it says of each region something else."""
    values = np.array([value for value in scheme.values if value])
    for case, files in volumes.items():
        split = "test" if case in CASES else case
        have = CASES[case][0] if case in CASES else MODALITIES
        where = np.indices(files["seg"].shape).sum(axis=0)
        labels = np.where(files["seg"] > 0, values[(files["seg"] + where // 3) % len(values)], 0).astype(np.uint8)
        for number, key in enumerate((*have, "seg")):
            orientation = ORIENTATIONS[11 * number + 5] if case == "turned" else ORIENTATIONS[0]
            stored, affine = stored_as(orientation, labels if key == "seg" else files[key], OBLIQUE)
            save(folder / "data" / split / case / f"{case}_{key}.nii.gz", stored, affine)
    options = {"modalities": MODALITIES, "labels": scheme.name, "patch": (16, 16, 16)} | options
    run = untrained_run(folder, **options)
    config, network = load_run(run)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".norm" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        network.head.bias.zero_()
    save_checkpoint(run / "best.pt", {"config": config.to_dict(), "network": network.state_dict(), "epochs": 1})
    return run


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gmd.evaluation.segmentation.single_run, "draw_cases", lambda *_: [])


def files_of(run: Path, case: str, subset: Subset) -> dict[str, Path]:
    return {m: run.parent / "data" / "test" / case / f"{case}_{m}.nii.gz" for m in subset}


def regions_in(path: Path, scheme: LabelScheme) -> Tensor:
    labels, _ = voxels(path)
    return torch.from_numpy(np.stack([np.isin(labels, values) for values in scheme.regions.values()]))


def written(run: Path, scheme: LabelScheme) -> Iterator[tuple[str, Subset, Path, Tensor]]:
    """Each case and subset that is tried, with the label map that is written for it, and the truth."""
    for case, (_, subsets) in CASES.items():
        truth = regions_in(run.parent / "data" / "test" / case / f"{case}_seg.nii.gz", scheme)
        for subset in subsets:
            path = run.parent / "out" / f"{case}_{'_'.join(subset)}.nii.gz"
            assert predict(run, None, files_of(run, case, subset), path) == 0
            yield case, subset, path, truth


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")  # MONAI's, of its own call
@pytest.mark.parametrize(
    ("name", "precision"), [*((name, "fp32") for name in SCHEMES), ("brats2018", "bf16")], ids=lambda each: each
)
def test_the_written_files_score_what_the_evaluation_says(
    volumes: dict[str, dict[str, np.ndarray]], tmp_path: Path, name: str, precision: str
):
    """To the last digit: of files in other orientations, of cases that lack a modality, in every label scheme."""
    scheme = SCHEMES[name]
    run = make_run(tmp_path, volumes, scheme, precision=precision)
    evaluate_run(run)
    scores = {(s.case, s.subset, s.region): s for s in read_cases(run / "evaluation" / "cases.csv")}
    measured = 0
    for case, subset, path, truth in written(run, scheme):
        predicted, (_, spacing) = regions_in(path, scheme), voxels(path)
        found = [scores[case, subset, region] for region in scheme.regions]
        assert [score.dice for score in found] == compute_dice(predicted[None], truth[None], ignore_empty=False)[
            0
        ].tolist()
        distances = compute_hausdorff_distance(
            predicted[None], truth[None], include_background=True, percentile=95, spacing=list(spacing)
        )[0]
        for score, distance, mask in zip(found, distances.tolist(), predicted, strict=True):
            if mask.any():
                assert score.hd95 == pytest.approx(distance, rel=1e-6)
                measured += 1
    assert measured > len(scheme.regions) * 3


def test_the_network_contradicts_itself_and_is_scored_by_what_is_written(
    volumes: dict[str, dict[str, np.ndarray]], tmp_path: Path
):
    """Or the tests here would show nothing: its channels, scored as they are, have another Dice in WT and TC."""
    scheme = SCHEMES["brats2018"]
    run = make_run(tmp_path, volumes, scheme)
    config, network = load_run(run)
    task = open_task(config)
    [case] = task.splits.validation
    loaded = gmd.evaluation.segmentation.case_pictures.load_case(case, scheme)
    outputs = predict_modalities(network, present_volumes(network, loaded), config.patch)
    channels = hard_dice(outputs["flair"] > 0, loaded["target"])
    path = tmp_path / "seg.nii.gz"
    predict(run, None, {"flair": case.images["flair"]}, path)
    files = hard_dice(regions_in(path, scheme), loaded["target"])
    assert channels[2] == files[2]
    assert all(abs(channels[place] - files[place]) > 1e-3 for place in (0, 1)), (channels, files)


def test_validation_in_training_scores_the_written_files(volumes: dict[str, dict[str, np.ndarray]], tmp_path: Path):
    scheme = SCHEMES["brats2018"]
    run = make_run(tmp_path, volumes, scheme, modalities=("flair",))
    config, network = load_run(run)
    task = open_task(config)
    validation = task.validate(network)
    [case] = task.splits.validation
    predict(run, None, {"flair": case.images["flair"]}, tmp_path / "seg.nii.gz")
    predicted, truth = regions_in(tmp_path / "seg.nii.gz", scheme), regions_in(case.label, scheme)
    dice = compute_dice(predicted[None], truth[None], ignore_empty=False)[0].tolist()
    assert list(validation.metrics.values()) == dice


def test_pictures_show_the_written_files(
    volumes: dict[str, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    drawn = {}

    def draw_case(case: dict, predictions: dict[Subset, Tensor], *rest) -> Path:
        drawn[case["name"]] = predictions
        return tmp_path / "picture.png"

    monkeypatch.setattr(gmd.evaluation.segmentation.case_pictures, "draw_case", draw_case)
    scheme = SCHEMES["brats2023"]
    run = make_run(tmp_path, volumes, scheme)
    evaluate_run(run)
    assert drawn.keys() == CASES.keys()
    for case, subset, path, _ in written(run, scheme):
        if len(subset) in (1, len(CASES[case][0])):
            assert torch.equal(drawn[case][subset], regions_in(path, scheme)), (case, subset)
