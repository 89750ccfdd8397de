"""Runs a function in several processes of one group, of which this one is the first."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

TIMEOUT = timedelta(seconds=60)  # a deadlock fails, and a busy machine does not
START = timedelta(minutes=3)  # a busy machine takes its time to start a process


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
            try:
                others.join(timeout=3)  # raises what another one has failed by, the cause as a rule
            finally:
                for other in others.processes:
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
    join(rank, world, folder, timeout)
    try:
        return function(rank)
    finally:
        dist.destroy_process_group()


def join(rank: int, world: int, folder: Path, timeout: timedelta = TIMEOUT) -> None:
    """Makes this process one of a group; timeout: of what they do together, once all are there."""
    store = dist.FileStore(f"{folder}/store", world)
    store.set(f"here {rank}", "")
    store.wait([f"here {other}" for other in range(world)], START)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timeout)
