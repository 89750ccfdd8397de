"""Whether what a surgeon keeps between the steps at which it takes weights is something that it could have kept."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from gmd.data.text_files import brief, expect
from gmd.subsets import all_subsets, subset_name
from gmd.training.state import Training

_KEYS = {"every", "steps", "failures", "params", "sets"}
_KEYS_OF_A_SET = {"names", "weights", "gram", "private", "step", "interval", "compiled", "failed"}


def check_schedule(saved: object, every: object, training: Training, name: str) -> None:
    """Raises ValueError unless a saved schedule is one of the training's surgeon, after some steps.

    saved: what a checkpoint holds
    every: how often the surgeon takes weights
    name: where it stands, for the message
    """
    state = _with_keys(saved, _KEYS, name)
    expect(state["every"] == every, f"{name}, every", state["every"], brief(every))
    for count in ("steps", "failures"):
        _check_count(state[count], f"{name}, {count}", least=0)
    objectives = {subset_name(subset) for subset in all_subsets(training.network.modalities)}
    params = sum(1 for _ in training.network.parameters())
    _check_numbers(state["params"], params, f"{name}, params")
    expect(isinstance(state["sets"], list), f"{name}, sets", state["sets"], "those of objectives")
    found = {
        _checked_set(one, state["steps"], params, objectives, f"{name}, sets, {number}")
        for number, one in enumerate(state["sets"])
    }
    expect(len(found) == len(state["sets"]), f"{name}, sets", state["sets"], "sets of objectives that differ")


def _checked_set(saved: object, steps: int, params: int, objectives: Collection[str], name: str) -> frozenset[str]:
    """Returns the names of the objectives of which these are weights and Gramian, those that a step has taken."""
    one = _with_keys(saved, _KEYS_OF_A_SET, name)
    names = one["names"]
    known = isinstance(names, list) and all(isinstance(each, str) and each in objectives for each in names)
    expect(known and 0 < len(names) == len(set(names)), f"{name}, names", names, "names of objectives")
    for key, shape in (("weights", (len(names),)), ("gram", (len(names),) * 2)):
        value = one[key]
        good = isinstance(value, Tensor) and not value.is_nested and value.layout == torch.strided and not value.is_meta
        good = good and value.dtype == torch.float64 and value.shape == shape and bool(value.isfinite().all())
        expect(good, f"{name}, {key}", value, f"finite numbers {list(shape)} in float64")
    _check_numbers(one["private"], params, f"{name}, private")
    _check_count(one["step"], f"{name}, step", least=1, most=steps)
    _check_count(one["interval"], f"{name}, interval", least=1)
    for key in ("compiled", "failed"):
        expect(isinstance(one[key], bool), f"{name}, {key}", one[key], "true or false")
    return frozenset(names)


def _with_keys(saved: object, keys: set[str], name: str) -> Mapping[str, Any]:
    if not isinstance(saved, Mapping) or set(saved) != keys:
        raise ValueError(f"{name}: got {brief(saved)}, expected {', '.join(sorted(keys))}")
    return saved


def _check_numbers(saved: object, count: int, name: str) -> None:
    """Raises ValueError unless these are numbers of parameters, ascending."""
    good = isinstance(saved, list) and all(type(number) is int and 0 <= number < count for number in saved)
    expect(good and sorted(set(saved)) == saved, name, saved, f"ascending numbers below {count}")  # type: ignore[call-overload]


def _check_count(saved: object, name: str, least: int, most: int = 2**63 - 1) -> None:
    expect(type(saved) is int and least <= saved <= most, name, saved, f"a number from {least} to {most}")
