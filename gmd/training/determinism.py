"""`--deterministic`: sets torch's switches for it, and says which operation has no deterministic way."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gmd.errors import UserError

CUBLAS, WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"  # of the two that NVIDIA names, the one that is not slower
NO_SUCH_WAY = "does not have a deterministic implementation"


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Makes the block compute the same bits in every run on the same device, if `wanted`.

    After it torch's switches are as before. On a CPU nothing changes but that torch fills memory that it hands out,
    since all that is used here is deterministic there for a given number of threads.
    Raises UserError if an operation has no deterministic way on this device, or if a GPU was used before without the
    fixed workspace of cuBLAS, whose setting is read once.
    """
    if not wanted:
        yield
        return
    if CUBLAS not in os.environ and _has_computed_on_a_gpu():
        raise UserError(
            f"--deterministic: a GPU was used in this process without it; set {CUBLAS}={WORKSPACE} in the "
            "environment before Python starts"
        )
    # it stays after the block, as cuBLAS keeps what it has read
    os.environ.setdefault(CUBLAS, WORKSPACE)
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False  # it picks the fastest algorithm, which is not the same each time
    try:
        yield
    except RuntimeError as error:
        if NO_SUCH_WAY not in str(error):
            raise
        operation = str(error).split(NO_SUCH_WAY)[0].strip()
        raise UserError(
            f"--deterministic: {operation} has no deterministic way on this device; "
            "leave --deterministic out, or give --device cpu, where a machine always gives the same bits"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark


def _has_computed_on_a_gpu() -> bool:
    """Says whether this process has taken memory of a GPU. To have initialised one does no harm yet."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    return any(torch.cuda.max_memory_allocated(gpu) for gpu in gpus)
