"""The floor under every time: how fast memory is read and copied, and what a piece of work takes at that speed."""

from collections.abc import Callable

import numpy as np
import torch

import gmd_kernels as gk
from bench.measure.contestant import Work
from bench.measure.timing import seconds

TRIES = 2  # per sample
ROW = 4096  # floats: one row of the matrix that `torch.mv` reads


class Bandwidth:
    """Measures GB/s of reading and of copying in one buffer, as medians; making one takes the first sample.

    A floor is only as good as the code that finds it, so each is that of the fastest of several: torch, numpy, and our
    own kernels given one gradient. Reading: `torch.sum`, `torch.dot` of the two halves, `torch.mv` with a vector that
    stays in the cache, `gk.gram`. Copying, half to half, counts both ways: `Tensor.copy_`, memcpy, `gk.combine`.

    Args:
        num_bytes: as many as the gradients that the floor is for: both then meet the caches alike.
    """

    def __init__(self, num_bytes: int):
        rows = max(2, num_bytes // (4 * 2 * ROW) * 2)
        self._matrix, self._vector = torch.ones(rows, ROW), torch.ones(ROW)
        self._read_seconds: list[list[float]] = []  # [sample][code]
        self._copy_seconds: list[list[float]] = []
        self.sample()

    def sample(self) -> None:
        """Times every code, a few times each."""
        matrix, (first, second) = self._matrix, self._matrix.view(2, -1)
        one = torch.ones(1)
        reads: tuple[Callable[[], object], ...] = (
            matrix.sum,
            lambda: torch.dot(first, second),
            lambda: torch.mv(matrix, self._vector),
            lambda: gk.gram([[matrix]]),
        )
        copies: tuple[Callable[[], object], ...] = (
            lambda: second.copy_(first),
            lambda: np.copyto(second.numpy(), first.numpy()),
            lambda: gk.combine([[first]], one, out=[second]),
        )
        for _ in range(TRIES):
            self._read_seconds.append(list(map(seconds, reads)))
            self._copy_seconds.append(list(map(seconds, copies)))

    def of_the_fastest(self) -> dict[str, float]:
        """Returns `read_GBps` and `copy_GBps` from all samples so far: the best of each code's median."""
        gigabytes = 4e-9 * self._matrix.numel()
        taken = {"read_GBps": self._read_seconds, "copy_GBps": self._copy_seconds}
        return {name: gigabytes / np.median(samples, axis=0).min() for name, samples in taken.items()}


def floor_ms(work: Work, num_bytes: int, read_gbps: float, copy_gbps: float) -> float:
    """Returns the time that `work` takes at the measured bandwidths, `num_bytes` being those of N elements."""
    return 1e-6 * num_bytes * (work.reads / read_gbps + 2 * work.copies / copy_gbps)
