"""Whether what a surgeon keeps between the steps at which it takes weights is something that it could have kept."""

from collections.abc import Collection, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from gmd.data.text_files import brief, expect
from gmd.subsets import all_subsets, subset_name
from gmd.surgery import CGGM, Surgeon
from gmd.surgery.surgeon import ORDERS
from gmd.training.state import Training
from gmd_kernels import weightings

_KEYS = {"every", "steps", "failures", "params", "sets"}
_OF_RULES: dict[str, tuple[int, ...]] = {"sums": (2,), "means": (2,), "logits": (4,), "before": ()}
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
    objectives = _objectives(training)
    params = sum(1 for _ in training.network.parameters())
    _check_numbers(state["params"], params, f"{name}, params")
    expect(isinstance(state["sets"], list), f"{name}, sets", state["sets"], "those of objectives")
    found = {
        _checked_set(one, state["steps"], params, objectives, f"{name}, sets, {number}")
        for number, one in enumerate(state["sets"])
    }
    expect(len(found) == len(state["sets"]), f"{name}, sets", state["sets"], "sets of objectives that differ")


def check_weighting(saved: object, fresh: Mapping[str, Any], training: Training, name: str) -> None:
    """Raises ValueError unless a saved state is one of the training's weighting, after some steps.

    saved: what a checkpoint holds; fresh: what a `state_dict` of the same configuration has returned
    name: where it stands, for the message
    """
    state = _with_keys(saved, set(fresh), name)
    weighting = fresh["weighting"]
    expect(state["weighting"] == weighting, f"{name}, weighting", state["weighting"], brief(weighting))
    arguments = signature(weightings.named(weighting)).parameters if weighting else {}
    groups, objectives = _groups(training), _objectives(training)
    pairs = "cosines" in arguments
    kept = (*groups, 2) if "state" in arguments else groups if pairs else None
    _check_by_name(state["kept"], kept, pairs, objectives, f"{name}, kept")
    _check_by_name(state["smoothed"], groups, False, objectives, f"{name}, smoothed")


def check_rule(saved: object, fresh: Mapping[str, Any], training: Training, name: str) -> None:
    """Raises ValueError unless a saved state is one of a rule that weighs losses by their values, after some steps.

    saved, fresh, name: as for `check_weighting`
    """
    if "names" in fresh:
        _check_by_name(saved, (4,), False, _objectives(training), name)  # what `uw` learns
        return
    state = _with_keys(saved, set(fresh), name)
    for key, value in state.items():
        if key in _OF_RULES:
            _check_by_name(value, _OF_RULES[key], False, _objectives(training), f"{name}, {key}")
        elif key == "step":
            _check_count(value, f"{name}, step", least=0)


def _groups(training: Training) -> tuple[int, ...]:
    """Returns the shape of what there is of each Gramian that is weighed at a step, [] or [K].

    There are several where groups of parameters are weighed apart, and where weights are means over random orders.
    """
    surgeon = training.surgeon.surgeon if isinstance(training.surgeon, CGGM) else training.surgeon
    assert isinstance(surgeon, Surgeon)  # no other has a weighting
    if surgeon.every != 1 and surgeon._weighting.in_random_order:
        return (ORDERS,)
    names = [name for name, _ in training.network.named_parameters()]
    modules = {name.rpartition(".")[0] for name in names}
    return {"model": (), "module": (len(modules),), "tensor": (len(names),)}[surgeon.granularity]


def _check_by_name(
    saved: object, front: tuple[int, ...] | None, pairs: bool, objectives: Collection[str], name: str
) -> None:
    """Raises ValueError unless these are numbers of objectives, or of their pairs, by name.

    front: the shape of what each objective, or pair, has; None: nothing is kept
    """
    state = _with_keys(saved, {"names", "values"}, name)
    if state["values"] is None or front is None:
        expect(state["names"] == [] and state["values"] is None, name, state, "names and their values, or neither")
        return
    names = _checked_names(state["names"], objectives, f"{name}, names")
    shape = (*front, *[len(names)] * (2 if pairs else 1))
    # NaN: an objective whose weights have never been finite
    good = _is_tensor(state["values"], shape) and not bool(state["values"].isinf().any())
    expect(good, f"{name}, values", state["values"], f"numbers {list(shape)} in float64")


def _checked_set(saved: object, steps: int, params: int, objectives: Collection[str], name: str) -> frozenset[str]:
    """Returns the names of the objectives of which these are weights and Gramian, those that a step has taken."""
    one = _with_keys(saved, _KEYS_OF_A_SET, name)
    names = _checked_names(one["names"], objectives, f"{name}, names")
    for key, shape in (("weights", (len(names),)), ("gram", (len(names),) * 2)):
        good = _is_tensor(one[key], shape) and bool(one[key].isfinite().all())
        expect(good, f"{name}, {key}", one[key], f"finite numbers {list(shape)} in float64")
    _check_numbers(one["private"], params, f"{name}, private")
    _check_count(one["step"], f"{name}, step", least=1, most=steps)
    _check_count(one["interval"], f"{name}, interval", least=1)
    for key in ("compiled", "failed"):
        expect(isinstance(one[key], bool), f"{name}, {key}", one[key], "true or false")
    return frozenset(names)


def _objectives(training: Training) -> set[str]:
    """Returns the names of all objectives that the training can have."""
    return {subset_name(subset) for subset in all_subsets(training.network.modalities)}


def _checked_names(saved: object, objectives: Collection[str], name: str) -> list[str]:
    """Returns names of objectives, one at least, each once."""
    known = isinstance(saved, list) and all(isinstance(each, str) and each in objectives for each in saved)
    if isinstance(saved, list) and known and 0 < len(saved) == len(set(saved)):
        return saved
    raise ValueError(f"{name}: got {brief(saved)}, expected names of objectives")


def _is_tensor(value: object, shape: tuple[int, ...]) -> bool:
    """Returns whether a value is an ordinary tensor of float64 of this shape."""
    if not isinstance(value, Tensor) or value.is_nested or value.layout != torch.strided or value.is_meta:
        return False
    return value.dtype == torch.float64 and value.shape == shape


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
