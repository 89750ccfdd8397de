"""The data sets of the evidence: what they are registered with, what their runs leave, data that are made once."""

import json
import pickle
from functools import partial

import nibabel
import numpy as np
import pytest

from bench.evidence.arms import ENUMERATE, WEIGHTED, Settings, arms_on_one_network, settings, size_weights
from bench.evidence.task import Request
from bench.evidence.tasks import TASKS, by_command, samples, segmentation
from bench.evidence.tasks.shared_data import lacking, made_once
from gmd.config.weighting_options import weighting_options
from gmd.subsets import all_subsets, subset_name
from helpers.nifti_cases import save
from helpers.places import REAL_DATA

REAL = ("tumours", "lesions", "mosi", "mosi-text-audio", "digits", "mfeat")
BY_NAME = {task.name: task for task in TASKS}

pytestmark = pytest.mark.usefixtures("one_thread")


# What is registered


def test_tasks_have_names_of_their_own_in_the_order_of_the_tables():
    names = [task.name for task in TASKS]
    assert len(set(names)) == len(names)
    assert names[:7] == ["phantoms", "tumours", "lesions", "mosi", "mosi-text-audio", "digits", "mfeat"]
    assert {task.group for task in TASKS[:7]} == {""}
    assert {task.group for task in TASKS[7:]} == {"conflict"}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_arm_is_tuned_alike_and_its_time_is_known(name):
    task = BY_NAME[name]
    candidates = {arm.name: task.settings(arm) for arm in task.arms}
    assert len({len(some) for some in candidates.values()}) == 1
    assert all(len(some) == len({json.dumps(setting) for setting in some}) for some in candidates.values())
    assert all({"lr", "weight_decay"} <= setting.keys() for some in candidates.values() for setting in some)
    assert set(task.seconds) == set(candidates)
    assert {arm.base for arm in task.arms} - {None} <= set(candidates)
    assert ENUMERATE in candidates


@pytest.mark.parametrize("name", BY_NAME)
def test_weights_of_the_subsets_are_tried_and_equal_ones_among_them(name):
    task = BY_NAME[name]
    [arm] = (arm for arm in task.arms if arm.name == WEIGHTED)
    found = [weighting_options(setting["weighting_options"])["weights"] for setting in task.settings(arm)]
    assert all(set(weights) == set(map(subset_name, all_subsets(task.modalities))) for weights in found)
    assert all(sum(weights.values()) == pytest.approx(1, rel=1e-3) for weights in found)
    assert len({max(weights.values()) / min(weights.values()) for weights in found}) >= 2
    assert any(max(weights.values()) == min(weights.values()) for weights in found)


def test_tasks_can_be_sent_to_other_processes():
    assert [task.name for task in pickle.loads(pickle.dumps(TASKS))] == [task.name for task in TASKS]


def test_settings_that_are_not_as_many_are_refused():
    [first, *_] = size_weights(("a", "b"))
    with pytest.raises(ValueError, match="expected as many settings as the 2 plain ones, got 1"):
        Settings([(0.1, 0.0), (0.2, 0.0)], [((0.1, 0.0), first)])
    with pytest.raises(ValueError, match="the 2 plain ones, got 3"):
        settings(("a", "b"), (0.1, 0.2), (0.0,), (0.1,))


def test_pcd_follows_the_objective_of_all_modalities():
    [pcd] = (arm for arm in arms_on_one_network(("a", "b")) if arm.name == "pcd")
    assert pcd.options["weighting_options"] == ("primary=a+b",)


# Data


@pytest.mark.parametrize("name", REAL)
def test_data_that_are_not_there_are_named(name, tmp_path):
    said = BY_NAME[name].lacking(tmp_path)
    assert said is not None
    assert said.startswith("not there: ")
    assert str(tmp_path) in said


