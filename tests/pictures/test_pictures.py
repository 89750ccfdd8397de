"""The pictures are drawn from what a run holds, and what they show is right."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.volumes import load_case
from gmd.errors import UserError
from gmd.pictures.case import _Slice, draw_case
from gmd.pictures.cosines import mean_cosines
from gmd.pictures.curves import ValidationPanel, draw_curves
from gmd.pictures.style import thinned
from gmd.pictures.training import draw_training
from gmd.scoring.segmentation.tables import Score
from gmd.subsets import all_subsets, subset_name
from helpers.pictures import axes_drawn, is_picture, step_line

MODALITIES = ("flair", "t1", "t1ce", "t2")
NAMES = [subset_name(subset) for subset in all_subsets(MODALITIES)]
HARD_DICE = ValidationPanel("hard Dice, mean over cases, subsets and regions", "Dice")


def epoch_line(epoch: int, dice: float | None) -> dict:
    return {"kind": "epoch", "epoch": epoch, "validation": dice, "seconds": 1.0}


def write_run(run: Path, lines: list[dict]) -> Path:
    (run / "config.yaml").write_text(json.dumps({"modalities": MODALITIES}))
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_training_with_several_objectives_has_curves_and_cosines(tmp_path: Path):
    skipped = step_line(2, NAMES, cosine=None) | {"finite": False, "loss": None}
    skipped["losses"] = dict.fromkeys(NAMES)  # NaN is written as null
    lines = [step_line(1, NAMES), skipped, epoch_line(1, None)]
    lines += [step_line(3, NAMES, epoch=2), epoch_line(2, 0.4)]
    written = draw_training(write_run(tmp_path, lines), HARD_DICE)
    assert written == [tmp_path / "curves.png", tmp_path / "cosines.png"]
    assert all(map(is_picture, written))


def test_training_with_one_objective_has_no_cosines(tmp_path: Path):
    lines = [step_line(1, NAMES[-1:], cosine=None), epoch_line(1, 0.2)]
    assert draw_training(write_run(tmp_path, lines), HARD_DICE) == [tmp_path / "curves.png"]


def test_what_is_looked_at_now_and_then_is_a_line_from_one_time_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Between, there is nothing to draw; and the last epoch may have no cosines at all."""
    panels = axes_drawn(monkeypatch, "gmd.pictures.curves")
    between = {"conflicts": None, "cosines": None, "refreshed": False, "age": 1, "failures": 0}
    lines = [step_line(1, NAMES) | {"refreshed": True}, step_line(2, NAMES) | between]
    lines += [step_line(3, NAMES) | {"refreshed": True}, epoch_line(1, 0.4), step_line(4, NAMES, epoch=2) | between]
    written = draw_training(write_run(tmp_path, lines), HARD_DICE)
    assert [path.name for path in written] == ["curves.png", "cosines.png"]
    losses, _, conflicts = panels
    assert losses.lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    assert conflicts.lines[0].get_xdata().tolist() == [1, 3]
    assert conflicts.lines[0].get_ydata().tolist() == [10, 10]


def test_a_run_without_a_step_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match="no step recorded"):
        draw_training(tmp_path, HARD_DICE)
    with pytest.raises(UserError, match="no step recorded"):
        draw_training(write_run(tmp_path, []), HARD_DICE)


def test_cosines_are_means_by_name_whatever_a_step_has():
    """Which objectives a step has depends on its cases; a position in its matrix means nothing by itself."""
    steps = [step_line(1, ["t1", "t1ce", "t1+t1ce"], 0.8), step_line(2, ["flair", "t1"], -0.4)]
    steps.append(step_line(3, ["t1ce", "t1"], 0.2))
    names, mean = mean_cosines(steps, MODALITIES)
    assert names == ["flair", "t1", "t1ce", "t1+t1ce"], "t2 never occurs; small subsets first"
    expected = [[1, -0.4, np.nan, np.nan], [-0.4, 1, 0.5, 0.8], [np.nan, 0.5, 1, 0.8], [np.nan, 0.8, 0.8, 1]]
    np.testing.assert_allclose(mean, expected)


def test_long_runs_are_thinned_to_means():
    assert thinned([1.0, None, 3.0])[[0, 2]].tolist() == [1.0, 3.0]
    assert np.isnan(thinned([1.0, None, 3.0])[1])
    long = thinned([*range(600), None])
    assert len(long) == 300
    assert long[-1] == 599
    assert long[-2] == 597.5


