"""Checks of options: those given by name, against the signature of what they are for; and those of a surgeon."""

import inspect
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from torch import Tensor

from gmd.surgery._granularity import GRANULARITIES

SCOPES = ("local", "global")


def check_options(what: str, given: Mapping[str, Any], known: Mapping[str, inspect.Parameter]) -> None:
    """Raises an error that names the first option that is unknown, missing or of another type.

    Where a tensor [T] is expected, a dict name -> number and a list of T numbers are taken too.

    Raises:
        ValueError: an option that is unknown, or that has to be given and is not.
        TypeError: an option of another type.
    """
    for option, value in given.items():
        if option not in known:
            expected = f"some of {', '.join(known)}" if known else "no options"
            raise ValueError(f"{what}: expected {expected}, got {option}")
        kinds = _kinds(known[option].annotation)
        if not any(_is_of(value, kind) for kind in kinds):
            expected = " or ".join(map(_called, kinds))
            raise TypeError(f"{what}: {option}: expected {expected}, got {value!r}")
    for option, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and option not in given:
            raise ValueError(f"{what}: expected {option}, which has no default")


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union of types, or the one type; the choices of a Literal as they are."""
    if get_origin(annotation) is Literal:
        return (annotation,)
    arguments = get_args(annotation) if not isinstance(annotation, type) else ()
    return arguments or (annotation,)


def _is_of(value: object, kind: Any) -> bool:
    if kind is None or kind is type(None):
        return value is None
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind in (float, int):
        return isinstance(value, float | int if kind is float else int) and not isinstance(value, bool)
    if kind is Tensor:
        return isinstance(value, Tensor) or _is_numbers(value)
    kind = get_origin(kind) or kind
    return not isinstance(kind, type) or isinstance(value, kind)


def _is_numbers(value: object) -> bool:
    numbers = list(value.values()) if isinstance(value, Mapping) else value
    return isinstance(numbers, list | tuple) and all(_is_of(number, float) for number in numbers)


def _called(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if kind in (None, type(None)):
        return "None"
    names = {
        float: "a number",
        int: "a whole number",
        str: "a word",
        Tensor: "a number for each objective",
        Mapping: "a dict",
    }
    return names.get(get_origin(kind) or kind, getattr(kind, "__name__", str(kind)))


def check_surgeon_options(every: int | str, granularity: str, tol: float, scope: str) -> None:
    """Raises a ValueError for an option of a surgeon that is none, and for two that do not go together."""
    if scope not in SCOPES:
        raise ValueError(f"scope: expected 'local' or 'global', got {scope!r}")
    if granularity not in GRANULARITIES:
        raise ValueError(f"granularity: expected 'model', 'module' or 'tensor', got {granularity!r}")
    if not 0 <= tol < 1:
        raise ValueError(f"tol: expected a relative error, at least 0 and below 1, got {tol}")
    if every != 1 and granularity != "model":
        raise ValueError(
            f"every: expected 1 with granularity={granularity!r}, got {every!r}: between, a step is one backward "
            "pass, in which each loss has one weight for the whole model"
        )
