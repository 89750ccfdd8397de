"""ET as RFNet's code and that of its followers reports it: a prediction of fewer than 500 voxels counts as none."""

from pathlib import Path

import pytest
import torch

from gmd.data.segmentation.labels import SCHEMES
from gmd.errors import UserError
from gmd.names import check_names
from gmd.scoring.segmentation.post_processing import mean_over_regions, post_processed, with_post_processed
from gmd.scoring.segmentation.scores import score_case
from gmd.scoring.segmentation.tables import Score, chosen_row, subset_table, table_csv, table_markdown

SCHEME = SCHEMES["brats2018"]
SHAPE = (20, 20, 20)


def voxels(count: int) -> torch.Tensor:
    """[X, Y, Z] with the first `count` voxels 1."""
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask.view(-1)[:count] = True
    return mask


def scores(predicted: int, true: int) -> dict[str, Score]:
    """Of a case in which so many voxels are enhancing tumour."""
    logits = torch.where(voxels(predicted), 1.0, -1.0).expand(3, *SHAPE)
    target = voxels(true).to(torch.uint8).expand(3, *SHAPE)
    case = {"name": "a", "target": target, "affine": torch.eye(4).double().numpy()}
    return {score.region: score for score in score_case(case, {"t1": logits}, SCHEME, hd95=True)}


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (499, 0), (500, 500), (501, 501)])
def test_fewer_than_500_voxels_are_none(count: int, kept: int):
    assert int(post_processed(voxels(count)).sum()) == kept


@pytest.mark.parametrize(
    ("predicted", "true", "et", "after"),
    [
        (499, 0, 0.0, 1.0),  # the case that the rule is for: no enhancing tumour, and a few voxels of it predicted
        (500, 0, 0.0, 0.0),
        (0, 0, 1.0, 1.0),  # their eps of 1e-8 makes it 1, too
        (400, 400, 1.0, 0.0),  # and the price of it
        (600, 600, 1.0, 1.0),
    ],
)
def test_dice_before_and_after(predicted: int, true: int, et: float, after: float):
    found = scores(predicted, true)
    assert list(found) == ["WT", "TC", "ET", "ET_postpro"]
    assert (found["ET"].dice, found["ET_postpro"].dice) == (et, after)
    assert found["WT"].dice == et, "other regions stay as they are"
    diagonal = 20 * 3**0.5
    assert found["ET_postpro"].hd95 == pytest.approx(0 if after == 1 else diagonal)


def test_it_is_a_column_where_et_is_a_region_and_counts_in_no_mean():
    assert with_post_processed(("WT", "ET", "RC")) == ("WT", "ET", "ET_postpro", "RC")
    assert with_post_processed(("lesion",)) == ("lesion",)
    assert mean_over_regions({"WT": 0.5, "ET": 0.25, "ET_postpro": 1.0}) == 0.375
    found = list(scores(499, 0).values())
    rows = subset_table(found, ("t1",), ("WT", "TC", "ET", "ET_postpro"))
    header, line, mean = table_csv(rows, ("t1",), ("WT", "TC", "ET", "ET_postpro")).splitlines()
    assert header.startswith("subset,t1,cases,WT,TC,ET,ET_postpro,mean,hd95_WT,")
    assert line.startswith("t1,1,1,0.0,0.0,0.0,1.0,0.0,")
    assert mean.startswith("mean,,,0.0,0.0,0.0,1.0,0.0,")


def test_in_the_validation_of_a_training_there_is_none():
    case = {"name": "a", "target": voxels(0).to(torch.uint8).expand(3, *SHAPE)}
    logits = torch.full((3, *SHAPE), -1.0)
    assert [score.region for score in score_case(case, {"t1": logits}, SCHEME)] == ["WT", "TC", "ET"]


def test_nobodys_region_or_modality_is_called_so(tmp_path: Path):
    with pytest.raises(UserError, match="ET_postpro"):
        check_names("--modalities", ("ET_postpro",))
    from gmd.data.segmentation.own_labels import read_scheme

    path = tmp_path / "own.yaml"
    path.write_text("values: {1: a}\nregions: {ET_postpro: [1]}\n")
    with pytest.raises(UserError, match="ET_postpro and hd95_"):
        read_scheme(str(path))


def test_a_row_of_one_subset_for_each_case():
    """As by a mask file: each case counts once, by the subset that it was given."""
    found = [
        Score("a", ("x",), "WT", 0.5, 1.0),
        Score("a", ("x", "y"), "WT", 0.75, 1.0),
        Score("b", ("x",), "WT", 0.125, 1.0),
        Score("b", ("y",), "WT", 0.25, 3.0),
        Score("c", ("x",), "WT", 0.0, 9.0),
    ]
    row = chosen_row(found, {"a": ("x", "y"), "b": ("y",)}, ("WT",))
    assert tuple(row) == ((), 2, {"WT": 0.5}, {"WT": 2.0})
    rows = subset_table(found, ("x", "y"), ("WT",))
    assert table_csv(rows, ("x", "y"), ("WT",), {"masks.csv": row}).splitlines()[-1] == "masks.csv,,,2,0.5,0.5,2.0,2.0"
    assert table_markdown(rows, ("x", "y"), ("WT",), {"masks.csv": row}).splitlines()[-1].startswith("| masks.csv |")
    nobody = chosen_row(found, {}, ("WT",))
    assert table_csv(rows, ("x", "y"), ("WT",), {"m": nobody}).splitlines()[-1] == "m,,,0,absent,absent,absent,absent"