def test_half_a_data_set_is_not_there(tmp_path):
    (tmp_path / "brats15_two_modalities" / "train").mkdir(parents=True)
    said = str(BY_NAME["tumours"].lacking(tmp_path))
    assert "test" in said
    assert "train" not in said.replace(str(tmp_path), "")


def test_generated_data_are_always_there(tmp_path):
    assert BY_NAME["phantoms"].lacking(tmp_path) is None
    assert lacking(tmp_path, needed=()) is None


def test_data_are_made_once(tmp_path):
    calls = []

    def make(folder):
        calls.append(folder)
        (folder / "file").write_text("whole")

    first, again = (made_once(tmp_path, "seed 0", make) for _ in range(2))
    assert first == again == tmp_path / "seed 0"
    assert len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["seed 0"]


def test_data_of_another_process_are_kept(tmp_path):
    def make(folder):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "theirs").touch()
        (folder / "ours").touch()

    assert [path.name for path in made_once(tmp_path, "data", make).iterdir()] == ["theirs"]


def test_data_that_were_not_finished_leave_nothing(tmp_path):
    def make(folder):
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once(tmp_path, "data", make)
    assert not list(tmp_path.iterdir())


# Runs by the command


def test_options_become_words():
    options = {"lr": 0.1, "no_check": True, "fold": None, "patch": (16, 16, 16), "weighting_options": ("a=1",)}
    words = ["--lr", "0.1", "--no-check", "--patch", "16", "16", "16", "--weighting-options", "a=1"]
    assert by_command.command_line(options) == words


def write_metrics(run, *records):
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def test_conflicts_and_ratio_are_those_of_the_steps_at_which_gradients_were_compared(tmp_path):
    def step(conflicts, **norms):
        return {"kind": "step", "conflicts": conflicts, "dominance": {"norms": norms}}

    epochs = ({"kind": "epoch", "validation": score} for score in (0.3, None, 0.5, 0.4))
    write_metrics(tmp_path / "run", step(0.2, a=1.0, b=4.0), step(None), step(0.4, a=9.0, b=1.0), *epochs)
    found = by_command.outcome(by_command.Trained(tmp_path / "run", 2.5), {"a": 0.5})
    assert (found.validation, found.steps, found.cpu_s, found.scores) == (0.5, 3, 2.5, {"a": 0.5})
    assert found.conflicts == pytest.approx(0.3)
    assert found.ratio == pytest.approx(6)


def test_a_method_with_one_gradient_has_no_conflicts(tmp_path):
    step = {"kind": "step", "conflicts": None, "dominance": {"norms": {"mean": 1.0}}}
    write_metrics(tmp_path / "run", step, {"kind": "epoch", "validation": 0.1})
    found = by_command.outcome(by_command.Trained(tmp_path / "run", 1.0), {})
    assert found.conflicts is found.ratio is None


# Volumes


def test_boxes_are_whole_blocks_of_the_middle_of_the_brain():
    brain = np.zeros((20, 21, 22), bool)
    brain[3:15, 4:17, 1:22] = True
    whole = segmentation.Real([], (), {}, "binary", pooled=3)
    box = segmentation.box_of(brain, whole)
    assert [(part.start, part.stop) for part in box] == [(3, 15), (4, 16), (1, 22)]
    middle = segmentation.Real([], (), {}, "binary", pooled=3, box=(2, 9, 3))
    assert [part.stop - part.start for part in segmentation.box_of(brain, middle)] == [6, 12, 9]
    assert segmentation.box_of(brain, middle)[0] == slice(6, 12)


def test_blocks_become_their_means():
    image = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    found = segmentation.pooled(image, 2)
    assert found.shape == (2, 2, 2)
    assert found[0, 0, 0] == image[:2, :2, :2].mean()
    assert found.dtype == np.float32


