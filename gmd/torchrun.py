"""What torchrun tells each process of a command that it has started, in the environment. It needs no torch."""

import os
from typing import NamedTuple

from gmd.errors import UserError, shown

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


class Started(NamedTuple):
    """How this process was started.

    Attributes:
        rank: its number among all processes, from 0 on.
        processes: how many there are, on all machines.
        local_rank: its number among those of its machine.
        local_processes: how many there are on its machine.
        restarts: how often torchrun has started all processes anew, since one of them died.
    """

    rank: int = 0
    processes: int = 1
    local_rank: int = 0
    local_processes: int = 1
    restarts: int = 0

    @property
    def command(self) -> str:
        """Returns what stands before the words of a gmd command that is started in the same way."""
        if self.processes == 1:
            return "gmd"
        here = f"--nproc-per-node {self.processes}" if self.local_processes == self.processes else "..."
        return f"torchrun {here} -m gmd"


def started() -> Started:
    """Returns how this process was started: alone, unless the environment has all that torchrun sets.

    Raises UserError for a variable of torchrun's that is no number, or a rank that is not below the count.
    """
    if any(name not in os.environ for name in _NUMBERS):
        return Started()
    rank, processes, local_rank, local = map(_number, _NUMBERS)
    if not (rank < processes and local_rank < local <= processes):
        got = ", ".join(f"{name}={shown(os.environ[name], 40)}" for name in _NUMBERS)
        raise UserError(f"the environment says {got}, which no torchrun sets: expected ranks below the counts")
    restarts = _number("TORCHELASTIC_RESTART_COUNT") if "TORCHELASTIC_RESTART_COUNT" in os.environ else 0
    return Started(rank, processes, local_rank, local, restarts)


def _number(name: str) -> int:
    text = os.environ[name]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"{name}: got {shown(text, 40)!r} in the environment, expected a number, as torchrun sets it")
    return int(text)
