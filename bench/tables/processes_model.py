"""`python -m bench.tables.processes_model`: what a step sends, and how long that takes on machines on paper.

Nothing here was measured. A ring moves a buffer of n bytes once over each link for a reduce-scatter or an all-gather,
twice for an all-reduce: n (R - 1) / R bytes and R - 1 messages, one after the other. A time is bytes over bandwidth and
messages times latency, added. It is that of communication alone: nothing is hidden behind the backward passes.
"""

from typing import NamedTuple

from bench.tables.markdown import markdown_table, significant

BYTES = 4  # of a float32
EVERY = 8  # steps


class Machine(NamedTuple):
    """Processes, and the slowest link of a ring through them: bytes and seconds."""

    name: str
    processes: int
    bandwidth: float
    latency: float


class Training(NamedTuple):
    """A network and its objectives; units: that FSDP2 gathers and scatters one by one."""

    name: str
    parameters: float
    objectives: int
    units: int


MACHINES = (
    Machine("8 GPUs, NVLink", 8, 200e9, 5e-6),
    Machine("64 GPUs, Ethernet", 64, 10e9, 25e-6),
)
TRAININGS = (
    Training("U-Net, 5.9 M, T = 15", 5.9e6, 15, 1),
    Training("transformer, 100 M, T = 4", 100e6, 4, 13),
    Training("transformer, 1 G, T = 7", 1e9, 7, 25),
)


def ring_seconds(machine: Machine, buffers: float, training: Training, calls: float) -> float:
    """Returns the time of so many collectives that move, all together, so many times the network's parameters."""
    others = machine.processes - 1
    moved = buffers * training.parameters * BYTES * others / machine.processes
    return moved / machine.bandwidth + calls * others * machine.latency


def step_seconds(machine: Machine, training: Training) -> dict[str, float]:
    """Returns the seconds that a step communicates, by the way in which it is made."""
    objectives, units = training.objectives, training.units

    def seconds(buffers: float, calls: float) -> float:
        return ring_seconds(machine, buffers, training, calls)

    ordinary = seconds(2, 2)  # an all-reduce, in as many buckets as overlap: the latency of one
    together = seconds(objectives + 1, objectives + 1)
    kept = objectives >= machine.processes  # units stay gathered where that takes no more memory than the rows
    gathers = 2 if kept else 1 + objectives
    return {
        "DDP, or local": ordinary,
        "global": together,
        f"global, every={EVERY}": (together + (EVERY - 1) * ordinary) / EVERY,
        "an all-reduce each": seconds(2 * objectives, 2 * objectives),
        "FSDP2": seconds(3, 3 * units),
        "FSDP2, global": seconds(gathers + objectives, (gathers + objectives) * units),
    }


def processes_model_markdown() -> str:
    """Returns milliseconds of communication in a step, a row for each machine and training."""
    found = [(machine, training, step_seconds(machine, training)) for machine in MACHINES for training in TRAININGS]
    rows = [("ms of communication in a step", *found[0][2])]
    for machine, training, seconds in found:
        rows.append((f"{machine.name}: {training.name}", *(significant(1e3 * value) for value in seconds.values())))
    return markdown_table(rows)


if __name__ == "__main__":
    print(processes_model_markdown())
