"""Runs a function in several processes of one group, of which this one is the first."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

TIMEOUT = timedelta(seconds=20)  # a deadlock fails


def in_processes(world: int, function: Callable[[int], Any], folder: Path, timeout: timedelta = TIMEOUT) -> list[Any]:
    """Returns what `function(rank)` returns in each process, tensors and plain values in lists and dicts.

    function: at the top of a module; folder: empty
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        threads = torch.get_num_threads()
        others = torch.multiprocessing.spawn(_other, (world, function, folder, timeout), nprocs=world - 1, join=False)
        try:
            ours = _in_group(0, world, function, folder, timeout)
        except BaseException:
            for other in others.processes:  # which may wait for this one
                other.terminate()
            raise
        finally:
            torch.set_num_threads(threads)
        while not others.join():
            pass
    return [ours, *(torch.load(folder / f"{rank}.pt") for rank in range(1, world))]


def _other(index: int, world: int, function: Callable[[int], Any], folder: Path, timeout: timedelta) -> None:
    torch.save(_in_group(index + 1, world, function, folder, timeout), folder / f"{index + 1}.pt")


def _in_group(rank: int, world: int, function: Callable[[int], Any], folder: Path, timeout: timedelta) -> Any:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=timeout)
    try:
        return function(rank)
    finally:
        dist.destroy_process_group()
