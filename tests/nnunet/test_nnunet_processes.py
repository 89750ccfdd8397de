"""The network of all channels in two processes that have different ones, wrapped as by nnU-Net and anew."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel

import gmd
from gmd.nnunet.subset_losses import ScaledLoss, full_loss, subset_losses
from helpers.nnunet_toy import everywhere, flat_outputs, toy_data, toy_network, toy_targets

LOSS = ScaledLoss(binary_cross_entropy_with_logits, (0.7, 0.3))
WAYS = ("all subsets", "one of each rank")
KEPT = ({"channel0": [0, 1], "channel2": [1]}, {"channel1": [0], "channel2": [1]})  # by rank, of two rows


def trained(rank: int, way: str) -> list[Tensor]:
    """Takes three steps on this rank's data, and returns the parameters after them."""
    network = toy_network(seed=11)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    first = DistributedDataParallel(network)
    wrapped = DistributedDataParallel(first.module, find_unused_parameters=True)
    surgeon = gmd.GMD(optimizer, every=2, tol=0.1, generator=torch.Generator().manual_seed(rank))
    rows = everywhere() if way == WAYS[0] else KEPT[rank]
    for step in range(3):
        optimizer.zero_grad()
        outputs = flat_outputs(wrapped, toy_data(seed=10 * step + rank), rows, LOSS)
        targets = toy_targets(seed=10 * step + rank)
        losses = subset_losses(outputs, targets, LOSS) if way == WAYS[0] else [full_loss(outputs, targets, LOSS)]
        surgeon.backward(losses, outputs=outputs.pairs.values)
        optimizer.step()
    return [param.detach() for param in network.parameters()]


def work(rank: int, folder: Path) -> dict[str, list[Tensor]]:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=120))
    try:
        return {way: trained(rank, way) for way in WAYS}
    finally:
        dist.destroy_process_group()


def other_process(_: int, folder: Path) -> None:
    torch.save(work(1, folder), folder / "1.pt")


@pytest.mark.slow
def test_processes_with_different_channels_stay_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    other = torch.multiprocessing.spawn(other_process, (tmp_path,), nprocs=1, join=False)
    ours = work(0, tmp_path)
    while not other.join():
        pass
    torch.set_num_threads(threads)
    theirs = torch.load(tmp_path / "1.pt")
    before = list(toy_network(seed=11).parameters())
    for way in WAYS:
        moved = [not torch.equal(got, was) for got, was in zip(ours[way], before, strict=True)]
        assert sum(moved) > len(moved) / 2
        for got, value in zip(ours[way], theirs[way], strict=True):
            assert torch.equal(got, value)
