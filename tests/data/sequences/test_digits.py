"""Spoken and written digits: features that show the sound, pairs of one digit, splits that share nothing."""

import functools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from gmd.data.log_mel import FLOOR, log_mel, mel_bands
from gmd.data.sequences.digits import read_digits
from helpers.nifti_cases import error_of, real_data
from helpers.sequence_cases import all_samples, assert_same, recordings, write_npz

RATE = 8000


def sine(frequency, seconds=0.5, amplitude=1.0, rate=RATE):
    return amplitude * torch.sin(2 * math.pi * frequency * torch.arange(round(seconds * rate)) / rate)


def mel(frequency):
    return 2595 * math.log10(1 + frequency / 700)


# Log-mel features


@settings(deadline=None, max_examples=60)
@given(st.floats(100, 3900), st.sampled_from([16, 32, 40]))
def test_the_energy_of_a_sine_is_in_the_band_of_its_frequency(frequency, mels):
    features = log_mel(sine(frequency), RATE, mels)
    # bands peak at equal steps of the mel scale: the first at step 1
    step = mel(frequency) / mel(RATE / 2) * (mels + 1)
    strongest = features.argmax(dim=1) + 1
    assert ((strongest - step).abs() <= 1.0).all()
    far = (torch.arange(1, mels + 1) - step).abs() > 6 * mels / 32 + 4
    assert (features[:, far] < features.max() - 5).all()


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_a_sine_of_full_scale_is_about_0_at_any_rate(rate):
    features = log_mel(sine(1000, rate=rate), rate)
    assert features.max(dim=1).values.abs().max() < 1
    halved = log_mel(sine(1000, amplitude=0.5, rate=rate), rate)
    loud = features > math.log(FLOOR * 1e4)
    assert torch.allclose((features - halved)[loud], torch.tensor(math.log(4)), atol=1e-3)


