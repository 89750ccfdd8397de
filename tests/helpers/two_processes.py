"""Training on two processes by other people's loops, beside a loop in plain PyTorch and one process with all data."""

import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import gmd
from gmd.surgery.mean import MeanGradient
from helpers.multimodal_cases import NAMES, Batch, Multimodal, batches, losses_of, surgeon_of
from helpers.several_processes import join

ROWS = (8, 4)  # of each process, of every batch
STEPS = 6
RATE = 0.01


Method = gmd.GMD | gmd.Scalarised | MeanGradient


class Case:
    """A way to train.

    Args:
        make: the method, of an optimizer.
        counts: whether the losses are told to be of different numbers of samples.
        lacking: whether the second process has no modality "c".
        accumulated: how many batches there are for a step.
    """

    def __init__(self, make: Callable = surgeon_of, counts: bool = False, lacking: bool = False, accumulated: int = 1):
        self.make, self.counts, self.lacking, self.accumulated = make, counts, lacking, accumulated

    def backward(self, surgeon: Method, outputs: dict[str, Tensor], target: Tensor, last: bool = True) -> None:
        """What stands in the place of `sum(losses).backward()`; last: of the batches for a step."""
        if self.lacking:
            given = {name: (output - target).square().mean() for name, output in outputs.items()}
            options = {"counts": dict.fromkeys(given, len(target))} if self.counts else {}
        else:
            given = losses_of(outputs, target)
            options = {"counts": [len(target)] * len(given)} if self.counts else {}
        if last or surgeon.scope == "local":
            surgeon.backward(given, **options)
        else:
            surgeon.accumulate(given, **options)


CASES = {
    "local": Case(),
    "local, every": Case(lambda optimizer: surgeon_of(optimizer, every=2)),
    "local, lacking": Case(lacking=True),
    "local, accumulated": Case(accumulated=2),
    "local, GLS": Case(lambda optimizer: gmd.Scalarised(optimizer, "gls")),
    "global": Case(lambda optimizer: surgeon_of(optimizer, scope="global"), counts=True),
    "global, every": Case(lambda optimizer: surgeon_of(optimizer, scope="global", every=2), counts=True),
    "global, lacking": Case(lambda optimizer: surgeon_of(optimizer, scope="global"), counts=True, lacking=True),
    "global, accumulated": Case(lambda optimizer: surgeon_of(optimizer, scope="global"), counts=True, accumulated=2),
    "global, the mean": Case(lambda optimizer: MeanGradient(optimizer, scope="global"), counts=True),
}


def model_of() -> Multimodal:
    return Multimodal().double()


def whole_data() -> list[Batch]:
    return [
        ({name: x.double() for name, x in batch.items()}, target.double())
        for batch, target in batches(STEPS, rows=sum(ROWS))
    ]


def data_of(rank: int, lacking: bool = False) -> list[Batch]:
    """This process's rows of each batch."""
    rows = slice(0, ROWS[0]) if rank == 0 else slice(ROWS[0], None)
    names = NAMES[:2] if lacking and rank == 1 else NAMES
    return [({name: batch[name][rows] for name in names}, target[rows]) for batch, target in whole_data()]


def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=RATE)


def parameters_of(network: nn.Module) -> list[Tensor]:
    return [param.detach().clone() for param in network.parameters()]


def plain(case: Case) -> list[Tensor]:
    """The parameters after a loop with DistributedDataParallel in plain PyTorch."""
    model = model_of()
    network = DistributedDataParallel(model, find_unused_parameters=case.lacking)
    optimizer = optimizer_of(network)
    surgeon = case.make(optimizer)
    for index, (x, target) in enumerate(data_of(dist.get_rank(), case.lacking)):
        last = (index + 1) % case.accumulated == 0
        with nullcontext() if last else network.no_sync():
            case.backward(surgeon, network(x), target, last)
        if last:
            optimizer.step()
            optimizer.zero_grad()
    return parameters_of(model)


def alone(case: Case) -> list[Tensor]:
    """The parameters after the same steps in one process, which has all rows of every batch.

    A modality that the second process lacks is there in the rows of the first alone.
    """
    model = model_of()
    optimizer = optimizer_of(model)
    surgeon = case.make(optimizer)
    for index, (x, target) in enumerate(whole_data()):
        last = (index + 1) % case.accumulated == 0
        outputs = model(x)
        if case.lacking:
            rows = {name: ROWS[0] if name == "c" else sum(ROWS) for name in NAMES}
            losses = {name: (outputs[name][: rows[name]] - target[: rows[name]]).square().mean() for name in NAMES}
        else:
            losses = losses_of(outputs, target)
        if last:
            surgeon.backward(losses)
            optimizer.step()
            optimizer.zero_grad()
        else:
            surgeon.accumulate(losses)
    return parameters_of(model)


def run_pair(train: Callable[[Case], Iterable[Tensor]], folder: Path) -> list[dict[str, dict[str, list[Tensor]]]]:
    """What each of two processes has, {case: {"theirs", "plain": parameters}}: of `train`, and of the plain loop."""
    torch.multiprocessing.spawn(_process, (train, folder), nprocs=len(ROWS))
    return [torch.load(folder / f"{rank}.pt") for rank in range(len(ROWS))]


def _process(rank: int, train: Callable[[Case], Iterable[Tensor]], folder: Path) -> None:
    torch.set_num_threads(1)
    world = str(len(ROWS))
    # what torchrun tells its workers; the meeting place needs no port
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), GROUP_RANK="0", WORLD_SIZE=world, LOCAL_WORLD_SIZE=world)
    os.environ.update(TORCHELASTIC_RUN_ID="tests", MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
    join(rank, len(ROWS), folder)
    found = {name: {"theirs": list(train(case)), "plain": plain(case)} for name, case in CASES.items()}
    dist.destroy_process_group()
    torch.save(found, folder / f"{rank}.pt")


def check_case(results: list[dict[str, dict[str, list[Tensor]]]], name: str) -> None:
    """Both processes have the same parameters, those of the plain loop; and with a global scope, of one process."""
    ours, theirs = (result[name] for result in results)
    for got, other, expected in zip(ours["theirs"], theirs["theirs"], ours["plain"], strict=True):
        assert torch.equal(got, other), "the processes have drifted apart"
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-13)
    before = parameters_of(model_of())
    assert not any(torch.equal(a, b) for a, b in zip(ours["theirs"], before, strict=True)), "nothing was trained"
    if name.startswith("global"):
        for got, expected in zip(ours["theirs"], alone(CASES[name]), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
