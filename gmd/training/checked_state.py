"""Whether the state in a checkpoint is one that a training can take over, told before it takes any of it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmd.data.text_files import brief, damaged, expect
from gmd.surgery import CGGM
from gmd.training.checked_surgeon import check_rule, check_schedule, check_weighting
from gmd.training.checkpoint import check_fits, kind_of_tensor
from gmd.training.state import Training

COUNTS = ("epochs", "steps", "skipped", "skipped_in_a_row", "best_epoch", "not_better")
# what changes in an optimizer's groups: the scheduler sets it
_CHANGING = ("lr", "initial_lr")
# what changes in a scheduler, ReduceLROnPlateau's among it
_OF_A_SCHEDULE = (
    *("last_epoch", "_last_lr", "_step_count", "_is_initial", "_get_lr_called_within_step"),
    *("best", "num_bad_epochs", "cooldown_counter"),
)


def check_state(state: dict, training: Training, steps_per_epoch: int, path: Path) -> None:
    """Raises UserError unless a training can go on from a checkpoint. Nothing is changed.

    Args:
        state: what `load_checkpoint` read from `path`.
        training: begun anew, with the configuration of the checkpoint.
        steps_per_epoch: how many the training makes.
        path: of the checkpoint, for messages.
    """
    check_fits(training.network, state, path)
    fresh = training.state_dict()
    try:
        if absent := [name for name in fresh if name not in state and name != "random_gpu"]:
            raise ValueError(f"lacks {', '.join(absent)}")
        for name in ("random", "generator"):
            _check_random(state[name], fresh[name], name)
        check_like(state.get("random_gpu"), fresh.get("random_gpu", state.get("random_gpu")), "random_gpu")
        _check_others(state.get("others", []), fresh, training)
        _check_optimizer(state["optimizer"], training.optimizer, "optimizer")
        _check_schedule(state["scheduler"], fresh["scheduler"], "scheduler")
        if "plateau" in fresh:
            _check_schedule(state["plateau"], fresh["plateau"], "plateau")
        check_like(state.get("scaler"), fresh.get("scaler", state.get("scaler")), "scaler")
        if "surgeon" in fresh:
            _check_surgeon(state["surgeon"], fresh["surgeon"], training)
        _check_counts(state, steps_per_epoch)
        of_steps = state["scheduler"]["last_epoch"]
        expect(of_steps == state["steps"], "scheduler, last_epoch", of_steps, f"the {state['steps']} steps")
    except ValueError as error:
        raise damaged(path, str(error)) from error


def _check_others(saved: object, fresh: Mapping[str, Any], training: Training) -> None:
    """Raises ValueError unless these are what each process that saved but the first has of its own."""
    if not isinstance(saved, list) or not all(isinstance(one, Mapping) for one in saved):
        raise ValueError(f"others: got {brief(saved)}, expected the states of the generators of other processes")
    for number, one in enumerate(saved):
        for name in ("random", "generator"):
            _check_random(one.get(name), fresh[name], f"others, {number}, {name}")
        of_gpu = one.get("random_gpu")
        check_like(of_gpu, fresh.get("random_gpu", of_gpu), f"others, {number}, random_gpu")
        if "surgeon" in one:
            _check_surgeon(one["surgeon"], fresh.get("surgeon", {}), training)


def _check_counts(state: Mapping[str, Any], steps_per_epoch: int) -> None:
    """Raises ValueError unless the counts of a training are counts, and go together."""
    for name in COUNTS:
        expect(type(state[name]) is int and 0 <= state[name] < 2**63, name, state[name], "a number from 0 on")
    for name, low in (("best_score", -math.inf), ("seconds", 0)):
        good = type(state[name]) in (int, float) and low <= state[name] < math.inf
        expect(good, name, state[name], "a score" if name == "best_score" else "0 or more")
    epochs, steps, skipped = (state[name] for name in ("epochs", "steps", "skipped"))
    of_unfinished = steps - epochs * steps_per_epoch
    expect(0 <= of_unfinished <= steps_per_epoch, "steps", steps, f"those of {epochs} epochs of {steps_per_epoch}")
    together = state["skipped_in_a_row"] <= skipped <= steps and state["best_epoch"] <= epochs
    expect(together, "its counts", {name: state[name] for name in COUNTS}, "counts that go together")


def _check_schedule(saved: object, fresh: object, name: str) -> None:
    """Raises ValueError unless a saved state is one of this scheduler, and differs in what changes alone."""
    check_like(saved, fresh, name)
    assert isinstance(saved, Mapping)
    assert isinstance(fresh, Mapping)
    for key in fresh.keys() - set(_OF_A_SCHEDULE) - {"_schedulers"}:
        expect(saved[key] == fresh[key], f"{name}, {key}", saved[key], brief(fresh[key]))
    for key in ("last_epoch", "num_bad_epochs", "cooldown_counter"):
        # -1: before its turn, behind a warm-up
        expect(saved.get(key, 0) >= -1, f"{name}, {key}", saved.get(key), "a number of steps")
    for number, theirs in enumerate(fresh.get("_schedulers", ())):
        _check_schedule(saved["_schedulers"][number], theirs, f"{name}, {number}")


def _check_surgeon(saved: object, fresh: Mapping[str, Any], training: Training) -> None:
    """Raises ValueError unless a saved state is one of the method that makes the training's gradients."""
    if not isinstance(saved, Mapping) or set(saved) != set(fresh):
        raise ValueError(f"surgeon: got {brief(saved)}, expected {', '.join(fresh)}")
    for name, value in fresh.items():
        _check_part(saved[name], value, training, name)


