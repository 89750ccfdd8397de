"""Several processes that are joined, of which the test's own is the first."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

PATIENCE = timedelta(seconds=60)  # a deadlock fails


def together(
    processes: int, folder: Path, work: Callable[..., Any], *given: Any, patience: timedelta = PATIENCE
) -> list[Any]:
    """What `work(*given)` returns in each of the processes, in their order.

    folder: an empty one for them; patience: how long they wait for each other, once they have met
    """
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        others = torch.multiprocessing.spawn(
            _other, (processes, folder, work, given, patience), processes - 1, join=False
        )
        ours = _joined(0, processes, folder, work, given, patience)
        while not others.join():
            pass
    finally:
        os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
    return [ours, *(torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(1, processes))]


def _other(index: int, processes: int, folder: Path, *given: Any) -> None:
    torch.set_num_threads(1)
    torch.save(_joined(index + 1, processes, folder, *given), folder / f"{index + 1}.pt")


def _joined(
    rank: int, processes: int, folder: Path, work: Callable[..., Any], given: tuple[Any, ...], patience: timedelta
) -> Any:
    place = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=processes, timeout=PATIENCE)
    dist.distributed_c10d._set_pg_timeout(patience)
    try:
        return work(*given)
    finally:
        dist.destroy_process_group()