def test_small_volumes_are_cases_in_the_layout_of_brats(tmp_path):
    rng = np.random.default_rng(0)
    shape = (12, 12, 12)
    brain = np.zeros(shape, np.uint8)
    brain[2:10, 2:10, 2:10] = 1
    for name in ("one", "two"):
        folder = tmp_path / "data" / "all" / name
        labels = np.zeros(shape, np.uint8)
        labels[4:8, 4:8, 4:8] = 4
        for key, values in {
            "Flair_x": rng.normal(size=shape).astype(np.float32),
            "T1c_x": rng.normal(size=shape).astype(np.float32),
            "OTMultiClass": labels,
            "brainmask": brain,
        }.items():
            save(folder / f"{key}.nii.gz", values)
    real = segmentation.Real(["all"], ("flair", "t1ce"), segmentation.PATTERNS, "brats2015", pooled=2)
    (tmp_path / "small").mkdir()
    segmentation.write_small(tmp_path / "small", data=tmp_path / "data", real=real)
    assert sorted(path.name for path in (tmp_path / "small" / "one").iterdir()) == [
        *("one_flair.nii.gz", "one_seg.nii.gz", "one_t1ce.nii.gz")
    ]
    image = nibabel.load(tmp_path / "small" / "one" / "one_flair.nii.gz")
    assert image.shape == (4, 4, 4)
    assert image.header.get_zooms() == (2, 2, 2)
    assert np.asarray(image.dataobj).min() > 0, "all of the brain is above 0"
    labels = np.asarray(nibabel.load(tmp_path / "small" / "one" / "one_seg.nii.gz").dataobj)
    assert set(np.unique(labels)) == {0, 4}
    assert (labels == 4).sum() == 8


# Whole runs


def run_of(task, tmp_path, run, name="gmd", seed=0):
    [arm] = (arm for arm in task.arms if arm.name == name)
    for folder in ("run", "shared"):
        (tmp_path / folder).mkdir(exist_ok=True)
    return run(Request(arm, task.settings(arm)[0], seed, REAL_DATA, tmp_path / "run", tmp_path / "shared"))


def check_outcome(task, found):
    assert set(found.scores) == set(map(subset_name, all_subsets(task.modalities)))
    assert all(0 <= score <= 1 for score in found.scores.values())
    assert 0 <= found.validation <= 1
    assert 0 <= found.conflicts <= 1 <= found.ratio


@pytest.mark.slow
def test_a_run_on_phantoms(tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation, "PHANTOM_SIDE", 32)
    monkeypatch.setattr(segmentation, "PHANTOM_CASES", {"train": 2, "validation": 1, "test": 1})
    task = BY_NAME["phantoms"]
    options = {"epochs": 1, "steps_per_epoch": 1, "batch": 1, "width": 0.05}
    found = run_of(task, tmp_path, partial(segmentation.run_phantoms, options=options))
    check_outcome(task, found)
    assert found.steps == 1
    assert sorted(path.name for path in (tmp_path / "shared" / "seed 0").iterdir()) == ["test", "train", "validation"]


@pytest.mark.slow
def test_a_run_on_a_manifest(tmp_path):
    task = BY_NAME["mosi-text-audio"]
    if (said := task.lacking(REAL_DATA)) is not None:
        pytest.skip(said)
    options = {"epochs": 1, "batch": 128, "width": 8, "layers": 1, "longest": 8, "vocabulary": 64}
    run = partial(samples.run_manifest, **{**task.run.keywords, "options": options})
    check_outcome(task, run_of(task, tmp_path, run))
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["manifest"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gmd", "mla"])
def test_a_run_on_a_file(name, tmp_path):
    task = BY_NAME["mosi"]
    if (said := task.lacking(REAL_DATA)) is not None:
        pytest.skip(said)
    options = {**task.run.keywords["options"], "epochs": 1, "validate_every": 1, "width": 8, "layers": 1}
    found = run_of(task, tmp_path, partial(samples.run_file, **{**task.run.keywords, "options": options}), name)
    assert set(found.scores) == set(map(subset_name, all_subsets(task.modalities)))
    assert (found.conflicts is None) == (name == "mla")
