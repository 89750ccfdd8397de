"""The count sketch in plain PyTorch, on any device: the oracle and the fallback."""

import torch
from torch import Tensor

from gmd_kernels.gradients import Gradients

CHUNK = 2**18  # elements whose signs are held at a time, a multiple of WORD
WORD = 64  # elements whose signs one number holds
GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
LONG = 2**64


@torch.no_grad()
def sketch_(gradients: Gradients, sketch: Tensor, seed: int) -> None:
    """Does what gmd_kernels.sketch_ says, block by block."""
    for p, g in enumerate(gradients.rows[0]):
        if g is None:
            continue
        values, key = g.detach().reshape(-1), draw(seed, p)
        for begin in range(0, len(values), CHUNK):
            piece = values[begin : begin + CHUNK].to(sketch.dtype)
            _add(sketch, torch.where(subtracted(key, begin, piece), -piece, piece), key, begin)


def draw(state: int, n: int) -> int:
    """Returns number n of SplitMix64 from a state on."""
    x = (state + (n + 1) * GOLDEN) % LONG
    x = (x ^ x >> 30) * FIRST % LONG
    x = (x ^ x >> 27) * SECOND % LONG
    return x ^ x >> 31


def subtracted(key: int, begin: int, piece: Tensor) -> Tensor:
    """Returns which of the elements, those from `begin` on, are subtracted: [n] bool."""
    words = torch.arange(begin // WORD, (begin + len(piece) - 1) // WORD + 1, device=piece.device)
    x = (2 * words + 1) * _signed(GOLDEN) + _signed(key)
    x = (x ^ _shifted(x, 30)) * _signed(FIRST)
    x = (x ^ _shifted(x, 27)) * _signed(SECOND)
    x = x ^ _shifted(x, 31)
    bits = x[:, None] >> torch.arange(WORD, device=piece.device) & 1
    return bits.view(-1)[: len(piece)] == 1


def _signed(number: int) -> int:
    """Returns the int64 of the same bits."""
    return number - LONG if number >= LONG // 2 else number


def _shifted(x: Tensor, by: int) -> Tensor:
    """Returns int64 numbers shifted to the right, zeros from the left."""
    return x >> by & (1 << (64 - by)) - 1


def _add(sketch: Tensor, values: Tensor, key: int, begin: int) -> None:
    """Adds elements from `begin` on to their buckets, a run of neighbours after the other."""
    d, at = len(sketch), 0
    while at < len(values):
        block, inner = divmod(begin + at, d)
        rotation = (draw(key, 2 * block + 1) >> 1) % d
        bucket = (inner + rotation) % d
        n = min(len(values) - at, d - inner, d - bucket)  # to the end of the block, or of the buckets
        sketch[bucket : bucket + n] += values[at : at + n]
        at += n
