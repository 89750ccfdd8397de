"""Tests of gmd.share under DistributedDataParallel, whose processes see different modalities."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import nn

import gmd
from helpers.shared_networks import MODALITIES, Small, example

SEEN = (("t1", "t2"), ("t2", "flair"))  # by each rank: t1 and flair by one only


def work(rank: int, folder: Path) -> dict:
    """Trains for three steps together with the other rank; returns the state."""
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=len(SEEN), timeout=timedelta(minutes=2))
    torch.manual_seed(0)
    shared = gmd.share(Small("group"), MODALITIES)
    parallel = nn.parallel.DistributedDataParallel(shared, find_unused_parameters=True)
    optimizer = torch.optim.AdamW(shared.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        modality = SEEN[rank][step % 2]
        parallel(example(10 * rank + step), modality).square().mean().backward()
        optimizer.step()
    dist.destroy_process_group()
    return shared.state_dict()


def other_process(index: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.save(work(1, folder), folder / "1.pt")


@pytest.mark.slow
def test_ranks_that_see_different_modalities_stay_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    other = torch.multiprocessing.spawn(other_process, (tmp_path,), nprocs=1, join=False)
    ours = work(0, tmp_path)
    while not other.join():
        pass
    theirs = torch.load(tmp_path / "1.pt")
    torch.manual_seed(0)
    before = gmd.share(Small("group"), MODALITIES).state_dict()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    for name in ("conv1.weight", *(f"norm1.weight.{m}" for m in MODALITIES)):
        assert not torch.equal(ours[name], before[name]), f"{name} was not trained, so this test shows nothing of it"