@pytest.mark.parametrize("samples", [0, 1, 199, 200, 256, 257, 336, 4000])
def test_silence_is_finite_and_every_length_has_a_frame(samples):
    features = log_mel(torch.zeros(samples), RATE)
    assert features.shape == (max(1, 1 + (samples - 256) // 80), 32)
    assert features.dtype == torch.float32
    assert (features == math.log(FLOOR)).all()


def test_a_click_is_in_the_frames_that_cover_it():
    waveform = torch.zeros(4000)
    waveform[2000] = 1
    loud = (log_mel(waveform, RATE) > math.log(FLOOR) + 1).any(dim=1).nonzero().flatten()
    # frame i covers 200 samples, in the middle of 256, from 80 i on
    assert {round(int(frame)) for frame in loud} == {i for i in range(47) if 28 < 2000 - 80 * i < 228}


@pytest.mark.parametrize(("rate", "size", "mels"), [(8000, 256, 32), (8000, 256, 40), (16000, 512, 40)])
def test_bands_are_triangles_on_the_mel_scale(rate, size, mels):
    bands = mel_bands(rate, size, mels).double()
    assert bands.shape == (size // 2 + 1, mels)
    assert bands.amax(dim=0).min() > 0.3, "a band without any frequency would be silent"
    frequencies = torch.linspace(0, rate / 2, size // 2 + 1, dtype=torch.float64)
    peaks = [700 * (10 ** (mel(rate / 2) * (i + 1) / (mels + 1) / 2595) - 1) for i in range(mels)]
    inside = (frequencies >= peaks[0]) & (frequencies <= peaks[-1])
    assert torch.allclose(bands.sum(dim=1)[inside], torch.tensor(1.0).double(), atol=1e-6)  # neighbours add up to 1
    assert torch.allclose(bands.T @ frequencies / bands.sum(dim=0), torch.tensor(peaks).double(), rtol=0.12)


# The set


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_npz(tmp_path_factory.mktemp("digits") / "fsdd.npz", recordings())


written_digits = functools.cache(load_digits)


def images_of(digit):
    return np.flatnonzero(written_digits().target == digit)


def image_number(sample):
    """Of scikit-learn's images, the one that the sample has."""
    [number] = np.flatnonzero((written_digits().images == sample.values["image"].numpy() * 16).all(axis=(1, 2)))
    return int(number)


def test_every_recording_is_there_once_with_an_image_of_its_digit(path):
    data = read_digits(path)
    assert data.features == {"audio": 32, "image": 8}
    assert data.classes == tuple("0123456789")
    assert not data.per_step
    samples = all_samples(data)
    arrays = recordings()
    assert len(samples) == len({sample.name for sample in samples}) == len(arrays["digit"])
    written = written_digits().target
    for sample in samples[::7]:
        digit, speaker, index = sample.name.split("_")
        [i] = np.flatnonzero(
            (arrays["digit"] == int(digit)) & (arrays["speaker"] == speaker) & (arrays["index"] == int(index))
        )
        sound = arrays["waveform"][arrays["offset"][i] : arrays["offset"][i + 1]] / 2**15
        assert torch.equal(sample.values["audio"], log_mel(torch.from_numpy(sound.astype(np.float32)), RATE, 32))
        assert sample.values["image"].shape == (8, 8)
        assert (sample.target.item(), sample.target.dtype) == (int(digit), torch.int64)
        assert written[image_number(sample)] == int(digit)


def test_splits_share_neither_recordings_nor_images(path):
    data = read_digits(path)
    indices = {split: {int(sample.name.split("_")[2]) for sample in data.splits[split]} for split in data.splits}
    assert indices["test"] == set(range(5))
    assert min(indices["train"] | indices["validation"]) == 5
    images = {split: [image_number(sample) for sample in samples] for split, samples in data.splits.items()}
    assert not set(images["test"]) & set(images["train"] + images["validation"])
    assert not set(images["validation"]) & set(images["train"])
    assert len(set(images["test"])) == len(images["test"])  # there are enough for that
    counts = Counter(sample.target.item() for sample in data.splits["validation"])
    assert set(counts.values()) == {3}  # a ninth of 27 for each digit
    assert f"test 150 recordings with {len(set(images['test']))} images" in data.notes[1]
    assert "synthetic" in data.notes[0]


def test_a_large_test_split_leaves_images_to_train_on(tmp_path):
    """Fifty recordings of each digit test, of which there are some 178 images: a quarter of these is the most."""
    data = read_digits(write_npz(tmp_path / "a.npz", recordings(speakers=10, indices=range(7))))
    images = {split: {image_number(sample) for sample in samples} for split, samples in data.splits.items()}
    assert len(images["test"]) == sum(len(of_digit) // 4 for of_digit in map(images_of, range(10)))
    assert not images["test"] & (images["train"] | images["validation"])
    assert f"test 500 recordings with {len(images['test'])} images" in data.notes[1]


def test_the_seed_decides_pairs_and_validation(path):
    one, same, other = read_digits(path, 1), read_digits(path, 1), read_digits(path, 2)
    assert_same(one, same)
    names = [[sample.name for sample in data.splits["validation"]] for data in (one, other)]
    assert names[0] != names[1]
    tests = [data.splits["test"] for data in (one, other)]
    assert [sample.name for sample in tests[0]] == [sample.name for sample in tests[1]]
    assert [image_number(sample) for sample in tests[0]] != [image_number(sample) for sample in tests[1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digit": None}, "has no digit; there is waveform, offset, speaker, index"),
        ({"speaker": np.array(["a"])}, "the arrays are not of one length (digit: 420, speaker: 1, index: 420)"),
        ({"offset": np.arange(5)}, "offset has 5 entries for 420 recordings"),
        ({"waveform": np.zeros(9)}, "waveform is float64 [9], expected signed integers with 1 axes"),
        ({"waveform": np.zeros(9, np.int64)}, "waveform is int64, expected int16"),
        ({"digit": np.full(420, 10)}, "recording 10_speaker0_0 is of digit 10, expected 0 to 9"),
        (recordings(indices=range(5, 9)), "the test split is empty (train: 110, validation: 10, test: 0"),
        (recordings(indices=range(5)), "the train split is empty (train: 0, validation: 0, test: 150"),
        ({"index": np.arange(420) % 7}, "two samples are called 0_speaker0_5"),
    ],
)
def test_bad_recordings(changes, message, tmp_path):
    arrays = {key: value for key, value in (recordings() | changes).items() if value is not None}
    assert message in error_of(read_digits, write_npz(tmp_path / "a.npz", arrays))


@pytest.mark.parametrize(
    ("place", "value", "dtype"),
    [
        (3, -5, np.int64),
        (3, 2**64 - 1, np.uint64),
        (3, 2**63 + 7, np.uint64),
        (7, 2**62, np.int64),
        (7, 2**40, np.int64),
    ],
)
def test_offsets_beyond_the_sound_do_not_wrap(place, value, dtype, tmp_path):
    arrays = recordings()
    arrays["offset"] = arrays["offset"].astype(dtype)
    arrays["offset"][place] = value
    message = error_of(read_digits, write_npz(tmp_path / "a.npz", arrays))
    assert "offset goes from" in message
    assert str(value) in message
    assert f"expected 0 to {len(arrays['waveform'])}" in message


def test_offsets_that_go_back(tmp_path):
    arrays = recordings()
    arrays["offset"][5] = arrays["offset"][3]
    assert "has no sound, its length is -" in error_of(read_digits, write_npz(tmp_path / "a.npz", arrays))


def test_numbers_of_recordings_below_0(tmp_path):
    arrays = recordings()
    arrays["index"][4] = -7
    assert "index has -7, expected 0 or more" in error_of(read_digits, write_npz(tmp_path / "a.npz", arrays))
    arrays = recordings()
    arrays["digit"] = arrays["digit"].astype(np.uint64)
    arrays["digit"][4] = 2**64 - 1
    message = error_of(read_digits, write_npz(tmp_path / "a.npz", arrays))
    assert "is of digit 18446744073709551615, expected 0 to 9" in message


def test_a_recording_of_length_0(tmp_path):
    arrays = recordings()
    arrays["offset"][3] = arrays["offset"][2]
    path = write_npz(tmp_path / "a.npz", arrays)
    assert "recording 0_speaker0_2 has no sound, its length is 0" in error_of(read_digits, path)
    assert "there is no such file" in error_of(read_digits, tmp_path / "b.npz")


def test_real_digits():
    data = read_digits(real_data("fsdd") / "fsdd.npz")
    sizes = {split: len(samples) for split, samples in data.splits.items()}
    assert sizes == {"train": 2400, "validation": 300, "test": 300}
    images = {split: {image_number(sample) for sample in data.splits[split]} for split in ("validation", "test")}
    assert {split: len(numbers) for split, numbers in images.items()} == {"validation": 300, "test": 300}
    assert not images["validation"] & images["test"]
    for sample in all_samples(data)[::10]:
        assert sample.values["audio"].isfinite().all()
        assert 10 < len(sample.values["audio"]) < 240
        assert sample.values["audio"].std() > 1
