"""What is measured of reading files: whole steps, checks, memory; and the digits that are written for it."""

import csv

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from bench.measure import manifest_loader
from bench.measure.digits_manifest import write_digits_manifest
from bench.tables.manifest_loader import manifest_loader_markdown
from gmd.data.manifest.inputs import Preparation
from gmd.data.manifest.read import read_manifest
from gmd.data.sequences.digits import read_digits
from helpers.sequence_cases import recordings, write_npz


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Recordings of ten digits, and the manifest of their files."""
    folder = tmp_path_factory.mktemp("digits")
    source = write_npz(folder / "fsdd.npz", recordings(speakers=1, indices=range(14)))
    return source, write_digits_manifest(source, folder / "files")


def test_digits_are_paired_as_gmd_train_digits_pairs_them(written):
    source, path = written
    with path.open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    for split, samples in read_digits(source).splits.items():
        for sample in samples:
            row = rows.pop(sample.name)
            assert (row["split"], row["label"]) == (split, str(int(sample.target)))
            with Image.open(path.parent / row["image:image"]) as picture:
                small = np.asarray(picture.resize((8, 8), Image.Resampling.BOX))
            assert np.abs(small / 255 - sample.values["image"].numpy()).mean() < 0.08
    assert not rows


def test_recordings_are_those_of_the_file(written):
    source, path = written
    arrays = np.load(source)
    sound, rate = soundfile.read(path.parent / "recordings" / "0_speaker0_5.wav", dtype="int16")
    assert rate == 8000
    assert np.array_equal(sound, arrays["waveform"][arrays["offset"][5] : arrays["offset"][6]])


def test_every_row_has_files_of_its_own(written):
    _, path = written
    many = read_manifest(manifest_loader.many_rows(path, 100), None, manifest_loader.SHORT)
    assert sum(map(len, many.splits.values())) == 100
    assert not any("are in training and in" in note for note in many.notes)


@pytest.mark.slow
def test_steps_checks_and_memory_are_measured(written):
    _, path = written
    cases = [("strip-mlp:32:1-1-1-1", "short", Preparation(image_size=32, rate=8000, seconds=0.1, mels=8))]
    checked, steps = manifest_loader.measure(path, cases, 1, 1, (60,))
    assert checked.keys() == {"case", "seconds", "peak_MB", "peak_reading_MB"}
    assert checked["case"] == "checking 60 rows"
    assert checked["seconds"] > 0
    assert steps["case"] == "steps of strip-mlp:32:1-1-1-1, a batch of 16, sound of short"
    assert steps["speed_kept"] == pytest.approx(steps["memory_s"] / steps["files_s"])
    assert steps["reading_s"] > 0


def test_the_table_has_what_was_to_be_reached():
    host = {"date": "d", "cpu": "c", "cores": 2, "threads": 2, "isa": "i", "torch": "t", "torchjd": "j", "commit": "k"}
    steps = {"case": "steps of x", "memory_s": 0.9, "files_s": 1.0, "reading_s": 0.1, "speed_kept": 0.9}
    checks = {"case": "checking 9 rows", "seconds": 3.0, "peak_MB": 4.0, "peak_reading_MB": 5.0}
    text = manifest_loader_markdown(pd.DataFrame([steps | host, checks | host]))
    assert "| training steps | in memory, s | one worker reads, s | reading alone, s | kept, of 0.9 |" in text
    assert "| steps of x | 0.9 | 1 | 0.1 | 0.90 |" in text
    assert "| checking 9 rows | 3 | 4 | 5 |" in text
