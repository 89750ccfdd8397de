"""Sound: files that soundfile reads, as log-mel spectrograms of one length."""

import os
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from scipy.signal import firwin, resample_poly
from torch import Tensor

from gmd.data.log_mel import frames_of, log_mel, mel_bands, window_of
from gmd.data.manifest.cells import Cell, Unreadable
from gmd.data.manifest.files import not_read, path_of
from gmd.data.manifest.inputs import Input, Preparation
from gmd.errors import UserError
from gmd.files import open_regular

RATES = (1000, 768_000)  # samples per second that a file may have
LARGEST = 2.0**15  # of a value, where 1 is full scale: what floating-point files may hold
_EXPECTED = "sound (WAV, FLAC, OGG, MP3)"
_UNREADABLE = (OSError, ValueError, TypeError, MemoryError, RuntimeError)  # of which soundfile's own is one


class SoundFacts(NamedTuple):
    """What the header of a file says. size: bytes; rate: samples per second; seconds: its length."""

    size: int
    rate: int
    channels: int
    seconds: float


def sound_input(preparation: Preparation) -> Input:
    """Returns what sound becomes. Raises UserError for more bands than the spectrum can tell apart."""
    _, size = window_of(preparation.rate)
    if not mel_bands(preparation.rate, size, preparation.mels).any(dim=0).all():
        raise UserError(
            f"--mels: got {preparation.mels} bands of sound of {preparation.rate} Hz, some so narrow that nothing "
            "falls into them; give fewer, or a higher --rate"
        )
    steps = frames_of(_samples(preparation), preparation.rate)
    return Input("audio", {"steps": steps, "mels": preparation.mels})


def check_sound(cell: Cell) -> SoundFacts:
    """Reads the header of a cell's file.

    Raises Unreadable for a file that is missing, that is no sound, or has none in it; UserError for a path that may not
        be.
    """
    path = path_of(cell)
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                rate, frames, channels = sound.samplerate, sound.frames, sound.channels
    except _UNREADABLE as error:
        raise not_read(cell, path, _EXPECTED, error) from error
    if not frames > 0:
        raise Unreadable(f"{cell.where}: {path}: has no sound in it")
    if not RATES[0] <= rate <= RATES[1]:
        raise Unreadable(f"{cell.where}: {path}: has {rate} samples per second, expected {RATES[0]} to {RATES[1]}")
    return SoundFacts(size, rate, channels, frames / rate)


def load_sound(cell: Cell, preparation: Preparation, rng: np.random.Generator | None) -> Tensor:
    """Computes the spectrogram of a cell's sound, its channels averaged, resampled to the rate.

    Of longer sound the middle is taken, of training samples with `augment` any place; shorter gets silence behind it.

    rng: of a training sample; None: nothing is random
    returns float32 [1, T, M], see `log_mel`; Raises Unreadable for a file that cannot be decoded.
    """
    drawn = float(rng.random()) if preparation.augment and rng is not None else 0.5
    waveform, rate = _read(cell, preparation.seconds, drawn)
    wanted = _samples(preparation)
    if rate != preparation.rate:
        waveform = _resampled(waveform, Fraction(preparation.rate, rate).limit_denominator(1000))
    whole = np.zeros(wanted, np.float32)
    kept = waveform[:wanted]
    whole[: len(kept)] = kept
    return log_mel(torch.from_numpy(whole), preparation.rate, preparation.mels)[None]


def _samples(preparation: Preparation) -> int:
    return round(preparation.seconds * preparation.rate)


def _read(cell: Cell, seconds: float, place: float) -> tuple[np.ndarray, int]:
    """Reads no more of a file than is needed: float32 [samples] of one channel, and its rate.

    place: of what is taken: 0: the beginning, 1: the end
    """
    path = path_of(cell)
    try:
        with open_regular(path) as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            rate = sound.samplerate
            needed = min(sound.frames, round(seconds * rate))
            sound.seek(int((sound.frames - needed) * place))
            values = sound.read(needed, dtype="float32", always_2d=True)
    except _UNREADABLE as error:
        raise not_read(cell, path, _EXPECTED, error) from error
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > LARGEST:
        values = np.nan_to_num(values, nan=0, posinf=0, neginf=0).clip(-LARGEST, LARGEST)
    return values.mean(axis=1), rate


def _resampled(waveform: np.ndarray, ratio: Fraction) -> np.ndarray:
    up, down = ratio.as_integer_ratio()
    return resample_poly(waveform, up, down, window=_filter(max(up, down)))


@cache
def _filter(factor: int) -> np.ndarray:
    """Returns the low pass of `scipy.signal.resample_poly`, which would be made anew for each file."""
    return firwin(20 * factor + 1, 1 / factor, window=("kaiser", 5.0)).astype(np.float32)
