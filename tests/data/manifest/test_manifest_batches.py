"""Batches whose files are read on the way: the same ones for any number of workers, and after any start."""

import gc
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch

from gmd.data.manifest import batches as module
from gmd.data.manifest.batches import ManifestBatches, collate_cells, one_thread
from gmd.data.manifest.inputs import Preparation
from gmd.data.manifest.read import read_manifest
from gmd.data.manifest.statistics import input_statistics
from gmd.data.padded import Padded
from gmd.errors import UserError
from helpers.manifest_cases import SMALL, all_kinds, write_picture, write_sound, write_table

AUGMENTED = Preparation(**{**vars(SMALL), "augment": True, "frames": 2})
# of more workers than processors
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

SPLITS = ("train",) * 7 + ("validation", "test")


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path)


def make_data(folder, preparation=AUGMENTED):
    rows = all_kinds(folder, SPLITS)
    for i in range(5):
        write_picture(folder / "frames" / f"{i}.jpg", (50 * i, 0, 0), (20, 30))
    write_sound(folder / "sound" / "long.wav", 1.0, 16000)
    rows[0]["image:face"], rows[1]["audio:voice"] = "frames", "sound/long.wav"
    rows[2]["audio:voice"] = rows[3]["image:face"] = ""
    return read_manifest(write_table(folder / "m.csv", rows), None, preparation)


def batches(data, workers=0, training=True, batch=3, preparation=AUGMENTED, seed=5, modalities=None):
    names = list(data.inputs) if modalities is None else modalities
    return ManifestBatches(data.splits["train"], names, data.inputs, preparation, batch, seed, workers, training)


def flat(batch):
    """A batch as plain tensors and lists."""
    pairs, targets = batch
    parts = [part for value in pairs.values.values() for part in (value if isinstance(value, Padded) else [value])]
    return [pairs.samples, pairs.num_samples], [targets, *parts]


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(map(flat, ours), map(flat, theirs), strict=True):
        assert one[0] == other[0]
        assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


def differs(ours, theirs):
    return any(not torch.equal(flat(a)[1][0], flat(b)[1][0]) for a, b in zip(ours, theirs, strict=True))


def test_values_have_the_shapes_of_the_inputs(data):
    [(pairs, targets)] = batches(data, batch=7)
    assert {m: len(own) for m, own in pairs.samples.items()} == {"face": 6, "voice": 6, "words": 7, "given": 7}
    assert pairs.values["face"].shape == (6, 2, 3, 8, 8)
    assert pairs.values["voice"].shape == (6, 1, 17, 8)
    assert pairs.values["words"].values.dtype == torch.int64
    assert pairs.values["words"].values.shape == (7, 5)
    assert sorted(pairs.values["words"].lengths.tolist()) == [3, 3, 3, 5, 5, 5, 5]
    assert pairs.values["given"].values.shape == (7, 3, 4)
    assert targets.dtype == torch.int64
    assert targets.shape == (7,)


