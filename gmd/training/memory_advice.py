"""Says which options to change, and to what, when a training runs out of memory."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gmd.config import TrainBrats, TrainConfig
from gmd.config.checks import option_text
from gmd.data.segmentation.readable import NoRoom
from gmd.errors import UserError
from gmd.models.segmentation.architectures import ARCHITECTURES, Patch
from gmd.monitor.resources import device_name, total_memory

# what torch's RuntimeErrors say; for its own allocations on a GPU it has an error class
ON_THE_HOST = ("can't allocate memory", "not enough memory", "std::bad_alloc")
IN_CUDAS_LIBRARIES = ("STATUS_ALLOC_FAILED",)
HALF = 0.5 ** (1 / 3)  # of each side makes half of the volume


@contextmanager
def memory_advice(config: TrainConfig) -> Iterator[None]:
    """Raises UserError, with advice, if the block runs out of memory; any other error as it is."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (has_run_out_on_gpu(error) or has_run_out_on_host(error)):
            raise
        raise UserError(advice(config, error)) from error


def has_run_out_on_gpu(error: Exception) -> bool:
    """Says whether the error is that a GPU has no memory left, for torch or for CUDA's libraries."""
    return isinstance(error, torch.OutOfMemoryError) or any(saying in str(error) for saying in IN_CUDAS_LIBRARIES)


def has_run_out_on_host(error: Exception) -> bool:
    """Says whether the error is that the machine has no memory left."""
    return isinstance(error, MemoryError) or any(saying in str(error) for saying in ON_THE_HOST)


def advice(config: TrainConfig, error: Exception) -> str:
    """Says what ran out, what is kept, and what to change."""
    on_gpu = has_run_out_on_gpu(error)
    device = config.torch_device() if on_gpu else torch.device("cpu")
    last = config.out / "last.pt"
    kept, how = (f"{last} is intact", "Go on by --resume") if last.exists() else ("nothing was trained", "Start again")
    text = f"out of memory, on {device_name(device)} with {total_memory(device) / 1e3:.1f} GB: {kept}. "
    # patches are small beside the cases that they are cut from, and a run goes on as the same run with fewer of these
    if isinstance(config, TrainBrats) and not on_gpu and config.cache:
        text += f"{how} with --cache {config.cache // 4}, so that cases are read, not kept. "
    # what a step takes is no less if a file cannot be read
    if not isinstance(error, NoRoom) and (options := smaller(config)):
        text += f"A smaller run is another run, and needs another --out; try {', '.join(options)}. "
    said = (str(error) or type(error).__name__).splitlines()[0]
    return f"{text}Said was: {said}"


def smaller(config: TrainConfig) -> list[str]:
    """Returns options that take less memory, each with a value. The first one takes about half."""
    options = []
    if config.batch > 1:
        half = config.batch // 2
        options.append(f"--batch {half} --accumulate {config.accumulate * math.ceil(config.batch / half)}")
    if isinstance(config, TrainBrats):
        patch = smaller_patch(config)
        options += [f"--patch {option_text(patch)}"] if patch != config.patch else []
    if config.precision == "fp32":
        options.append("--precision bf16")
    if config.method in config.FOR["tol"] and config.tol == 0:
        options.append("--tol 0.1")
    return options


def smaller_patch(config: TrainBrats) -> Patch:
    """Returns a patch of about half of the voxels that the network takes; the patch itself if there is none.

    A side of one stride stays. Of a network of the user's own nobody knows what it takes.
    """
    if config.has_own_network:
        return config.patch
    architecture = ARCHITECTURES[config.network]
    stride = architecture.stride(config.patch)
    x, y, z = (max(stride, min(side - stride, round(HALF * side / stride) * stride)) for side in config.patch)
    return (x, y, z) if architecture.nearest((x, y, z)) == (x, y, z) else config.patch
