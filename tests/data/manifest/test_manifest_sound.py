"""Sound: spectrograms of one length, whatever the rate, the channels, the length and the format."""

import math

import numpy as np
import pytest
import soundfile
import torch

from gmd.data.manifest.cells import Cell, Table, Unreadable
from gmd.data.manifest.inputs import Preparation
from gmd.data.manifest.read import read_manifest
from gmd.data.manifest.sound import check_sound, load_sound, sound_input
from gmd.errors import UserError
from helpers.manifest_cases import SMALL, all_kinds, only, write_sound, write_table

PREPARATION = Preparation(rate=8000, seconds=0.5, mels=16)


def cell(folder, text="x.wav"):
    return Cell(Table(folder / "m.csv", folder), 2, "audio:x", text)


def load(folder, text="x.wav", preparation=PREPARATION, rng=None):
    return load_sound(cell(folder, text), preparation, rng)


def strongest(values):
    return int(values[0].mean(dim=0).argmax())


@pytest.mark.parametrize("name", ["x.wav", "x.flac", "x.ogg", "x.mp3"])
def test_formats(tmp_path, name):
    write_sound(tmp_path / name, 0.5, 16000, frequency=1000)
    facts = check_sound(cell(tmp_path, name))
    assert (facts.rate, facts.channels, facts.size) == (16000, 1, (tmp_path / name).stat().st_size)
    assert facts.seconds == pytest.approx(0.5, abs=0.1)
    write_sound(tmp_path / "y.wav", 0.5, 8000, frequency=1000)
    assert strongest(load(tmp_path, name)) == strongest(load(tmp_path, "y.wav"))


def test_the_size_is_that_of_the_input(tmp_path):
    write_sound(tmp_path / "x.wav", 0.5)
    for seconds in (0.5, 0.01, 1.234):
        preparation = Preparation(rate=8000, seconds=seconds, mels=16)
        sizes = sound_input(preparation).sizes
        values = load(tmp_path, preparation=preparation)
        assert values.shape == (1, sizes["steps"], sizes["mels"])
        assert values.dtype == torch.float32


@pytest.mark.parametrize("rate", [4000, 11025, 16000, 22050, 44100, 48000, 44099])
def test_other_rates_are_resampled(tmp_path, rate):
    write_sound(tmp_path / "x.wav", 0.5, rate, frequency=700)
    write_sound(tmp_path / "y.wav", 0.5, 8000, frequency=700)
    found, expected = load(tmp_path)[0, 5:-5], load(tmp_path, "y.wav")[0, 5:-5]
    band = strongest(expected[None])
    assert strongest(found[None]) == band
    assert float((found - expected)[:, band].abs().max()) < 0.1


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.stack([np.full(4000, 0.5), np.full(4000, -0.5)], axis=1), 8000)
    assert float(load(tmp_path).max()) == pytest.approx(math.log(1e-8), abs=1e-3)
    write_sound(tmp_path / "one.wav", 0.5)
    write_sound(tmp_path / "two.wav", 0.5, channels=2)
    assert torch.equal(load(tmp_path, "one.wav"), load(tmp_path, "two.wav"))


def parts(path, frequencies=(300, 900, 2700), each=0.5, rate=8000):
    """Sound whose parts differ in pitch."""
    time = np.arange(round(each * rate)) / rate
    soundfile.write(path, np.concatenate([np.sin(2 * np.pi * f * time) / 2 for f in frequencies]), rate)


def test_of_longer_sound_the_middle_is_taken(tmp_path):
    parts(tmp_path / "x.wav")
    write_sound(tmp_path / "middle.wav", 0.5, frequency=900)
    assert strongest(load(tmp_path)) == strongest(load(tmp_path, "middle.wav"))


def test_with_augmentation_any_part_is_taken_while_training_alone(tmp_path):
    parts(tmp_path / "x.wav")
    augmented = Preparation(rate=8000, seconds=0.5, mels=16, augment=True)
    drawn = {strongest(load(tmp_path, preparation=augmented, rng=np.random.default_rng(s))) for s in range(30)}
    assert len(drawn) >= 3
    assert torch.equal(load(tmp_path, rng=np.random.default_rng(1)), load(tmp_path))
    assert torch.equal(load(tmp_path, preparation=augmented), load(tmp_path))


def test_shorter_sound_is_continued_with_silence(tmp_path):
    write_sound(tmp_path / "x.wav", 0.2)
    values = load(tmp_path)[0]
    assert float(values[:15].max(dim=1).values.min()) > -5
    assert float(values[22:].max()) == pytest.approx(math.log(1e-8), abs=1e-3)


def test_no_more_is_read_than_is_needed(tmp_path, monkeypatch):
    write_sound(tmp_path / "x.wav", 20)
    asked, read = [], soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n, **o: asked.append(n) or read(self, n, **o))
    load(tmp_path)
    assert asked == [4000]


def test_numbers_that_are_none_are_silence(tmp_path):
    wave = np.zeros(4000, np.float32)
    wave[[10, 20, 30]] = np.nan, np.inf, 1e30
    soundfile.write(tmp_path / "x.wav", wave, 8000, subtype="FLOAT")
    assert torch.isfinite(load(tmp_path)).all()


def test_what_was_resampled_averaged_and_cut_is_counted(tmp_path):
    rows = only(all_kinds(tmp_path), "audio:voice")
    write_sound(tmp_path / "sound" / "0.wav", rate=16000)
    write_sound(tmp_path / "sound" / "1.wav", rate=44100, channels=2)
    write_sound(tmp_path / "sound" / "2.wav", seconds=0.5)
    data = read_manifest(write_table(tmp_path / "m.csv", rows), None, SMALL)
    assert data.notes == (
        "audio:voice: files of other rates are resampled to 8000 Hz: 1 of 16000 Hz, 1 of 44100 Hz",
        "audio:voice: the channels of 1 files are averaged",
        "audio:voice: 1 files are longer than 0.2 s and cut",
    )


def test_no_sound_and_odd_rates_are_refused(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(0), 8000)
    with pytest.raises(Unreadable, match="has no sound in it"):
        check_sound(cell(tmp_path))
    soundfile.write(tmp_path / "x.wav", np.zeros(10), 3)
    with pytest.raises(Unreadable, match="has 3 samples per second, expected 1000 to 768000"):
        check_sound(cell(tmp_path))


def test_what_only_decoding_finds_names_file_and_row(tmp_path):
    path = write_sound(tmp_path / "x.flac", 2)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"m.csv: line 2, audio:x: .*x.flac: cannot be read as sound"):
        load(tmp_path, "x.flac")


def test_more_bands_than_the_spectrum_tells_apart_are_refused():
    with pytest.raises(UserError, match="--mels: got 128 bands of sound of 8000 Hz"):
        sound_input(Preparation(rate=8000, mels=128))
