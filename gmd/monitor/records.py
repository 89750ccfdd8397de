"""The records of a training's starts and steps: what their lines in `metrics.jsonl` say."""

import math
from collections.abc import Sequence
from datetime import datetime, timezone
from statistics import fmean
from typing import NamedTuple

import torch
from torch import nn

import gmd
from gmd.monitor.dominance import DominanceRecord, dominance_record
from gmd.monitor.resources import device_name
from gmd.subsets import Subset, subset_name
from gmd.surgery import Report


class Turn(NamedTuple):
    """One backward pass and the optimizer's step on it. A step of the training has one; with mla, one a modality.

    Attributes:
        subsets: [T], of each loss the subset of the modalities that it is the objective of.
        report: of the surgery, on the host.
        searching: whether the turn was skipped only because the scaler of the losses still looks for its scale.
    """

    subsets: list[Subset]
    report: Report
    searching: bool = False


def start_record(network: nn.Module, device: torch.device, epochs: int, steps: int) -> dict:
    """Returns the record of a process that begins, or goes on with, a run: where it runs, and with what.

    epochs, steps: finished so far.
    """
    return {
        "kind": "start",
        "epoch": epochs,
        "step": steps,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gmd": gmd.__version__,
        "parameters": sum(param.numel() for param in network.parameters()),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def step_record(turns: Sequence[Turn], modalities: Sequence[str]) -> dict:
    """Returns the record of a step, without its number: losses, conflicts, and what they say of the modalities.

    Conflicts and cosines are None if each turn has one gradient only, or if a loss or gradient is not finite. Where the
    surgeon takes weights now and then, they are None at the steps between too; whether it took them, and how many steps
    ago, is recorded there.
    """
    losses = {name: value for turn in turns for name, value in _losses(turn).items()}
    finite = all(bool(turn.report.finite) for turn in turns)
    report = turns[0].report
    several = finite and len(turns) == 1 and len(report.gram) > 1 and report.refreshed
    record = {
        "loss": fmean(losses.values()),
        "losses": losses,
        "conflicts": float(report.conflicts) if several else None,
        "cosines": report.cosines.round(decimals=4).tolist() if several else None,
        "directions": None if report.directions is None else list(report.directions),
        "discarded": None if report.discarded is None else report.discarded.tolist(),
        "finite": finite,
        "dominance": _dominance(turns, modalities),
    }
    if report.interval == 1 and report.refreshed:
        return record
    return record | {"refreshed": report.refreshed, "age": report.age, "failures": report.failures}


def _dominance(turns: Sequence[Turn], modalities: Sequence[str]) -> DominanceRecord | None:
    """Returns the records of all turns as one, or None if any of them is not finite.

    Where each modality has a turn of its own, no turn has several objectives to compare.
    """
    merged: DominanceRecord | None = None
    for turn in turns:
        record = dominance_record(turn.subsets, modalities, turn.report)
        if record is None:
            return None
        if merged is None:
            merged = record
            continue
        merged["norms"] |= record["norms"]
        for quantity, values in record["modality"].items():
            merged["modality"].setdefault(quantity, {}).update(values)
    return merged


def bad_values(turns: Sequence[Turn]) -> str:
    """Says which losses, or else which gradients, of a step are NaN or infinite. One of its turns has to have some."""
    bad = next(turn for turn in turns if not turn.report.finite)
    losses = _losses(bad)
    if names := [f"{name} ({value})" for name, value in losses.items() if not math.isfinite(value)]:
        return f"not finite: the loss of {', '.join(names)}"
    return f"not finite: the gradient of {_bad_gradients(bad.report, list(losses))}"


def _bad_gradients(report: Report, names: list[str]) -> str:
    """Names the objectives whose gradients are not finite, as far as the report has a gradient for each."""
    squares = report.gram.diagonal().tolist()
    if len(squares) < len(names):
        return "the mean loss"
    bad = [name for name, square in zip(names, squares, strict=True) if not math.isfinite(square)]
    return ", ".join(bad) or "the weighted losses"  # whose weights were taken before, or are themselves not finite


def _losses(turn: Turn) -> dict[str, float]:
    """Returns objective -> loss."""
    return dict(zip(map(subset_name, turn.subsets), turn.report.losses.tolist(), strict=True))
