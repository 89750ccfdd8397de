"""Scores of all subsets from one pass per modality, their table, what `evaluate_run` writes and refuses."""

import csv
import shutil
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

import gmd.scoring.segmentation.prediction
from gmd.data.pairs import Pairs
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.label_map import paint
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.volumes import load_case
from gmd.errors import UserError
from gmd.evaluation.segmentation.single_run import evaluate_run
from gmd.files import replacing
from gmd.models.multimodal import run_modalities
from gmd.models.unet3d import UNet3d
from gmd.scoring.segmentation.prediction import fuse, predict_label_map, predict_modalities, predict_subsets
from gmd.scoring.segmentation.scores import evaluate_cases
from gmd.scoring.segmentation.tables import Score, subset_table
from gmd.subsets import all_subsets
from helpers.evaluation_cases import names, untrained_run
from helpers.places import REAL_DATA

REAL = REAL_DATA / "brats15_two_modalities"
SCHEME = SCHEMES["brats2018"]
REGIONS = tuple(SCHEME.regions)
TABLES = ("table.md", "table.csv", "cases.csv")


pytestmark = pytest.mark.usefixtures("one_thread")


class Pointwise(nn.Module):
    """Stands in for a network: logits are the volume minus 0, 1, 2, ... for the regions. Records its calls."""

    def __init__(self, modalities=BRATS_MODALITIES, regions=REGIONS):
        super().__init__()
        self.modalities, self.regions = modalities, regions
        self.offsets = nn.Parameter(-torch.arange(float(len(regions))).view(-1, 1, 1, 1))
        self.calls: list[int] = []

    def forward(self, volumes: Tensor, modalities: list[int]) -> Tensor:
        assert len(volumes) == len(modalities)
        self.calls += modalities
        return volumes + self.offsets


def make_case(name: str, have: tuple[str, ...] = BRATS_MODALITIES) -> dict:
    shape = (8, 9, 10)
    generator = torch.Generator().manual_seed(len(name))
    volumes = {m: torch.randn(1, *shape, generator=generator) + 1 for m in have}
    target = torch.rand(3, *shape, generator=generator) > 0.7
    return volumes | {"name": name, "target": target.to(torch.uint8)}


def dice_by_hand(predicted: Tensor, truth: Tensor) -> float:
    return 2 * int((predicted & truth).sum()) / (int(predicted.sum()) + int(truth.sum()))


# Predictions


def test_trap_four_passes_a_case_not_sixty():
    """Published: each of the 15 subsets runs its own passes, of every modality: 60 a case."""
    network = Pointwise()
    scores = evaluate_cases(network, [make_case("one"), make_case("three")], SCHEME, patch=16)
    assert network.calls == [0, 1, 2, 3] * 2
    assert len(scores) == 2 * 15 * 3


@pytest.mark.parametrize("shape", [(8, 9, 10), (40, 9, 16), (33, 40, 20)])
def test_windows_put_together_are_the_whole(shape: tuple[int, ...]):
    """Volumes smaller than the 16^3 patch, larger, and both; a pointwise network has no borders to blend."""
    volumes = {m: torch.randn(1, *shape) for m in BRATS_MODALITIES}
    outputs = predict_modalities(Pointwise(), volumes, (16, 16, 16))
    for modality, logits in outputs.items():
        assert logits.shape == (3, *shape)
        assert torch.allclose(logits, volumes[modality] - torch.arange(3.0).view(3, 1, 1, 1), atol=1e-5)


def test_nothing_is_predicted_where_there_is_no_brain():
    """Training crops to the brain, so windows of background are new to the network, and cost time."""
    network = Pointwise()
    volumes = {m: torch.zeros(1, 64, 64, 64) for m in ("t1", "t2")}
    for volume in volumes.values():
        volume[:, 30:42, 20:36, 50:] = 5
    for _, labels in predict_subsets(predict_modalities(network, volumes, 16), SCHEME):
        assert torch.equal(labels, 4 * (volumes["t1"][0] == 5))
    assert network.calls == [1, 3], "the brain fits into one window"


def test_a_constant_volume_is_predicted_too():
    """Its normalised values are all zero, so there is no brain to crop to."""
    assert predict_modalities(Pointwise(), {"t1": torch.zeros(1, 8, 8, 8)}, 16)["t1"].shape == (3, 8, 8, 8)