def test_a_picture_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = draw_curves([step_line(1, NAMES)], [epoch_line(1, 0.1)], tmp_path / "curves.png", HARD_DICE)
    before = path.read_bytes()

    def fill_the_disk(figure: Figure, path: Path) -> None:
        path.write_bytes(b"cut sh")
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", fill_the_disk)
    with pytest.raises(OSError, match="no space left"):
        draw_curves([step_line(1, NAMES)], [], path, HARD_DICE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def case(phantoms: Path) -> dict:
    return load_case(find_cases(phantoms)[0])


@pytest.mark.parametrize("have", [MODALITIES, ("flair", "t1ce"), ("t2",)])
@pytest.mark.parametrize("regions", [("WT", "TC", "ET"), ("lesion",)])
def test_a_case_with_what_it_has(case: dict, have: tuple[str, ...], regions: tuple[str, ...], tmp_path: Path):
    shown = {m: case[m] for m in have} | {key: case[key] for key in ("name", "affine", "brain")}
    shown["target"] = case["target"][: len(regions)]
    subsets = [subset for subset in all_subsets(have) if len(subset) in (1, len(have))]
    drawn = {subset: shown["target"].bool() for subset in subsets}
    scores = [Score(case["name"], subset, region, 1.0) for subset in drawn for region in regions]
    assert is_picture(draw_case(shown, drawn, scores, regions, tmp_path / "evaluation" / "case.png"))


def test_a_case_without_tumour_is_drawn(case: dict, tmp_path: Path):
    shown = case | {"target": torch.zeros_like(case["target"])}
    drawn = {("t1",): shown["target"].bool()}
    scores = [Score(case["name"], ("t1",), region, 1.0) for region in ("WT", "TC", "ET")]
    assert is_picture(draw_case(shown, drawn, scores, ("WT", "TC", "ET"), tmp_path / "case.png"))


@pytest.mark.parametrize(("shape", "most"), [((30, 40), 8000), ((360, 420), 8000), ((360, 420), 800)])
def test_a_voxel_is_a_whole_number_of_pixels(
    shape: tuple[int, int], most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """So that none is blurred or lost, unless the picture were too large."""
    panels = axes_drawn(monkeypatch, "gmd.pictures.case")
    monkeypatch.setattr("gmd.pictures.case.MOST_PIXELS", most)
    mask = torch.ones(1, *shape, 1, dtype=torch.bool)
    shown = {"name": "a", "t1": torch.rand(1, *shape, 1), "target": mask, "brain": mask, "affine": np.eye(4)}
    path = draw_case(shown, {("t1",): mask}, [Score("a", ("t1",), "WT", 1.0)], ["WT"], tmp_path / "case.png")
    with Image.open(path) as picture:
        dots, size = picture.info["dpi"][0], picture.size
    assert max(size) <= most
    pixels = panels[0].get_window_extent().width / panels[0].figure.dpi * dots / shape[0]
    if most < 8000:
        assert pixels < 1
    else:
        assert pixels >= 0.99
        assert pixels == pytest.approx(round(pixels), abs=0.02)


def test_the_slice_is_the_one_with_most_tumour_whatever_the_axes_of_the_file(case: dict):
    """The same case stored with other axes, directions and affine gives the same picture."""
    upright = _Slice(case)
    image = upright.cut(case["flair"][0])
    assert nibabel.aff2axcodes(case["affine"])[2] == "S", "the phantoms' last axis goes up"
    assert upright.cut(case["target"].any(0)).sum() == case["target"].any(0).sum(dim=(0, 1)).max()

    other = case["affine"] @ np.array([[0, 0, -1, 31], [1, 0, 0, 0], [0, -1, 0, 31], [0, 0, 0, 1]])
    assert nibabel.aff2axcodes(other) != nibabel.aff2axcodes(case["affine"])

    def stored(volume: torch.Tensor) -> torch.Tensor:  # index (i, j, k) holds x = 31-k, y = i, z = 31-j
        return volume.permute(0, 2, 3, 1).flip(2, 3)

    turned = {key: stored(case[key]) for key in ("flair", "brain", "target")} | {"affine": other}
    np.testing.assert_array_equal(_Slice(turned).cut(turned["flair"][0]), image)


def test_a_slice_keeps_its_proportions(case: dict):
    """Voxels are 1 mm wide, 2 mm high and 5 mm thick; then the same, stored with x and y exchanged."""
    assert _Slice(case | {"affine": np.diag([1.0, 2.0, 5.0, 1.0])}).aspect == 2
    exchanged = np.diag([1.0, 2.0, 5.0, 1.0])[:, [1, 0, 2, 3]]
    assert _Slice(case | {"affine": exchanged}).aspect == 2


def test_the_validation_is_called_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    panels = axes_drawn(monkeypatch, "gmd.pictures.curves")
    lines = [step_line(1, ["text"], cosine=None), epoch_line(1, -1.5)]
    draw_training(write_run(tmp_path, lines), ValidationPanel("minus the mean absolute error", "-MAE", limits=None))
    assert panels[1].get_title() == "Validation: minus the mean absolute error"
    assert panels[1].get_ylabel() == "-MAE"
    low, high = panels[1].get_ylim()
    assert low < -1.5 < high, "a score below 0 is to be seen"
    draw_training(tmp_path, HARD_DICE)
    assert (panels[3].get_ylabel(), panels[3].get_ylim()) == (HARD_DICE.label, (0, 1))
