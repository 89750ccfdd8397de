"""Names and kinds of what a process was given, as it tells them to the others."""

from collections.abc import Hashable, Mapping, Sequence, Sized

from gmd.surgery._losses import Outputs


def output_names(outputs: Outputs | None) -> list[Hashable]:
    """Returns the names of outputs, or their positions."""
    if outputs is None:
        return []
    return list(outputs) if isinstance(outputs, Mapping) else list(range(len(outputs)))


def places_of(outputs: Outputs | None, names: Sequence[Hashable]) -> tuple[list[int], int]:
    """Returns where this process's outputs are among those of all processes, and how many these are."""
    return [names.index(name) for name in output_names(outputs)], len(names)


def kind_of(losses: Sized, by_name: bool, outputs: Outputs | None) -> str:
    """Returns in words how losses and outputs were given."""
    told = "losses by name" if by_name else f"a list of {len(losses)} losses"
    if outputs is None:
        return f"{told}, no outputs"
    return f"{told}, outputs by name" if isinstance(outputs, Mapping) else f"{told}, a list of {len(outputs)} outputs"