def _check_part(saved: Any, fresh: Any, training: Training, name: str) -> None:
    """Raises ValueError unless this can be the part of a surgeon's state that has the name."""
    where = f"surgeon, {name}"
    if name == "owners":
        _check_owners(saved, training)
    elif name == "schedule":
        check_schedule(saved, fresh["every"], training, where)
    elif name == "weighting":
        check_weighting(saved, fresh, training, where)
        _check_generator(saved, fresh, where)
    elif name == "state":  # of a rule that weighs losses by their values
        check_rule(saved, fresh, training, where)
        _check_generator(saved, fresh, where)
    elif name == "surgeon":  # the one inside cggm
        _check_surgeon(saved, fresh, training)
    elif name == "classifiers" and isinstance(training.surgeon, CGGM):
        if not isinstance(saved, Mapping) or set(saved) != set(fresh):
            raise ValueError(f"{where}: got {brief(saved)}, expected {', '.join(fresh)}")
        check_like(saved["models"], fresh["models"], f"{where}, models")
        _check_optimizer(saved["optimizer"], training.surgeon.classifiers.optimizer, f"{where}, optimizer")
    else:
        check_like(saved, fresh, where)
        expect(not isinstance(fresh, str) or saved == fresh, where, saved, brief(fresh))


def _check_generator(saved: Mapping[str, Any], fresh: Mapping[str, Any], name: str) -> None:
    """Raises ValueError unless both have the state of a generator, or neither has. saved: with the keys of fresh"""
    if fresh.get("generator") is not None:
        _check_random(saved["generator"], fresh["generator"], f"{name}, generator")
    else:
        expect(saved.get("generator") is None, f"{name}, generator", saved.get("generator"), "none")


def _check_owners(saved: object, training: Training) -> None:
    """Raises ValueError unless these are parameters by number, each with the modality it belongs to, if with one."""
    count = sum(1 for _ in training.network.parameters())
    known = (None, *training.network.modalities)
    good = isinstance(saved, Mapping) and all(
        type(key) is int and 0 <= key < count and owner in known for key, owner in saved.items()
    )
    if not good:
        raise ValueError(f"surgeon, owners: got {brief(saved)}, expected a modality for numbers of parameters")


