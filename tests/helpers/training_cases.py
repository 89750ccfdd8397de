"""What the tests of training share."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

TWO = ("flair", "t1ce")


def read_metrics(run: Path, kind: str) -> list[dict]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def without_times(run: Path) -> list[dict]:
    """What a run that was interrupted and one that was not have in common."""
    records = [record for kind in ("step", "epoch") for record in read_metrics(run, kind)]
    return [{key: value for key, value in record.items() if key not in ("seconds", "memory_MB")} for record in records]


def equal(a: object, b: object) -> bool:
    """Bit for bit, through dictionaries and lists."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def overflowing(loss: Callable[[Tensor, Tensor], Tensor], above: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss, whose gradient overflows where it is scaled by more than `above`, as in fp16; its value does not."""

    class Overflow(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx, grad: Tensor) -> Tensor:
            return torch.where(grad.abs() > above, torch.inf, grad)

    return lambda predictions, targets: Overflow.apply(loss(predictions, targets))
