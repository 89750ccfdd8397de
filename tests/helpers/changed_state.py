"""A training's state with something else in one place, as a damaged checkpoint has it."""

from typing import Any


def changed(state: Any, where: str, value: object) -> Any:
    """A copy of the state with another value at a place such as optimizer/param_groups/0/lr."""
    first, _, rest = where.partition("/")
    copy = list(state) if isinstance(state, (list, tuple)) else dict(state)
    key = int(first) if first.isdigit() else first
    copy[key] = changed(copy[key], rest, value) if rest else value
    return copy