def check_like(saved: object, fresh: object, name: str) -> None:
    """Raises ValueError unless a saved state is of the kind of a fresh one, through dictionaries and lists.

    Tensors have the shape and the type of the fresh ones, dictionaries their keys, lists their length, and numbers are
    finite. The state of an optimizer, which a fresh one lacks, has to be one of its parameters.

    saved: what a checkpoint holds; fresh: what a `state_dict` of the same configuration has returned
    name: where it stands, for the message
    """
    if isinstance(fresh, Tensor):
        _check_tensor(saved, fresh, name)
    elif isinstance(fresh, Mapping):
        keys = list(saved) if isinstance(saved, Mapping) else None
        if keys is None or set(keys) != set(fresh):
            raise ValueError(f"{name}: got {brief(saved if keys is None else keys)}, expected {brief(list(fresh))}")
        assert isinstance(saved, Mapping)
        for key in fresh:
            check_like(saved[key], fresh[key], f"{name}, {key}")
    elif isinstance(fresh, (list, tuple)):
        if type(saved) is not type(fresh) or len(saved) != len(fresh):
            raise ValueError(f"{name}: got {brief(saved)}, expected {len(fresh)} values")
        for number, (ours, theirs) in enumerate(zip(saved, fresh, strict=True)):
            check_like(ours, theirs, f"{name}, {number}")
    else:
        _check_value(saved, fresh, name)


def _check_optimizer(saved: object, optimizer: torch.optim.Optimizer, name: str) -> None:
    """Raises ValueError unless a saved state is one of this optimizer after some steps."""
    fresh, params = optimizer.state_dict(), [param for group in optimizer.param_groups for param in group["params"]]
    if not isinstance(saved, Mapping) or set(saved) != {"state", "param_groups"}:
        raise ValueError(f"{name}: got {brief(saved)}, expected 'state' and 'param_groups'")
    check_like(saved["param_groups"], fresh["param_groups"], f"{name}, param_groups")
    for ours, theirs in zip(saved["param_groups"], fresh["param_groups"], strict=True):
        for key in theirs.keys() - set(_CHANGING):
            expect(ours[key] == theirs[key], f"{name}, {key}", ours[key], brief(theirs[key]))
        expect(ours["lr"] >= 0, f"{name}, lr", ours["lr"], "0 or more")
    of_each = saved["state"]
    known = isinstance(of_each, Mapping) and all(type(key) is int and 0 <= key < len(params) for key in of_each)
    expect(known, f"{name}, state", of_each, f"that of parameters 0 to {len(params) - 1}")
    for key, of_one in of_each.items():
        like = torch.empty(params[key].shape, dtype=params[key].dtype)  # whole, of a parameter in pieces too
        check_like(of_one, _state_of_one(optimizer, like), f"{name}, state, {key}")


def _state_of_one(optimizer: torch.optim.Optimizer, like: Tensor) -> dict[str, Tensor]:
    """Returns what an optimizer remembers of a parameter like this one once it has made a step."""
    if isinstance(optimizer, torch.optim.SGD):
        return {"momentum_buffer": like} if optimizer.defaults["momentum"] else {}
    return {"step": torch.zeros(()), "exp_avg": like, "exp_avg_sq": like}  # of Adam, and AdamW, which is one


def _check_random(saved: object, fresh: Tensor, name: str) -> None:
    """Raises ValueError unless a saved state is one of torch's generators. fresh: a state of the same generator"""
    _check_tensor(saved, fresh, name)
    try:
        torch.Generator().set_state(saved)  # type: ignore[arg-type]  # checked in the line before
    except RuntimeError as error:
        raise ValueError(f"{name}: no state of a generator") from error


def _check_tensor(saved: object, fresh: Tensor, name: str) -> None:
    if not isinstance(saved, Tensor):
        raise ValueError(f"{name}: got {brief(saved)}, expected a tensor")
    got, expected = kind_of_tensor(saved), kind_of_tensor(fresh)
    if got != expected:
        raise ValueError(f"{name}: got a tensor {got}, expected {expected}")


def _check_value(saved: object, fresh: object, name: str) -> None:
    """Raises ValueError unless a plain value has the type of the fresh one, an int being a float too.

    Numbers are finite, unless it is the fresh one's value: what ReduceLROnPlateau begins with.
    """
    fits = type(saved) is type(fresh) or (type(saved) is int and type(fresh) is float)
    if not fits or (isinstance(saved, (int, float)) and not (-math.inf < saved < math.inf or saved == fresh)):
        raise ValueError(f"{name}: got {brief(saved)}, expected one like {brief(fresh)}")
