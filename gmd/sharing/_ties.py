"""The tensors of a network's views: which are one and the same, under which names, and how they are kept so."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor, nn


class Ties(NamedTuple):
    """What the views have in common.

    Attributes:
        first: name -> the first of the names that the same tensor has in a view; all names of all tensors are keys.
        private: the first names of the tensors that each view has for itself.
    """

    first: dict[str, str]
    private: frozenset[str]


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Returns all parameters and buffers by all of their names, a tensor of several names several times."""
    parameters = module.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(module.named_buffers(remove_duplicate=False))}


def ties_of(network: nn.Module, private: Iterable[nn.Module]) -> Ties:
    """Finds which names of a network's are of one tensor, and which tensors are private: those of `private` modules."""
    own = {id(tensor) for module in private for tensor in named_tensors(module).values()}
    names: dict[int, str] = {}
    tensors = named_tensors(network)
    first = {name: names.setdefault(id(tensor), name) for name, tensor in tensors.items()}
    return Ties(first, frozenset(name for name in first.values() if id(tensors[name]) in own))


def tie(views: Sequence[nn.Module], ties: Ties) -> None:
    """Makes shared tensors one object again in all views, under all their names, and private ones in each view.

    Those of the first view stay, and of several names the first. Moving a module to another device makes new buffers,
    and loading with `assign=True` makes new parameters.
    """
    shared = named_tensors(views[0])
    for view in views:
        own = named_tensors(view)
        for name, first in ties.first.items():
            tensor = (own if first in ties.private else shared).get(first)
            if tensor is not None and own.get(name) is not tensor:
                _put(view, name, tensor)


def _put(module: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    (owner._parameters if leaf in owner._parameters else owner._buffers)[leaf] = tensor  # type: ignore[assignment]
