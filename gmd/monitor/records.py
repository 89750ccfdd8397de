"""The lines that a training adds to `metrics.jsonl` when it starts and after each step."""

import math
from collections.abc import Sequence
from datetime import datetime, timezone
from statistics import fmean
from typing import NamedTuple

import torch
from torch import nn

import gmd
from gmd.monitor.dominance import dominance_record
from gmd.monitor.resources import device_name
from gmd.subsets import Subset, subset_name
from gmd.surgery import Report


class Turn(NamedTuple):
    """One backward pass and its step: a step of the training has one, with mla one for each modality."""

    subsets: list[Subset]
    report: Report
    searching: bool = False  # of a step that was skipped: for the scale of the losses


def start_record(network: nn.Module, device: torch.device, epochs: int, steps: int) -> dict:
    """The line that metrics.jsonl gets whenever a process begins, or goes on, with a run.

    epochs, steps: finished so far
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
    """What metrics.jsonl says of a step; no conflicts or cosines if each turn has one gradient, or a bad one."""
    losses = {name: value for turn in turns for name, value in _losses(turn).items()}
    finite = all(bool(turn.report.finite) for turn in turns)
    report = turns[0].report
    several = finite and len(turns) == 1 and len(report.gram) > 1
    return {
        "loss": fmean(losses.values()),
        "losses": losses,
        "conflicts": float(report.conflicts) if several else None,
        "cosines": report.cosines.round(decimals=4).tolist() if several else None,
        "directions": None if report.directions is None else list(report.directions),
        "discarded": None if report.discarded is None else report.discarded.tolist(),
        "finite": finite,
        "dominance": _dominance(turns, modalities) if finite else None,
    }


def _dominance(turns: Sequence[Turn], modalities: Sequence[str]) -> dict:
    """Of all turns together; where each modality has its own there are no objectives to compare."""
    first, *others = (dominance_record(turn.subsets, modalities, turn.report) for turn in turns)
    for other in others:
        first["norms"] |= other["norms"]
        for quantity, values in other["modality"].items():
            first["modality"].setdefault(quantity, {}).update(values)
    return first


def bad_values(turns: Sequence[Turn]) -> str:
    """Which losses, or else which gradients, of a step are NaN or infinite."""
    bad = next(turn for turn in turns if not turn.report.finite)
    losses = _losses(bad)
    if names := [f"{name} ({value})" for name, value in losses.items() if not math.isfinite(value)]:
        return f"not finite: the loss of {', '.join(names)}"
    return f"not finite: the gradient of {_bad_gradients(bad.report, list(losses))}"


def _bad_gradients(report: Report, names: list[str]) -> str:
    squares = report.gram.diagonal().tolist()
    if len(squares) < len(names):
        return "the mean loss"
    return ", ".join(name for name, square in zip(names, squares, strict=True) if not math.isfinite(square))


def _losses(turn: Turn) -> dict[str, float]:
    return dict(zip(map(subset_name, turn.subsets), turn.report.losses.tolist(), strict=True))
