"""What a step of gmd's trainers for nnU-Net costs beside one of nnU-Net's own, on the same data, in one run.

nnU-Net's takes all channels at once; ours go through the network once for each channel that a step uses. What the step
makes of the losses, and whether that is right, `bench.measure.step_methods` and the tests see to.
"""

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor

from bench.measure.memory import allocated_peak
from bench.measure.nnunet_plans import CONFIGURATION, DATASET, dataset_json, plans

PLAIN, JOINT, DROPOUT, ENUMERATE, GMD, EXACT = (
    "nnUNetTrainer",
    "nnUNetTrainerGMDJoint",
    "nnUNetTrainerGMDDropout",
    "nnUNetTrainerGMDEnumerate",
    "nnUNetTrainerGMD",
    "nnUNetTrainerGMD, every=1 and tol=0",
)
REGIONS = {
    "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
    "regions_class_order": [1, 2, 3],
}
PATCH, FEATURES = (24, 28, 24), (32, 64, 128)
CASE = "case"


class Way(NamedTuple):
    """A trainer, and how its step is timed.

    Attributes:
        trainer: name of the class.
        settings: its settings in the plans.
        steps: how many are taken one after the other in each round.
        cycle: whether these differ, and their mean counts: a whole cycle of the weights, or random subsets.
        once: whether only the first round has it, for being slow.
    """

    trainer: str
    settings: dict[str, Any]
    steps: int = 4
    cycle: bool = False
    once: bool = False


def ways() -> dict[str, Way]:
    """Returns the trainers by the names of the rows; the steps of GMD are whole cycles of its default `every`."""
    from gmd.nnunet.settings import Settings

    every = Settings().every
    assert isinstance(every, int)  # the bench measures cycles of one length
    found = {name: Way(name, {}) for name in (PLAIN, JOINT, ENUMERATE)}
    found[DROPOUT] = Way(DROPOUT, {}, steps=16, cycle=True)
    found[GMD] = Way(GMD, {}, steps=every, cycle=True)
    found[EXACT] = Way(GMD, {"every": 1, "tol": 0}, steps=2, once=True)
    return found


def lacking() -> str:
    """Returns why it cannot be measured here; nothing if it can."""
    return "" if find_spec("nnunetv2") else "nnunetv2 is not installed, which the extra `nnunet` brings"


def measure_nnunet(
    patch: tuple[int, ...],
    features: tuple[int, ...],
    rounds: int,
    on_round: Callable[[], object],
) -> list[dict]:
    """Returns a row for each trainer, whose times are those of a step in the mean over a cycle.

    Args:
        patch: sizes of a patch; a batch has two.
        features: channels of the network's stages.
        rounds: in each, all trainers take turns.
        on_round: is called after each.
    """
    batch = _batch(patch)
    with tempfile.TemporaryDirectory() as folder, _nnunet(Path(folder)):
        runs = {name: _trainer(way, patch, features) for name, way in ways().items()}
        peaks: dict[str, float] = {}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for name, trainer in runs.items():
            peaks[name] = allocated_peak(lambda trainer=trainer: trainer.train_step(batch))  # type: ignore[misc]
        for turn in range(rounds):
            for name, way in ways().items():
                if turn == 0 or not way.once:
                    taken = [_milliseconds(runs[name], batch) for _ in range(way.steps)]
                    times[name] += [fmean(taken)] if way.cycle else taken
            on_round()
    case = f"patch {'x'.join(map(str, patch))}, {len(features)} stages"
    return [_row(case, name, runs, times, peaks) for name in runs]


def _row(case: str, name: str, runs: dict[str, Any], times: dict[str, list[float]], peaks: dict[str, float]) -> dict:
    taken, way = median(times[name]), ways()[name]
    return {
        "case": case,
        "contestant": name,
        "N": sum(p.numel() for p in runs[name].network.parameters()),
        "calls": len(times[name]) * (way.steps if way.cycle else 1),
        "median_ms": taken,
        "of_plain": taken / median(times[PLAIN]),
        "peak_MB": peaks[name],
        "error": _error(runs[name]),
    }


def _error(trainer: Any) -> str:
    """Returns what is wrong with a trainer after its steps; nothing if its network is still one."""
    finite = all(bool(p.isfinite().all()) for p in trainer.network.parameters())
    return "" if finite else "parameters are not finite"


def _milliseconds(trainer: Any, batch: dict) -> float:
    start = perf_counter()
    trainer.train_step(batch)
    return 1e3 * (perf_counter() - start)


@contextmanager
def _nnunet(folder: Path) -> Iterator[None]:
    """Gives nnU-Net folders of its own, and lets it print nothing."""
    variables = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    preprocessed = folder / "nnUNet_preprocessed" / DATASET / f"nnUNetPlans_{CONFIGURATION}"
    preprocessed.mkdir(parents=True)
    (preprocessed / f"{CASE}.b2nd").touch()  # by its ending nnU-Net knows the format
    own = {name: str(folder / name) for name in variables}
    with mock.patch.dict(os.environ, own), redirect_stdout(io.StringIO()):
        yield


def _trainer(way: Way, patch: tuple[int, ...], features: tuple[int, ...]) -> Any:
    """Returns a trainer on the CPU, ready to take steps."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from gmd.nnunet import trainers

    planned = plans(patch, features, gmd=way.settings)
    torch.manual_seed(0)
    made = getattr(trainers, way.trainer, nnUNetTrainer)(
        planned | {"continue_training": False}, CONFIGURATION, 0, dataset_json(REGIONS), torch.device("cpu")
    )
    made.initialize()
    made.present = {CASE: list(range(len(planned["configurations"][CONFIGURATION]["normalization_schemes"])))}
    return made


def _batch(patch: tuple[int, ...]) -> dict[str, Any]:
    """Returns two patches of one case, with the targets of a network of three stages: at full and at half size."""
    generator = torch.Generator().manual_seed(0)
    halved = [size // 2 for size in patch]
    targets = [torch.rand(2, 3, *sizes, generator=generator) > 0.8 for sizes in (patch, halved)]
    data: Tensor = torch.randn(2, 4, *patch, generator=generator)
    return {"data": data, "target": targets, "keys": [CASE, CASE]}
