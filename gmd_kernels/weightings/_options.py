"""Checks of the weightings' options: each error says what came and what was expected."""

import math

import torch
from torch import Tensor

from gmd_kernels.checks import check_gram
from gmd_kernels.gradients import is_readable


def per_objective(name: str, values: Tensor, gram: Tensor) -> Tensor:
    """Returns an option with a number for each objective as float64; raises a ValueError unless it is floating [T]."""
    check_gram(gram)
    expected = f"floating [T] = [{gram.shape[-1]}] on {gram.device}"
    if not isinstance(values, Tensor):
        raise ValueError(f"{name}: expected {expected}, got {type(values).__name__}")
    if values.shape != gram.shape[-1:] or not values.is_floating_point() or values.device != gram.device:
        raise ValueError(f"{name}: expected {expected}, got {values.dtype} {list(values.shape)} on {values.device}")
    return values.detach().double()


def check_values(name: str, expected: str, values: Tensor, right: Tensor) -> None:
    """Raises a ValueError unless all values are right; says nothing of values that a read would have to wait for."""
    if is_readable(right) and not right.all():
        raise ValueError(f"{name}: expected {expected}, got {values.tolist()}")


def check_number(name: str, value: object, expected: str, least: float, most: float = math.inf) -> None:
    """Raises a ValueError unless the value is a finite number from `least` to `most`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:  # type: ignore[arg-type, operator]
        raise ValueError(f"{name}: expected {expected}, got {value!r}")


def check_count(name: str, value: object, least: int, most: int) -> None:
    """Raises a ValueError unless the value is an int from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name}: expected an int from {least} to {most}, got {value!r}")


def check_state(name: str, state: Tensor, shape: tuple[int, ...], gram: Tensor) -> None:
    """Raises a ValueError unless the state that a weighting updates is float64 of this shape beside the Gramian."""
    if not isinstance(state, Tensor):
        raise ValueError(f"{name}: expected float64 {list(shape)} on {gram.device}, got {type(state).__name__}")
    if tuple(state.shape) != shape or state.dtype != torch.float64 or state.device != gram.device:
        came = f"{state.dtype} {list(state.shape)} on {state.device}"
        raise ValueError(f"{name}: expected float64 {list(shape)} on {gram.device}, got {came}")
