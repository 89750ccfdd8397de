"""Log-mel features of speech: its power in bands of about the ear's width, a hundred times a second."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, HOP = 0.025, 0.010  # seconds
FLOOR = 1e-8  # power of silence, which has no logarithm: 80 dB below a sine of full scale


def log_mel(waveform: Tensor, rate: int, mels: int = 32) -> Tensor:
    """Computes the natural logarithm of the power in `mels` bands, in Hann windows of 25 ms every 10 ms.

    waveform: float32 [samples] in [-1, 1], any number; one that is too short for a frame is continued with silence,
        and what is left over for less than a frame at the end is not used
    rate: samples per second
    returns float32 [frames, mels], at least one frame; 0 is about a sine of full scale
    """
    window, size = window_of(rate)
    waveform = F.pad(waveform, (0, max(0, size - len(waveform))))
    spectrum = torch.stft(
        waveform, size, round(HOP * rate), window, torch.hann_window(window), center=False, return_complex=True
    )  # [size/2 + 1, frames]
    power = spectrum.abs().square() / (window / 4) ** 2  # the peak of a sine of amplitude 1 has this square
    return (power.T @ mel_bands(rate, size, mels)).clamp(min=FLOOR).log()


def window_of(rate: int) -> tuple[int, int]:
    """Returns the samples of a window, and of the Fourier transform that holds it. rate: samples per second"""
    window = round(WINDOW * rate)
    return window, 2 ** (window - 1).bit_length()


def frames_of(samples: int, rate: int) -> int:
    """Returns how many frames `log_mel` makes of so many samples, at so many per second."""
    _, size = window_of(rate)
    return 1 + max(0, samples - size) // round(HOP * rate)


@cache
def mel_bands(rate: int, size: int, mels: int) -> Tensor:
    """Makes triangular filters, equally spaced on HTK's mel scale, 2595 log10(1 + f / 700), from 0 to rate / 2.

    size: of the Fourier transform
    returns float32 [size / 2 + 1, mels]: a band rises from 0 at its neighbour's peak to 1 at its own, and falls alike;
        it is kept for the next call, so nobody may change it
    """
    highest = 2595 * torch.log10(torch.tensor(1 + rate / 2 / 700, dtype=torch.float64))
    edges = 700 * (10 ** (torch.linspace(0, 1, mels + 2, dtype=torch.float64) * highest / 2595) - 1)
    frequencies = torch.linspace(0, rate / 2, size // 2 + 1, dtype=torch.float64)[:, None]
    rise = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp(min=0).float()
