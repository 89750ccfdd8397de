"""`gmd predict`: one case, what may be asked for, and what is refused before anything is written."""

import gzip
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import gmd.predict.predictor
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.volumes import load_case
from gmd.predict import predict
from gmd.scoring.segmentation.prediction import predict_modalities, predict_subsets, present_volumes
from gmd.scoring.segmentation.scores import evaluate_cases
from gmd.scoring.segmentation.tables import subset_table, table_csv
from gmd.subsets import Subset, all_subsets, subset_name
from gmd.training.saved_run import load_run
from helpers.nifti_cases import error_of, save
from helpers.predict_cases import copy_cases, files, image_of, voxels, write_run

SCHEME = SCHEMES["brats2018"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture
def cases(phantoms: Path, tmp_path: Path) -> list[Path]:
    """Three case folders in a folder of their own."""
    return copy_cases(phantoms, tmp_path / "cases")


# One case


@pytest.fixture(scope="module")
def expected(run: Path, phantoms: Path) -> dict[Subset, np.ndarray]:
    """Subset -> label map of the first phantom, as the evaluation sees it, in RAS+."""
    _, network = load_run(run)
    case = load_case(find_cases(phantoms)[0], labels=False)
    label_maps = predict_subsets(predict_modalities(network, present_volumes(network, case), 32), SCHEME)
    return {subset: labels.numpy() for subset, labels in label_maps}


@pytest.mark.parametrize("subset", all_subsets(BRATS_MODALITIES), ids=subset_name)
def test_every_subset_is_predicted_as_the_evaluation_does(
    run: Path,
    cases: list[Path],
    expected: dict[Subset, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    subset: Subset,
):
    out = tmp_path / "out" / "seg.nii.gz"
    assert predict(run, None, {m: image_of(cases[0], m) for m in reversed(subset)}, out) == 0
    labels = expected[subset]
    assert set(np.unique(labels)) == {0, 1, 2, 4}
    np.testing.assert_array_equal(voxels(out), labels[::-1, ::-1])  # phantoms are stored as LPS+
    np.testing.assert_array_equal(nibabel.load(out).affine, nibabel.load(image_of(cases[0], subset[0])).affine)
    printed = capsys.readouterr().out
    missing = ", ".join(m for m in BRATS_MODALITIES if m not in subset)
    assert printed.startswith(f"seg, from {', '.join(subset)}" + (f" (missing: {missing}):" if missing else ":"))
    volumes = [float(volume) for volume in re.findall(r"[WTCE]{2} ([\d.]+) ml", printed)]
    values = (1, 2, 4), (1, 4), (4,)
    assert volumes == pytest.approx([np.isin(labels, those).sum() / 1000 for those in values], rel=0.05)  # 1 mm voxels
    assert f"gmd evaluate {run} would tell" in printed


def test_a_case_folder_with_probabilities(run: Path, cases: list[Path], tmp_path: Path):
    image_of(cases[0], "t1").unlink()
    out = tmp_path / "a.b" / "seg.1.nii"
    predict(run, cases[0], {}, out, probabilities=True)
    assert files(out.parent) == ["seg.1.nii", "seg.1_probabilities.nii.gz"]
    labels, probabilities = voxels(out), voxels(out.parent / "seg.1_probabilities.nii.gz")
    np.testing.assert_array_equal(labels == 4, probabilities[..., 2] > 0.5)
    np.testing.assert_array_equal(np.isin(labels, (1, 4)), (probabilities[..., 1:] > 0.5).any(axis=-1))


def test_the_score_of_exactly_this_subset_is_told(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    run = shutil.copytree(run, tmp_path / "evaluated")
    _, network = load_run(run)
    loaded = [load_case(case) for case in find_cases(cases[0].parent)[:2]]
    del loaded[0]["flair"]
    scores = evaluate_cases(network, loaded, SCHEME, 32)
    rows = subset_table(scores, BRATS_MODALITIES, network.regions)
    (run / "evaluation").mkdir()
    (run / "evaluation" / "table.csv").write_text(table_csv(rows, BRATS_MODALITIES, network.regions))
    for subset, count in ((("flair", "t2"), "1 case"), (("t1",), "2 cases")):
        predict(run, None, {m: image_of(cases[1], m) for m in subset}, tmp_path / "seg.nii.gz")
        [row] = [row for row in rows if row.subset == subset]
        dice = ", ".join(f"{region} {row.dice[region]:.3f}" for region in network.regions)
        told = f"With {', '.join(subset)} evaluated scored a mean Dice of {dice} in its evaluation, over the label "
        told += f"maps of {count}."
        assert told in capsys.readouterr().out
    for case in loaded:
        case.pop("flair", None)
    rows = subset_table(evaluate_cases(network, loaded, SCHEME, 32), BRATS_MODALITIES, network.regions)
    (run / "evaluation" / "table.csv").write_text(table_csv(rows, BRATS_MODALITIES, network.regions))
    predict(run, None, {"flair": image_of(cases[1], "flair")}, tmp_path / "seg.nii.gz")
    assert "With flair evaluated was never tested" in capsys.readouterr().out


def test_an_empty_region_is_warned_of(cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture):
    run = write_run(tmp_path / "run", labels="brats2023")
    config, network = load_run(run)
    network.head.bias.data[1:] = -100
    gmd.training.checkpoint.save_checkpoint(
        run / "last.pt", {"config": config.to_dict(), "network": network.state_dict()}
    )
    predict(run, cases[0], {}, tmp_path / "seg.nii.gz", which="last")
    assert "TC 0 ml, ET 0 ml; warning: not a voxel of TC or ET" in capsys.readouterr().out
    assert set(np.unique(voxels(tmp_path / "seg.nii.gz"))) == {0, 2}


def test_a_modality_that_is_zero_everywhere(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    outs = [tmp_path / "without.nii.gz", tmp_path / "zero.nii.gz"]
    images = {m: image_of(cases[0], m) for m in ("flair", "t2")}
    predict(run, None, images, outs[0])
    empty = nibabel.load(image_of(cases[0], "t1"))
    images["t1"] = save(tmp_path / "t1.nii.gz", np.zeros(empty.shape, np.int16), empty.affine)
    message = error_of(predict, run, None, images, outs[1])
    assert f"{images['t1']}: every voxel is 0" in message
    assert "--zero-is-missing" in message
    assert not outs[1].exists()
    capsys.readouterr()
    predict(run, None, images, outs[1], zero_is_missing=True)
    assert "from flair, t2 (missing: t1ce; one value only: t1):" in capsys.readouterr().out
    np.testing.assert_array_equal(voxels(outs[0]), voxels(outs[1]))
    only = {"t1": images["t1"]}
    assert "every voxel of every modality is 0" in error_of(predict, run, None, only, outs[1], zero_is_missing=True)


def test_capitals_and_spaces(run: Path, cases: list[Path], tmp_path: Path):
    predict(run, cases[0], {}, tmp_path / "expected.nii.gz")
    folder = tmp_path / "A Folder" / "CASE 1"
    folder.mkdir(parents=True)
    for m in BRATS_MODALITIES:
        shutil.copy(image_of(cases[0], m), folder / f"CASE 1_{m.upper()}.NII.GZ")
    out = tmp_path / "an output" / "SEG 1.NII.GZ"
    predict(run, folder, {}, out)
    expected = nibabel.load(tmp_path / "expected.nii.gz")
    np.testing.assert_array_equal(voxels(out), np.asarray(expected.dataobj))
    assert gzip.decompress(out.read_bytes()) == gzip.decompress((tmp_path / "expected.nii.gz").read_bytes())


# What is refused, before anything is written


def test_what_is_asked_for_must_make_sense(run: Path, cases: list[Path], tmp_path: Path):
    before = files(tmp_path)
    flair, out = image_of(cases[0], "flair"), tmp_path / "new" / "seg.nii.gz"
    asked = [
        ((None, {}, out), "either a case, or folder of cases, or files by modality"),
        ((cases[0], {"flair": flair}, out), "not both"),
        ((None, {"pet": flair}, out), "pet: this network does not know it; it knows flair, t1, t1ce, t2"),
        ((None, {"mask": flair}, out), "expected at least one of flair, t1, t1ce, t2, got none"),
        ((None, {"t1": flair, "flair": flair}, out), "t1 and flair: one file is given twice"),
        ((None, {"t1": tmp_path / "gone.nii.gz"}, out), f"{tmp_path / 'gone.nii.gz'}: there is no such file"),
        ((None, {"flair": flair}, tmp_path / "seg.mha"), "seg.mha: expected a name that ends in .nii.gz or .nii"),
        ((cases[0], {}, tmp_path / "seg"), "seg: expected a name that ends in .nii.gz or .nii"),
        ((cases[0].parent, {}, out), f"{out}: {cases[0].parent} holds 3 case(s), expected a folder"),
        ((flair, {}, out), f"{flair}: which modality is it? Say --image flair={flair}"),
        ((tmp_path / "gone", {}, out), f"{tmp_path / 'gone'}: there is no such folder"),
        ((None, {"flair": flair}, flair), f"{flair}: is one of the files to predict from"),
        ((None, {"flair": flair}, cases[0] / ".." / cases[0].name / flair.name), "is one of the files to predict from"),
        ((cases[0], {}, image_of(cases[0], "seg")), "is one of the files to predict from"),
    ]
    for (source, images, to), message in asked:
        assert message in error_of(predict, run, source, images, to)
    assert files(tmp_path) == before


def test_an_output_folder_that_cannot_be_written_to(run: Path, cases: list[Path], tmp_path: Path):
    (tmp_path / "file").touch()
    message = error_of(predict, run, cases[0], {}, tmp_path / "file" / "seg.nii.gz")
    assert f"--out: {tmp_path / 'file'} is a file; expected a folder" in message
    # rights do not stop root, who runs tests in containers
    assert "--out: /proc/gmd/seg.nii.gz: cannot be written (" in error_of(
        predict, run, cases[0], {}, Path("/proc/gmd/seg.nii.gz")
    )
    (tmp_path / "there.nii.gz").mkdir()
    assert "is a folder" in error_of(predict, run, cases[0], {}, tmp_path / "there.nii.gz")


def test_a_brain_mask_where_the_training_had_one(cases: list[Path], tmp_path: Path):
    patterns = tuple(f"{m}=*_{m}.nii.gz" for m in BRATS_MODALITIES)
    run = write_run(tmp_path / "run", patterns=(*patterns, "mask=*_mask.nii.gz"))
    flair = image_of(cases[0], "flair")
    assert "add --image mask=FILE" in error_of(predict, run, None, {"flair": flair}, tmp_path / "seg.nii.gz")
    image = nibabel.load(flair)
    mask = save(tmp_path / "m.nii.gz", (np.asarray(image.dataobj) > 0).astype(np.uint8), image.affine)
    assert predict(run, None, {"flair": flair, "mask": mask}, tmp_path / "seg.nii.gz") == 0


def test_runs_that_cannot_be_used(run: Path, cases: list[Path], tmp_path: Path):
    out = tmp_path / "seg.nii.gz"
    assert "no config.yaml" in error_of(predict, tmp_path, cases[0], {}, out)
    sentiment = gmd.config.TrainSentiment(tmp_path / "x.npz", tmp_path / "sentiment")
    gmd.config.file.write_config(sentiment.out / "config.yaml", sentiment)
    assert "was trained on sentiment, which has no volumes" in error_of(predict, sentiment.out, cases[0], {}, out)
    assert "last.pt: no such checkpoint" in error_of(predict, run, cases[0], {}, out, which="last")
    other = shutil.copytree(run, tmp_path / "other")
    config, network = load_run(other)
    state = {"format": 0, "config": config.to_dict(), "network": network.state_dict()}
    gmd.training.checkpoint.save_checkpoint(other / "best.pt", state)
    assert "in format 0, but this gmd" in error_of(predict, other, cases[0], {}, out)
    assert not out.exists()


def test_a_cross_validation_has_more_than_one_network(run: Path, cases: list[Path], tmp_path: Path):
    for fold in (0, 1):
        shutil.copytree(run, tmp_path / "cv" / f"fold{fold}")
    message = error_of(predict, tmp_path / "cv", cases[0], {}, tmp_path / "seg.nii.gz")
    assert f"{tmp_path / 'cv'}: holds 2 folds" in message
    assert f"give one, e.g. {tmp_path / 'cv' / 'fold0'}" in message
    assert predict(tmp_path / "cv" / "fold1", cases[0], {}, tmp_path / "seg.nii.gz") == 0


def test_a_network_that_has_diverged_predicts_nothing(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    """Its segmentations were empty, and passed for what it had found."""
    config, network = load_run(run)
    network.head.bias.data[:] = torch.nan
    other = write_run(tmp_path / "diverged")
    gmd.training.checkpoint.save_checkpoint(
        other / "best.pt", {"config": config.to_dict(), "network": network.state_dict()}
    )
    assert "output is NaN or infinite" in error_of(predict, other, cases[0], {}, tmp_path / "seg.nii.gz")
    assert not (tmp_path / "seg.nii.gz").exists()
    assert predict(other, cases[0].parent, {}, tmp_path / "out") == 1
    assert "0 done, 0 skipped, 3 failed:" in capsys.readouterr().out
    assert not files(tmp_path / "out")


def test_the_evaluation_is_not_of_the_last_weights(
    run: Path, cases: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    other = shutil.copytree(run, tmp_path / "other")
    shutil.copy(other / "best.pt", other / "last.pt")
    predict(other, cases[0], {}, tmp_path / "seg.nii.gz", which="last")
    printed = capsys.readouterr().out
    assert "No score is told: gmd evaluate scores best.pt, and this is last.pt." in printed
    assert "would tell" not in printed


def test_a_subset_of_a_case_whose_modalities_differ_in_extent(run: Path, cases: list[Path], tmp_path: Path):
    """The evaluation of the whole case scores what is predicted from the files of the subset."""
    path = image_of(cases[0], "t1")
    image = nibabel.load(path)
    data = np.asarray(image.dataobj).copy()
    data[: data.shape[0] // 2] = 0
    save(path, data, image.affine)
    _, network = load_run(run)
    loaded = load_case(find_cases(cases[0])[0], labels=False)
    label_maps = dict(predict_subsets(predict_modalities(network, present_volumes(network, loaded), 32), SCHEME))
    for subset in (("t1",), ("flair", "t1")):
        predict(run, None, {m: image_of(cases[0], m) for m in subset}, tmp_path / "seg.nii.gz")
        np.testing.assert_array_equal(voxels(tmp_path / "seg.nii.gz"), label_maps[subset].numpy()[::-1, ::-1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_refused(run: Path, cases: list[Path], tmp_path: Path, value: float):
    image = nibabel.load(image_of(cases[0], "t2"))
    data = image.get_fdata(dtype=np.float32)
    data[3, 4, 5:8] = value
    path = save(tmp_path / "t2.nii.gz", data, image.affine)
    message = error_of(predict, run, None, {"t2": path}, tmp_path / "seg.nii.gz")
    assert f"{path}: 3 of {data.size} voxels are NaN or infinite; give them finite values" in message
    assert not (tmp_path / "seg.nii.gz").exists()
