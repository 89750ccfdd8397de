"""Checks of the losses and the outputs that the methods are given, and of what functions of the user's return."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Sized
from typing import SupportsFloat

import torch
from torch import Tensor

from gmd_kernels.pieces import is_dtensor

Criterion = Callable[[Tensor, Tensor], Tensor]  # (predictions [b, ...], targets [b, ...]) -> scalar
Metric = Callable[[Tensor, Tensor], SupportsFloat]  # of the same, a scalar tensor or a number


WHOLE = (
    "expected a plain tensor, the same on all processes of tensor parallelism, got a DTensor; give its full_tensor()"
)
UNITS = "torch.distributed.fsdp"  # where fully_shard's hooks come from

Losses = Mapping[Hashable, Tensor] | Sequence[Tensor]  # of the objectives, by name or in a fixed order


def named_losses(losses: Losses) -> dict[Hashable, Tensor]:
    """Returns name -> loss, a scalar; the objectives of a list are called by their positions.

    Raises an error that says which loss is not a scalar tensor that requires grad.
    """
    named = dict(losses if isinstance(losses, Mapping) else enumerate(losses))
    if not named:
        raise ValueError("losses: expected at least one objective, got none")
    for name, loss in named.items():
        if not isinstance(loss, Tensor):
            raise TypeError(f"losses[{name!r}]: expected a scalar tensor, got {type(loss).__name__}")
        if is_dtensor(loss):
            raise TypeError(f"losses[{name!r}]: {WHOLE}")
        if loss.numel() != 1:
            raise ValueError(
                f"losses[{name!r}]: expected a scalar tensor, got shape {list(loss.shape)}; reduce it first"
            )
        if not loss.requires_grad:
            raise ValueError(
                f"losses[{name!r}] does not require grad: it was computed from detached tensors, under torch.no_grad() "
                "or torch.inference_mode(), or from none of the parameters"
            )
    return {name: loss.reshape(()) for name, loss in named.items()}


def check_losses(losses: Losses) -> list[Tensor]:
    """Returns the losses as scalars, without their names; raises what `named_losses` does."""
    return list(named_losses(losses).values())


def check_same_kind(losses: Losses, by_name: bool | None) -> bool:
    """Returns whether losses come by name; raises a ValueError if that was otherwise before. None: nothing was."""
    now = isinstance(losses, Mapping)
    if by_name not in (None, now):
        kinds = ("a list", "a dict")
        raise ValueError(
            f"losses: expected {kinds[not now]}, as in the calls before, got {kinds[now]}: an objective is known by "
            "its name, or else by its position"
        )
    return now


def checked_loss(value: Tensor, what: str) -> Tensor:
    """Returns what a criterion of the user's has returned, a scalar; raises an error unless it can be learnt from."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{what}: expected it to return a scalar tensor, got {_described(value)}")
    if value.numel() != 1 or not value.requires_grad:
        raise ValueError(f"{what}: expected it to return a scalar tensor that requires grad, got {_described(value)}")
    return value.reshape(())


def checked_metric(value: SupportsFloat, what: str, device: torch.device) -> Tensor:
    """Returns what a metric of the user's has returned, a number or a tensor of one element, as a float64 scalar."""
    if isinstance(value, Tensor):
        if value.numel() == 1 and not value.is_complex():
            return value.detach().reshape(()).to(device, torch.float64)
    elif isinstance(value, SupportsFloat) and getattr(value, "ndim", 0) == 0:  # arrays of numpy have that
        return torch.tensor(float(value), dtype=torch.float64, device=device)
    raise TypeError(f"{what}: expected it to return a number or a scalar tensor, got {_described(value)}")


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"a tensor of {value.dtype}, shape {list(value.shape)}" + ("" if value.requires_grad else ", without grad")


Outputs = Mapping[str, Tensor] | Sequence[Tensor]  # one of each modality


def check_outputs(outputs: Outputs) -> list[Tensor]:
    """Returns the outputs as a list; raises an error that says which one is not a tensor of the graph."""
    found = []
    for name, output in _named(outputs):
        if not isinstance(output, Tensor):
            raise TypeError(f"outputs[{name!r}]: expected a tensor, got {type(output).__name__}")
        if is_dtensor(output):
            raise TypeError(f"outputs[{name!r}]: {WHOLE}")
        if not output.requires_grad:
            raise ValueError(
                f"outputs[{name!r}] does not require grad: give the tensor that the losses were computed from"
            )
        found.append(output)
    if not found:
        raise ValueError("outputs: expected the output of at least one modality, got none")
    return found


def check_no_hooks(outputs: Outputs) -> None:
    """Raises a ValueError if an output has a hook, which passes modality by modality would run twice.

    Those of fully_shard may run as often as they like: they see to it that a unit's parameters are gathered.
    """
    for name, output in _named(outputs):
        hooks = (output._backward_hooks or {}).values()
        if any(not type(getattr(hook, "__self__", None)).__module__.startswith(UNITS) for hook in hooks):
            raise ValueError(f"outputs[{name!r}] has a hook, which would run twice; hook a tensor before or behind it")


def check_rows(outputs: Mapping[str, Tensor], others: Mapping[str, Sized], what: str) -> None:
    """Raises an error unless `others`, which messages call `what`, go with the outputs row by row."""
    if not isinstance(outputs, Mapping):
        raise TypeError(f"outputs: expected a dict, by modality, got {type(outputs).__name__}")
    for m, output in outputs.items():
        if m not in others:
            raise ValueError(f"{what}: expected those of {m!r} too, got {', '.join(map(repr, others)) or 'none'}")
        if len(others[m]) != len(output):
            raise ValueError(f"{what}[{m!r}]: expected {len(output)} rows, as outputs[{m!r}] has, got {len(others[m])}")


def check_factors(factors: Tensor | None, outputs: Outputs | None) -> None:
    """Raises an error unless there is one factor for each output, or none at all."""
    if factors is None:
        return
    if outputs is None:
        raise ValueError("factors: expected outputs with them, whose gradients they multiply, got none")
    if not isinstance(factors, Tensor) or not factors.is_floating_point():
        kind = factors.dtype if isinstance(factors, Tensor) else type(factors).__name__
        raise TypeError(f"factors: expected a tensor of floating point, got {kind}")
    if factors.shape != (len(outputs),):
        raise ValueError(f"factors: expected shape [{len(outputs)}], one for each output, got {list(factors.shape)}")


def _named(outputs: Outputs) -> Iterable[tuple[str | int, Tensor]]:
    return outputs.items() if isinstance(outputs, Mapping) else enumerate(outputs)