def test_workers_make_no_difference(data):
    ours, theirs, most = batches(data), batches(data, 1), batches(data, 3)
    for epoch in range(2):
        for each in (ours, theirs, most):
            each.epoch = epoch
        expected = list(ours)
        assert_same(list(theirs), expected)
        assert_same(list(most), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_it_goes_on_in_the_middle_of_an_epoch(data, workers):
    whole, rest = batches(data), batches(data, workers)
    whole.epoch = rest.epoch = 4
    rest.start = 2
    assert len(rest) == len(whole) == 3
    assert_same(list(rest), list(whole)[2:])


def test_threads_of_the_process_make_no_difference(data):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = list(batches(data))
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert_same(two, list(batches(data)))
    finally:
        torch.set_num_threads(before)


def test_an_epoch_that_was_left_can_be_begun_again(data):
    each = batches(data, 1)
    expected = list(each)
    next(iter(each))
    assert_same(list(each), expected)


def test_every_epoch_and_seed_is_another_and_evaluation_is_not(data):
    ours = batches(data)
    first = list(ours)
    ours.epoch = 1
    assert differs(list(ours), first)
    assert differs(list(batches(data, seed=6)), first)
    each = batches(data, training=False)
    expected = list(each)
    each.epoch = 1
    assert_same(list(each), expected)
    members = data.splits["train"]
    assert_same(expected[:1], [collate_cells(members[:3], list(data.inputs), data.inputs, AUGMENTED)])


def test_torchs_own_generator_is_left_alone(data):
    torch.manual_seed(0)
    list(batches(data, 1))
    ours = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(ours, torch.rand(1))


def test_modalities_that_are_not_asked_for_are_not_read(data, tmp_path):
    for path in (tmp_path / "sound").iterdir():
        path.unlink()
    [(pairs, _)] = batches(data, batch=7, modalities=["words", "face"])
    assert list(pairs.values) == ["words", "face"]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_decoded_names_file_and_row(data, tmp_path, workers):
    (tmp_path / "pictures" / "4.png").write_bytes((tmp_path / "pictures" / "4.png").read_bytes()[:50])
    with pytest.raises(UserError, match=r"m.csv: line 6, image:face: .*4.png: cannot be read as a picture") as caught:
        list(batches(data, workers))
    assert "\\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_values_that_are_not_finite_are_told_once(tmp_path, capsys, workers):
    data = make_data(tmp_path)
    np.savez(tmp_path / "features.npz", found=np.full((9, 3, 4), np.inf))
    each = batches(data, workers, preparation=AUGMENTED)
    for _ in range(2):
        for pairs, _ in each:
            assert not pairs.values["given"].values.any()
    told = [line for line in capsys.readouterr().out.splitlines() if "given" in line]
    assert told == ["given: values that are NaN, infinite or beyond 1e18 are replaced by 0, 36 in this batch"]


def test_a_worker_that_is_killed_is_told_where_a_batch_is_waited_for(data):
    """A bug: torch raised its error of it in the midst of a training step."""
    epoch = iter(batches(data, 1, batch=1))
    next(epoch)
    [worker] = multiprocessing.active_children()
    worker.kill()
    time.sleep(0.3)  # a step
    with pytest.raises(UserError, match=r"a worker that reads files has ended .* give fewer --workers, or a smaller"):
        list(epoch)


def test_a_worker_that_cannot_be_started_is_told(data, monkeypatch):
    """A bug: where memory does not suffice for a fork, a training ended with a traceback."""
    monkeypatch.setattr(os, "fork", lambda: (_ for _ in ()).throw(OSError(12, "Cannot allocate memory")))
    with pytest.raises(UserError, match=r"--workers: a process .* started .Cannot allocate memory.; give --workers 0"):
        next(iter(batches(data, workers=1)))


def test_workers_leave_an_interrupt_to_their_parent(data, monkeypatch):
    load = module.load_batch

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return load(*arguments)

    expected = list(batches(data))
    monkeypatch.setattr(module, "load_batch", interrupted)
    assert_same(list(batches(data, 1)), expected)


def test_what_no_batch_can_be_made_of(data):
    with pytest.raises(ValueError, match="expected a batch of at least 1"):
        batches(data, batch=0)
    with pytest.raises(ValueError, match="sample sample2 has none of voice"):
        batches(data, modalities=["voice"])


def test_one_thread_gives_the_others_back():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_statistics(data):
    found = input_statistics(data.splits["train"], data.inputs, AUGMENTED)
    assert {m: (tuple(mean.shape), mean.dtype) for m, (mean, _) in found.items()} == {
        "face": ((3,), torch.float64),
        "voice": ((8,), torch.float64),
        "given": ((4,), torch.float64),
    }
    names = list(data.inputs)
    pairs, _ = collate_cells(data.splits["train"], names, data.inputs, AUGMENTED)
    voice = pairs.values["voice"].double().flatten(end_dim=-2)
    face = pairs.values["face"].double().movedim(2, -1).flatten(end_dim=-2)
    given = pairs.values["given"].values.double().flatten(end_dim=-2)  # all have as many steps
    for name, values in (("voice", voice), ("face", face), ("given", given)):
        mean, deviation = found[name]
        assert torch.allclose(mean, values.mean(dim=0))
        assert torch.allclose(deviation, values.std(dim=0, unbiased=False))


def test_statistics_of_some_samples_and_of_what_is_constant(data):
    two = input_statistics(data.splits["train"], data.inputs, AUGMENTED, most=2)
    ends = [data.splits["train"][0], data.splits["train"][-1]]
    expected = input_statistics(ends, data.inputs, AUGMENTED)
    assert all(torch.equal(two[m][0], expected[m][0]) for m in expected)
    one = input_statistics(data.splits["train"][4:5], {"face": data.inputs["face"]}, AUGMENTED)
    assert one["face"][1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("whole", [True, False], ids=["after an epoch", "in the middle of one"])
def test_workers_end_at_once_when_nobody_needs_them(data, whole):
    """A bug: in a circle of objects torch's loader waited for each of them for five seconds."""
    each = batches(data, 2)
    epoch = iter(each)
    next(epoch)
    if whole:
        list(epoch)
    began = time.monotonic()
    del epoch, each
    gc.collect()
    assert not multiprocessing.active_children()
    assert time.monotonic() - began < 4