def test_the_real_network_sees_patches_of_the_right_size_and_fuses_as_in_training():
    torch.manual_seed(0)
    network = UNet3d(BRATS_MODALITIES, REGIONS, width=0.125)
    volumes = {m: torch.randn(1, 16, 16, 16) for m in ("flair", "t1ce", "t2")}
    outputs = predict_modalities(network, volumes, (16, 16, 16))
    inputs = Pairs(1, {m: [0] for m in volumes}, {m: v[None] for m, v in volumes.items()})
    pairs = run_modalities(network, inputs)
    predicted = dict(predict_subsets(outputs, SCHEME))
    assert list(predicted) == all_subsets(("flair", "t1ce", "t2"))
    for subset, labels in predicted.items():
        assert torch.equal(labels, paint(pairs.fuse(subset)[0][0] > 0, SCHEME)), subset
    smaller = {m: v[:, :5, :15, :] for m, v in volumes.items()}
    assert predict_modalities(network, smaller, (16, 16, 16))["t2"].shape == (3, 5, 15, 16)


@pytest.fixture(scope="module")
def network() -> UNet3d:
    """In channels-last as a trained one, with affines that differ between modalities (they start alike)."""
    torch.manual_seed(0)
    network = UNet3d(BRATS_MODALITIES, REGIONS, width=0.125).to(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("together", [1, 4])
def test_a_modality_is_what_monai_makes_of_it_alone(network: UNet3d, together: int, monkeypatch: pytest.MonkeyPatch):
    """Each window with the affine of its modality; as on a CPU, and several at once as on a GPU."""

    def inferer(inputs, patch, batch, predictor, **options):
        return sliding_window_inference(inputs, patch, together, predictor, **options)

    monkeypatch.setattr(gmd.scoring.segmentation.prediction, "sliding_window_inference", inferer)
    volumes = {m: torch.randn(1, 20, 16, 40) for m in ("t2", "flair", "t1ce")}
    outputs = predict_modalities(network, volumes, (16, 16, 16))
    with torch.no_grad():
        for modality, volume in volumes.items():
            predictor = partial(network, modality=BRATS_MODALITIES.index(modality))
            options = {"overlap": 0.25, "mode": "gaussian"}
            [alone] = sliding_window_inference(volume[None], (16, 16, 16), 1, predictor, **options)
            torch.testing.assert_close(outputs[modality], alone, rtol=1e-4, atol=1e-4)
    other = predict_modalities(network, {"t1": volumes["t2"]}, (16, 16, 16))["t1"]
    assert (other - outputs["t2"]).abs().max() > 0.1, "affines are alike: this test would show nothing"


corners = st.tuples(*[st.tuples(st.integers(0, 11), st.integers(12, 24))] * 3)


@settings(max_examples=4, deadline=None)
@given(st.lists(corners, min_size=3, max_size=3), st.integers(0, 2**32 - 1))
def test_a_subset_is_predicted_as_if_there_were_no_other_modality(network: UNet3d, places: list, seed: int):
    """Of unequal extents: the windows came from the brain of all, so that a modality's own answer was another one."""
    volumes = {m: torch.zeros(1, 24, 24, 24) for m in ("flair", "t1", "t2")}
    generator = torch.Generator().manual_seed(seed)
    for volume, place in zip(volumes.values(), places, strict=True):
        shown = (slice(None), *(slice(*ends) for ends in place))
        volume[shown] = torch.randn(volume[shown].shape, generator=generator)
    for subset, predicted in predict_subsets(predict_modalities(network, volumes, 16), SCHEME):
        alone = {m: volumes[m] for m in subset}
        outputs = predict_modalities(network, alone, 16)
        assert torch.equal(predicted, predict_label_map(outputs, SCHEME)), subset
        assert torch.equal(predicted, paint(fuse(outputs, alone) > 0, SCHEME)), subset


def test_a_modality_takes_part_where_it_shows_something():
    """Beside it the others decide, and nothing is predicted where none does."""
    volumes = {m: torch.zeros(1, 8, 8, 8) for m in ("t1", "t2")}
    volumes["t1"][:, :6], volumes["t2"][:, 3:7] = 5, -3
    outputs = predict_modalities(Pointwise(regions=("lesion",)), volumes, 16)
    logits = fuse(outputs, volumes)
    expected = torch.tensor([5.0, 5, 5, 1, 1, 1, -3, -torch.inf])
    assert torch.allclose(logits, expected.view(1, 8, 1, 1).expand(1, 8, 8, 8), atol=1e-5)
    assert not logits.sigmoid()[0, 7].any()
    labels = predict_label_map(outputs, SCHEMES["binary"])
    assert labels[:, 0, 0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(("bad", "precision"), [(torch.nan, "fp32"), (torch.inf, "bf16")])
def test_a_network_that_has_diverged_is_told_of(bad: float, precision: str):
    """NaN is above 0 nowhere: every segmentation was empty, and passed for one."""
    network = Pointwise()
    network.forward = lambda volumes, _: (volumes + network.offsets).masked_fill(volumes > 2, bad)
    volumes = {"t1": torch.ones(1, 8, 8, 8), "t2": torch.ones(1, 8, 8, 8)}
    volumes["t2"][0, 1, 2, 3:6] = 3
    mend = "train anew with" if precision == "fp32" else "try --precision fp32, or train anew"
    with pytest.raises(UserError, match=f"output is NaN or infinite in 3 of 512 voxels with t2; {mend}"):
        predict_modalities(network, volumes, 8, precision)


def test_how_many_windows_go_together(network: UNet3d):
    """On a CPU one; its outputs are then all that is held, but for one modality's."""
    sizes = []
    handle = network.register_forward_pre_hook(lambda _, inputs: sizes.append((len(inputs[0]), inputs[1])))
    volumes = {m: torch.randn(1, 16, 16, 20) for m in ("t1", "t2")}
    outputs = predict_modalities(network, volumes, (16, 16, 16))
    handle.remove()
    assert sizes == [(1, [1])] * 2 + [(1, [3])] * 2
    assert list(outputs) == ["t1", "t2"]


@pytest.mark.parametrize("training", [True, False])
def test_no_gradients_eval_mode_and_the_mode_restored(training: bool):
    network, modes = Pointwise().train(training), []
    network.register_forward_pre_hook(lambda *_: modes.append((network.training, torch.is_grad_enabled())))
    outputs = predict_modalities(network, {"t1": torch.randn(1, 8, 8, 8)}, 16)
    assert modes == [(False, False)]
    assert not outputs["t1"].requires_grad
    assert network.training == training
    with pytest.raises(RuntimeError):  # MONAI: sizes and dimensions do not fit
        predict_modalities(network, {"t1": torch.randn(2, 8, 8, 8), "t2": torch.randn(1, 4, 4, 4)}, 16)
    assert network.training == training


# Scores


def test_every_score_is_the_hard_dice_of_the_mean_of_logits():
    case = make_case("case")
    scores = {(s.subset, s.region): s.dice for s in evaluate_cases(Pointwise(), [case], SCHEME, 16)}
    assert len(scores) == 15 * 3
    for subset in all_subsets(BRATS_MODALITIES):
        logits = sum(case[m] for m in subset) / len(subset)
        for k, region in enumerate(REGIONS):
            expected = dice_by_hand(logits[0] - k > 0, case["target"][k].bool())
            assert scores[subset, region] == pytest.approx(expected, abs=1e-6)
            assert 0.02 < expected < 0.95


def test_trap_dice_is_hard_at_probability_one_half():
    """Published: soft, and masks at a threshold of 0.2. Here 0.45 is nothing, and 0.55 is as good as 1."""
    truth = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    truth[:, :4] = 1
    for inside, outside in ((0.2, -0.2), (20.0, -20.0)):
        case = {"name": "x", "t1": torch.where(truth == 1, inside, outside), "target": truth}
        [score] = evaluate_cases(Pointwise(("t1",), ("lesion",)), [case], SCHEMES["binary"], 16)
        assert score == Score("x", ("t1",), "lesion", 1.0)


def test_trap_dice_is_a_mean_over_cases_not_pooled():
    """Published: pooled over the batch, so that large tumours outweigh small ones."""
    cases = []
    for name, size in (("large", 8), ("small", 2)):
        truth = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
        truth[:, :size, :size, :size] = 1
        cases.append({"name": name, "t1": torch.where(truth == 1, 1.0, -1.0), "target": truth})
    cases[1]["t1"] = -cases[1]["t1"]  # all wrong: 0
    scores = evaluate_cases(Pointwise(("t1",), ("lesion",)), cases, SCHEMES["binary"], 16)
    [row] = subset_table(scores, ("t1",), ("lesion",))
    assert row.dice == {"lesion": 0.5}


@pytest.mark.parametrize(("true", "predicted", "dice"), [(0, 0, 1.0), (0, 1, 0.0), (1, 0, 0.0), (1, 1, 1.0)], ids=str)
@pytest.mark.parametrize("scheme", [SCHEMES["binary"], SCHEME], ids=lambda scheme: scheme.name)
def test_empty_regions_score_as_in_brats(true: int, predicted: int, dice: float, scheme: LabelScheme):
    volume, regions = torch.full((1, 4, 4, 4), 9.0 if predicted else -9.0), tuple(scheme.regions)
    case = {"name": "x", "t1": volume, "target": torch.full((len(regions), 4, 4, 4), true, dtype=torch.uint8)}
    scores = evaluate_cases(Pointwise(("t1",), regions), [case], scheme, 4)
    assert [score.dice for score in scores] == [dice] * len(regions)


def test_subsets_that_a_case_does_not_have_get_no_score_and_nothing_is_filled_in():
    network = Pointwise()
    cases = [make_case("whole"), make_case("two", have=("flair", "t1ce")), make_case("single", have=("t2",))]
    scores = evaluate_cases(network, cases, SCHEME, 16)
    assert network.calls == [0, 1, 2, 3, 0, 2, 3]
    assert {s.subset for s in scores if s.case == "two"} == {("flair",), ("t1ce",), ("flair", "t1ce")}
    assert {s.subset for s in scores if s.case == "single"} == {("t2",)}
    counts = {row.subset: row.cases for row in subset_table(scores, BRATS_MODALITIES, REGIONS)}
    assert counts[("flair",)] == counts[("flair", "t1ce")] == counts[("t2",)] == 2
    assert counts[("t1",)] == counts[BRATS_MODALITIES] == 1


# Files


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "new" / "table.md"
    with replacing(path) as unfinished:
        unfinished.write_text("first")
    with pytest.raises(UnicodeEncodeError), replacing(path) as unfinished:
        unfinished.write_text("the second is \udcff", encoding="utf-8")
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


# A run


@pytest.fixture
def run(phantoms: Path, tmp_path: Path) -> Path:
    shutil.copytree(phantoms, tmp_path / "data")
    return untrained_run(tmp_path)


def scored(path: Path) -> set[str]:
    return {line["case"] for line in csv.DictReader(path.read_text().splitlines())}


def test_evaluate_run_writes_and_prints_the_table_of_the_test_cases(run: Path, capsys: pytest.CaptureFixture):
    rows = evaluate_run(run)
    assert [row.cases for row in rows] == [len(names(run, "test"))] * 15
    out = run / "evaluation"
    of_one_case = {"shapley.csv", "scored.txt", "checkpoint.txt", "case_median.png"}
    assert {path.name for path in out.iterdir()} == {*TABLES, *of_one_case}
    assert scored(out / "cases.csv") == names(run, "test")
    assert len((out / "table.csv").read_text().splitlines()) == 1 + 15 + 1
    printed = capsys.readouterr().out
    assert (out / "table.md").read_text(encoding="utf-8") in printed
    assert all(str(path) in printed for path in out.iterdir())


def test_evaluate_run_refuses_cases_that_training_or_selection_has_seen(run: Path, tmp_path: Path):
    [test] = names(run, "test")
    shutil.copytree(run.parent / "data", tmp_path / "without", ignore=shutil.ignore_patterns(test))
    with pytest.raises(UserError, match=r"5 of its 5 cases .*leave --data out") as error:
        evaluate_run(run, tmp_path / "without")
    assert all(name in str(error.value) for name in names(run, "train") | names(run, "validation"))
    assert not names(run, "test") & set(str(error.value).replace(",", " ").replace("(", " ").split())
    # a copy elsewhere, of the case that selected the model
    [validation] = names(run, "validation")
    shutil.copytree(run.parent / "data" / validation, tmp_path / "elsewhere" / validation)
    with pytest.raises(UserError, match=rf"1 of its 1 cases .*\({validation}\)"):
        evaluate_run(run, tmp_path / "elsewhere")
    # a link under another name
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "innocent").symlink_to(run.parent / "data" / validation, target_is_directory=True)
    with pytest.raises(UserError, match="1 of its 1 cases"):
        evaluate_run(run, tmp_path / "linked")
    assert not (run / "evaluation").exists()


def test_other_data_is_scored_beside_the_runs_own_results(run: Path, tmp_path: Path):
    """In a folder with splits its test cases are meant; the case here lacks two modalities."""
    evaluate_run(run)
    own = (run / "evaluation/table.md").read_text(encoding="utf-8")
    [test] = names(run, "test")
    for split, name in (("train", "unread"), ("test", "new")):
        shutil.copytree(run.parent / "data" / test, tmp_path / "clinic" / split / name)
    for modality in ("t1", "t2"):
        next((tmp_path / "clinic/test/new").glob(f"*_{modality}.nii.gz")).unlink()
    rows = evaluate_run(run, tmp_path / "clinic")
    assert [row.subset for row in rows if row.cases] == [("flair",), ("t1ce",), ("flair", "t1ce")]
    out = run / "evaluation/clinic"
    assert scored(out / "cases.csv") == {"new"}
    assert (out / "table.md").read_text(encoding="utf-8").count("absent") == 2 * 12 * 5
    assert (run / "evaluation/table.md").read_text(encoding="utf-8") == own


def test_data_of_another_brats_year_is_read_by_its_own_label_numbers(run: Path, tmp_path: Path):
    """BraTS 2023: other names, and enhancing tumour is 3 instead of 4."""
    [test] = names(run, "test")
    new = tmp_path / "brats2023" / "BraTS-GLI-00001-000"
    new.mkdir(parents=True)
    for old, name in {"flair": "t2f", "t1": "t1n", "t1ce": "t1c", "t2": "t2w", "seg": "seg"}.items():
        image = nibabel.load(run.parent / "data" / test / f"{test}_{old}.nii.gz")
        values = np.asarray(image.dataobj)
        renumbered = np.where(values == 4, 3, values).astype(values.dtype) if old == "seg" else values
        nibabel.save(nibabel.Nifti1Image(renumbered, image.affine), new / f"{new.name}-{name}.nii.gz")
    assert evaluate_run(run, tmp_path / "brats2023") == evaluate_run(run)


def test_test_cases_that_are_gone_are_an_error(run: Path):
    [test] = names(run, "test")
    shutil.rmtree(run.parent / "data" / test)
    with pytest.raises(UserError, match=rf"1 of its test cases are not at {run.parent / 'data'} any more; if the data"):
        evaluate_run(run)


def test_another_folder_beside_the_splits_is_left_alone(phantoms: Path, tmp_path: Path):
    """Cases without labels, under another name than train, validation and test: training never looks at them."""
    for split, case in zip(("train", "validation", "test", "unlabelled"), sorted(phantoms.iterdir()), strict=False):
        shutil.copytree(case, tmp_path / "data" / split / case.name)
    next((tmp_path / "data/unlabelled").glob("*/*_seg.nii.gz")).unlink()
    rows = evaluate_run(untrained_run(tmp_path))
    assert [row.cases for row in rows] == [1] * 15


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real data not at {REAL}")
def test_real_tumours_of_which_t1_and_t2_are_truly_missing():
    patterns = {"flair": "Flair*", "t1ce": "T1c*", "seg": "OTMultiClass*", "mask": "brainmask*"}
    cases = find_cases(REAL / "test", patterns=patterns, scheme=SCHEMES["brats2015"])
    case = load_case(cases[0])
    centre = case["target"][0].nonzero().double().mean(dim=0).int().tolist()
    box = (slice(None), *[slice(x - 16, x + 16) for x in centre])
    case |= {key: case[key][box] for key in ("flair", "t1ce", "target")}
    torch.manual_seed(0)
    network = UNet3d(BRATS_MODALITIES, REGIONS, width=0.125)
    rows = subset_table(evaluate_cases(network, [case], SCHEME, (32, 32, 32)), BRATS_MODALITIES, REGIONS)
    assert [row.subset for row in rows if row.cases] == [("flair",), ("t1ce",), ("flair", "t1ce")]
    assert all(0 <= dice <= 1 for row in rows for dice in row.dice.values())
