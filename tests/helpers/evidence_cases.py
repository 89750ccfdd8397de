"""A made-up task of the evidence, whose runs take milliseconds, and the rows that come of it."""

import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bench.evidence.once import Order, fulfil
from bench.evidence.task import Outcome, Request, Task
from bench.measure.arms import Arm
from gmd.subsets import all_subsets, subset_name

ARMS = (
    Arm("joint", {"method": "joint"}),
    Arm("enumerate", {"method": "enumerate"}, "joint"),
    Arm("gmd", {"method": "gmd", "every": "auto"}, "joint"),
    Arm("joint, late", {"method": "joint"}),
    Arm("cggm", {"method": "cggm"}, "joint, late"),
)
LRS = (0.1, 0.01)
BEST = {"joint": 0.1, "enumerate": 0.01, "gmd": 0.01, "joint, late": 0.1, "cggm": 0.1}
ABOVE = {"joint": -0.05, "enumerate": 0.0, "gmd": 0.02, "joint, late": -0.06, "cggm": -0.03}
LOG = "log.txt"  # of the runs that were begun, in the folder of all data


def settings(arm: Arm) -> list[dict[str, Any]]:
    return [{"lr": lr, "weight_decay": 0.0} for lr in LRS]


def outcome(request: Request, modalities: Sequence[str], above: float = 1.0, conflicts: float = 0.2) -> Outcome:
    """Scores that hang on arm, setting and seed alone; `above` is how much of ABOVE an arm has."""
    noise = Random(f"{request.arm.name} {request.seed}")
    base = 0.6 + 0.1 * Random(request.seed).random() + above * ABOVE.get(request.arm.name, 0.01)
    names = map(subset_name, all_subsets(modalities))
    scores = {name: base + 0.05 * name.count("+") + 0.01 * noise.random() for name in names}
    validation = 0.5 + 0.1 * (request.setting["lr"] == BEST.get(request.arm.name, 0.1))
    compared = request.arm.options["method"] in ("gmd", "surgery")
    return Outcome(validation, scores, conflicts if compared else None, 2.5 if compared else None, 7, 0.001)


def run(
    request: Request, modalities: Sequence[str], above: float = 1.0, conflicts: float = 0.2, pause: float = 0.0
) -> Outcome:
    """A run, which says so in LOG; "fails" in the data folder's `failing` raises, as "dies" ends the process."""
    with (request.data / LOG).open("a", encoding="utf-8") as log:
        log.write(f"{request.arm.name}, seed {request.seed}, lr {request.setting['lr']}\n")
    assert not list(request.folder.iterdir()), "a folder of its own, empty"
    (request.folder / "weights").write_text("heavy")
    failing = request.data / "failing"
    if failing.exists() and request.arm.name == "cggm":
        how = failing.read_text()
        if how == "dies":
            os._exit(9)
        raise RuntimeError(f"made to fail: {how}")
    time.sleep(pause)
    return outcome(request, modalities, above, conflicts)


def lacking(name: str, data: Path) -> str | None:
    return None if (data / name).exists() else f"{data / name} is not there"


def task(name: str = "toy", arms: Sequence[Arm] = ARMS, seeds: int = 4, seconds: float = 0.01, **given: Any) -> Task:
    """A data set of two modalities, that is there if the folder of all data has something of its name in it."""
    knob, group = given.pop("knob", {}), given.pop("group", "")
    return Task(
        name=name,
        title=f"the {name}",
        modalities=("a", "b"),
        score="accuracy",
        arms=tuple(arms),
        settings=settings,
        run=partial(run, modalities=("a", "b"), **given),
        lacking=partial(lacking, name),
        seeds=seeds,
        seconds={arm.name: seconds for arm in arms},
        group=group,
        knob=knob,
    )


class Alone:
    """Does in this process what `Workers` have others do, one order at a time."""

    number, free = 1, 1

    def __init__(self) -> None:
        self.in_work: list[Order] = []

    def begin(self, order: Order) -> None:
        self.in_work, self.free = [order], 0

    def ended(self, seconds: float) -> list[tuple[Order, str | None]]:
        [order], self.in_work, self.free = self.in_work, [], 1
        return [(order, fulfil(order))]

    def end(self) -> None:
        self.in_work = []


def begun(data: Path) -> list[str]:
    """The runs that were begun, in their order."""
    log = data / LOG
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []
