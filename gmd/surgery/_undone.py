"""A call that fails leaves what is remembered from call to call as it was."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol


class Remembering(Protocol):
    """What has a memory, as tensors and plain values."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@contextmanager
def undone_on_error(memory: Remembering) -> Iterator[None]:
    """Opens a context that any exception, an interrupt by the user too, leaves with the memory of before."""
    before = memory.state_dict()
    try:
        yield
    except BaseException:
        memory.load_state_dict(before)
        raise


def check_keys(what: str, expected: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Raises a ValueError if a saved state, which messages call `what`, lacks something that one has."""
    if lacking := expected.keys() - state.keys():
        raise ValueError(f"{what}: expected {', '.join(expected)}, lacks {min(lacking)}")
