"""Lesion-wise scores against the packages that define them, on made-up masks with the corner cases."""

import io
import json
import re
import warnings
from contextlib import redirect_stdout
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from gmd.data.segmentation.label_map import regions_of
from gmd.data.segmentation.labels import SCHEMES
from gmd.errors import UserError
from gmd.scoring.segmentation import lesion_wise
from gmd.scoring.segmentation.lesion_wise import COLUMNS, PENALTY, lesion_scores

SHAPE = (24, 20, 16)
SPACING = (1.0, 1.0, 1.0)
Box = tuple[slice, slice, slice]
LARGE: Box = np.s_[2:8, 2:8, 2:8]  # 216 voxels
SHIFTED: Box = np.s_[3:9, 2:8, 2:8]  # 5/6 of LARGE
SMALL: Box = np.s_[14:16, 14:16, 10:13]  # 12 voxels, below the 20 of metastases
TOUCHING: Box = np.s_[8:10, 8:10, 8:10]  # shares a corner with LARGE: one lesion by 26 neighbours
FAR: Box = np.s_[18:22, 2:6, 2:6]


def mask(*boxes: Box) -> Tensor:
    """One region, uint8 [1, X, Y, Z]."""
    filled = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    for box in boxes:
        filled[(0, *box)] = 1
    return filled


NOTHING = mask()
# name -> prediction, truth
MASKS = {
    "both empty": (NOTHING, NOTHING),
    "nothing found": (NOTHING, mask(LARGE, FAR)),
    "nothing there": (mask(LARGE, FAR), NOTHING),
    "one of two missed": (mask(SHIFTED), mask(LARGE, FAR)),
    "one invented": (mask(SHIFTED, FAR), mask(LARGE)),
    "no overlap": (mask(FAR), mask(LARGE)),
    "touching lesions": (mask(LARGE), mask(LARGE, TOUCHING)),
    "two predicted in one": (mask(np.s_[2:4, 2:8, 2:8], np.s_[6:8, 2:8, 2:8]), mask(LARGE)),
    "a small lesion missed": (mask(SHIFTED), mask(LARGE, SMALL)),
    "small lesions alone": (mask(SMALL), mask(SMALL)),
    "equal": (mask(LARGE, SMALL, FAR), mask(LARGE, SMALL, FAR)),
}


def numbers(name: str, scheme: str = "brats2023") -> dict[str, float | None]:
    [found] = lesion_scores(*MASKS[name], SPACING, scheme)
    return found


@pytest.mark.parametrize(
    ("name", "dice", "hd95", "f1", "counts"),
    [
        ("both empty", None, None, None, (0, 0, 0)),
        ("nothing found", 0.0, PENALTY, 0.0, (0, 0, 2)),
        ("nothing there", 0.0, PENALTY, 0.0, (0, 2, 0)),
        ("one of two missed", 5 / 6, 1.0, 2 / 3, (1, 0, 1)),  # the mean is over the lesion that was matched
        ("one invented", 5 / 6, 1.0, 2 / 3, (1, 1, 0)),
        ("no overlap", 0.0, PENALTY, 0.0, (0, 1, 1)),
        ("touching lesions", 432 / (432 + 8), 0.0, 1.0, (1, 0, 0)),
        ("two predicted in one", 0.5, 4.0, 2 / 3, (1, 1, 0)),  # one to one: the other one is invented
        ("a small lesion missed", 5 / 6, 1.0, 2 / 3, (1, 0, 1)),
        ("equal", 1.0, 0.0, 1.0, (3, 0, 0)),
    ],
)
def test_what_lesions_count(name: str, dice: float, hd95: float, f1: float, counts: tuple[int, int, int]):
    found = numbers(name)
    assert tuple(found) == tuple(COLUMNS)
    assert (found["lesion_tp"], found["lesion_fp"], found["lesion_fn"]) == counts
    assert found["lesion_f1"] == (None if f1 is None else pytest.approx(f1))
    assert found["lesion_dice"] == (None if dice is None else pytest.approx(dice))
    assert found["lesion_hd95"] == (None if hd95 is None else pytest.approx(hd95, abs=0.5))


@pytest.mark.parametrize(
    ("name", "dice", "hd95"),
    [
        ("both empty", None, None),
        ("nothing found", 0.0, PENALTY),
        ("nothing there", None, None),  # theirs: without a large lesion in the truth there is no number
        ("one of two missed", 5 / 12, (1 + PENALTY) / 2),
        ("one invented", 5 / 12, (1 + PENALTY) / 2),
        ("a small lesion missed", 5 / 6, 1.0),
        ("small lesions alone", None, None),
    ],
)
def test_of_metastases_missed_and_invented_ones_count(name: str, dice: float | None, hd95: float | None):
    found = numbers(name, "brats2023-met")
    assert found["lesion_dice"] == (None if dice is None else pytest.approx(dice))
    assert found["lesion_hd95"] == (None if hd95 is None else pytest.approx(hd95))


