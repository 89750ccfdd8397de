"""The count sketch from its definition, element by element, in numpy: its own code."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def mixed(state: int, counters: np.ndarray) -> np.ndarray:
    """The numbers of SplitMix64 after those of the counters, [n] uint64."""
    with np.errstate(over="ignore"):
        z = np.uint64(state) + (counters.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def map_of(p: int, numel: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bucket and sign of each element of parameter p: [n] int64, [n] float64."""
    key = int(mixed(seed, np.array([p]))[0])
    i = np.arange(numel)
    rotations = (mixed(key, 2 * (i // d) + 1) >> np.uint64(1)) % np.uint64(d)
    bits = (mixed(key, 2 * (i // 64)) >> (i % 64).astype(np.uint64)) & np.uint64(1)
    return (i + rotations.astype(np.int64)) % d, np.where(bits == 1, -1.0, 1.0)


def sketch_of(grads: Sequence[Tensor | None], d: int, seed: int) -> tuple[Tensor, Tensor]:
    """-> the sketch, and the same of absolute values: what rounding is measured by. [d] float64."""
    found, size = np.zeros(d), np.zeros(d)
    for p, g in enumerate(grads):
        if g is None:
            continue
        values = g.detach().double().reshape(-1).numpy()
        buckets, signs = map_of(p, len(values), d, seed)
        np.add.at(found, buckets, signs * values)
        np.add.at(size, buckets, np.abs(values))
    return torch.from_numpy(found), torch.from_numpy(size)
