"""A process that fails or hangs in a "global" step: the others end, and say what they waited for."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import nn

import gmd
from helpers.several_processes import join

TIMEOUT = timedelta(seconds=3)


def work(rank: int, folder: Path, kind: str) -> None:
    """Two steps; in the second, process 1 fails in a backward pass, or does not come, and the others tell a file.

    The process is left without Python's own end: a collective that has run out of time may still hold one of torch's
    threads, which then aborts the process while Python takes itself down, about once in thirty times on a busy machine
    with torch 2.13, also after destroy_process_group.
    """
    torch.set_num_threads(1)
    join(rank, 2, folder, TIMEOUT)
    _steps(rank, folder, kind)
    os._exit(0)


def _steps(rank: int, folder: Path, kind: str) -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    surgeon = gmd.GMD(torch.optim.SGD(network.parameters(), lr=0.1), scope="global")
    for step in range(2):
        out = network(torch.ones(4, 3))
        if step == 1 and rank == 1:
            if kind == "hangs":
                time.sleep(8)
                return
            out.register_hook(_fail)
        losses = {"first": out[:, 0].square().mean(), "second": out[:, 1].square().mean()}
        if step == 1 and rank == 1:
            losses["second"] = 2 * losses["second"]
        try:
            surgeon.backward(losses)
        except RuntimeError as error:
            (folder / f"{rank}.txt").write_text(str(error), encoding="utf-8")
            return


def _fail(gradient: torch.Tensor) -> None:
    raise RuntimeError("a failure of this process alone")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "waited_for"),
    [("fails", r"the gradient of objective 'first'"), ("hangs", r"the agreement on a step's objectives")],
)
def test_the_others_end_and_say_what_they_waited_for(tmp_path, kind, waited_for):
    torch.multiprocessing.spawn(work, (tmp_path, kind), nprocs=2)
    message = (tmp_path / "0.txt").read_text(encoding="utf-8")
    assert message.startswith("process 0 of 2 waited for ")
    assert waited_for in message.replace('"', "'")
    if kind == "fails":
        assert (tmp_path / "1.txt").read_text(encoding="utf-8") == "a failure of this process alone"