def test_distances_are_in_mm():
    [near], [far] = (lesion_scores(*MASKS["one invented"], spacing, "msd") for spacing in (SPACING, (3.0, 1.0, 1.0)))
    assert (near["lesion_hd95"], far["lesion_hd95"]) == (1.0, 3.0)
    assert far["lesion_nsd"] < near["lesion_nsd"] == 1.0


def with_the_packages(config: str, labels: list[Tensor], folder: Path, metastases: bool) -> dict[str, float]:
    """Returns a row of their table: by their commands, from files of label maps by the rules of a challenge."""
    import pandas

    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from brats_evaluation import config_path, evaluate_single_exam, parse_mets_results, parse_seg_results
        from panoptica import Panoptica_Evaluator

        paths = [str(folder / f"{name}.nii.gz") for name in ("prediction", "truth")]
        for path, values in zip(paths, labels, strict=True):
            nib.save(nib.Nifti1Image(values.numpy().astype(np.uint8), np.eye(4)), path)
        evaluator = Panoptica_Evaluator.load_from_config(str(config_path(config)))
        results = evaluate_single_exam(*paths, "case", evaluator)
        (folder / "results.json").write_text(json.dumps({"metrics": [results]}, default=float))
        parse = parse_mets_results if metastases else parse_seg_results
        limits = (20.0, 0.1) if metastases else ()
        parse(str(folder / "results.json"), *limits, str(folder / "parsed.csv"))
    return pandas.read_csv(folder / "parsed.csv", float_precision="round_trip").iloc[0].to_dict()


@pytest.mark.parametrize(
    ("config", "scheme"),
    [("gli", "brats2024-gli"), ("GoAT", "brats2023"), ("mets", "brats2025-met"), ("ped", "brats2024-ped")],
)
def test_regions_score_as_by_the_packages_on_the_files_of_a_challenge(config: str, scheme: str, tmp_path: Path):
    """Whatever the challenge's configuration, of label maps with many components of every value."""
    generator = np.random.default_rng(5)
    values = torch.from_numpy(generator.choice(SCHEMES[scheme].values, (2, 6, 5, 4)).astype(np.uint8))
    labels = [block.repeat_interleave(3, 0).repeat_interleave(3, 1).repeat_interleave(3, 2) for block in values]
    expected = with_the_packages(config, labels, tmp_path, config == "mets")
    predicted, target = (regions_of(each, SCHEMES[scheme]) for each in labels)
    found = lesion_scores(predicted, target, SPACING, scheme)
    for region, of_region in zip(SCHEMES[scheme].regions, found, strict=True):
        for column, theirs in COLUMNS.items():
            number = expected[f"{theirs}_{region.lower()}"]
            assert of_region[column] == (None if np.isnan(number) else min(number, PENALTY)), (region, column)


def test_the_packages_configurations_differ_in_their_regions_alone():
    """So that one of them evaluates every region of every scheme."""
    folder = files("brats_evaluation") / "configs"
    texts = {path.name: path.read_text() for path in folder.iterdir() if path.name.endswith(".yaml")}
    assert len(texts) >= 6
    rules = {re.sub(r"^segmentation_class_groups:.*?(?=^\S)", "", text, flags=re.M | re.S) for text in texts.values()}
    assert len(rules) == 1
    assert re.findall(r"value_labels: (.*)\n", texts["config_MenRT.yaml"]) == ["[1]"]
    assert "single_instance: true" not in "".join(texts.values())


def test_another_version_of_the_packages_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of which it is not known what it would measure."""
    numbers("equal")
    with monkeypatch.context() as patch:
        patch.setitem(lesion_wise.COLUMNS, "lesion_iou", "lesionwise_iou_mean")
        with pytest.raises(UserError, match=r"parser gives no lesionwise_iou_mean_0; get that one: pip install"):
            numbers("equal")
    (tmp_path / "config.yaml").write_text("global_metrics:\n  - DSC\n")
    monkeypatch.setattr("brats_evaluation.config_path", lambda name: tmp_path / "config.yaml")
    lesion_wise._evaluator.cache_clear()
    with pytest.raises(UserError, match=r"BraTS_evaluation is not as 0.0.10: its configuration MenRT has no line"):
        numbers("equal")
