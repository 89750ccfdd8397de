"""The optimizers that a method is given: which ones work, what they have inside, and whose parameters they are."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from gmd_kernels.pieces import is_dtensor

# one, or several of one network
Optimizers = torch.optim.Optimizer | list[torch.optim.Optimizer] | tuple[torch.optim.Optimizer, ...]

LBFGS = (
    "LBFGS evaluates its closure several times in a step and searches along a line for a lower loss, but "
    "what a method leaves in .grad is in general no function's gradient: the search has no meaning. Take an optimizer "
    "that uses each gradient once, such as SGD or AdamW; or LBFGS without gmd, on torch.stack(losses).mean()"
)
FLAT = (
    "parameter {index} is in a FullyShardedDataParallel, which refuses a second backward pass. Use "
    "torch.distributed.fsdp.fully_shard, and scope='global' of gmd.GMD or gmd.Surgeon"
)
SHARDED = (
    "parameter {index} is sharded over processes (fully_shard or another DTensor), whose pieces a surgery of one "
    "process's own batch does not have. Use scope='global' of gmd.GMD or gmd.Surgeon; or let each process hold the "
    "whole network: DistributedDataParallel works"
)
NETWORK = (
    "parameter {index} of the optimizer is sharded over processes, expected the network that has it: model=network"
)


def optimizers_of(given: Optimizers, sharded: bool = False) -> tuple[torch.optim.Optimizer, ...]:
    """Returns the optimizers, one or several; raises an error that says why the method cannot work with one of them.

    Wrappers that have the parameters in `param_groups`, as LightningOptimizer, are optimizers too.

    sharded: whether the method works with sharded parameters
    """
    if not isinstance(given, list | tuple):
        return (_checked(given, "optimizer", sharded),)
    if not given:
        raise ValueError("optimizer: expected a torch optimizer or several, got an empty list")
    optimizers = tuple(_checked(optimizer, f"optimizer[{o}]", sharded) for o, optimizer in enumerate(given))
    parameters_of(optimizers)
    return optimizers


def check_network(optimizers: Sequence[torch.optim.Optimizer], network: nn.Module | None) -> None:
    """Raises a ValueError if there is no network that is to have the sharded parameters."""
    for index, param in enumerate(parameters_of(optimizers)):
        if network is None and is_dtensor(param):
            raise ValueError(f"model: {NETWORK.format(index=index)}")


def _checked(optimizer: torch.optim.Optimizer, name: str, sharded: bool) -> torch.optim.Optimizer:
    if not hasattr(optimizer, "param_groups"):
        raise TypeError(f"{name}: expected a torch optimizer, got {type(optimizer).__name__}")
    if any(isinstance(member, torch.optim.LBFGS) for member in with_those_inside(optimizer)):
        raise TypeError(f"{name}: {LBFGS}")
    for index, param in enumerate(_params(optimizer)):
        if getattr(param, "_fsdp_flattened", False):  # as FSDP's first version marks them
            raise TypeError(f"{name}: {FLAT.format(index=index)}")
        if is_dtensor(param) and not sharded:
            raise TypeError(f"{name}: {SHARDED.format(index=index)}")
    return optimizer


def parameters_of(optimizers: Sequence[torch.optim.Optimizer]) -> list[nn.Parameter]:
    """Returns the parameters of all groups of all optimizers, each once, in their order; frozen ones too.

    Raises:
        ValueError: a parameter is in two of the optimizers, which would both step it.
    """
    found: dict[int, tuple[int, nn.Parameter]] = {}  # by id, as torch takes long to hash a tensor
    for o, optimizer in enumerate(optimizers):
        for index, param in enumerate(_params(optimizer)):
            owner, _ = found.setdefault(id(param), (o, param))
            if owner != o:
                raise ValueError(
                    f"optimizer[{o}]: parameter {index}, {list(param.shape)}, is in optimizer[{owner}] too, "
                    "expected each parameter in one optimizer only"
                )
    return [param for _, param in found.values()]


def check_same(given: Sequence[torch.optim.Optimizer], of_surgeon: Sequence[torch.optim.Optimizer]) -> None:
    """Raises a ValueError unless a method and the surgeon that it was given have the same optimizers."""
    if [id(optimizer) for optimizer in given] != [id(optimizer) for optimizer in of_surgeon]:
        raise ValueError("surgeon: expected one of the same optimizer, got one of another")


def with_those_inside(optimizer: torch.optim.Optimizer) -> list[torch.optim.Optimizer]:
    """Returns an optimizer and those that it wraps, at any depth: what it holds that has some of its parameters."""
    members = [optimizer]
    params = {id(param) for param in _params(optimizer)}
    for member in members:  # which grows on the way
        for value in _held_by(member):
            if any(value is other for other in members) or not hasattr(value, "param_groups"):
                continue
            if any(id(param) in params for param in _params(value)):
                members.append(value)
    return members


def _held_by(thing: object) -> Iterator[torch.optim.Optimizer]:
    """Yields the values of an object's attributes, and of the lists and dicts among these. Any may be an optimizer."""
    slots = [getattr(kind, "__slots__", ()) for kind in type(thing).__mro__]
    names = [name for of_kind in slots for name in ([of_kind] if isinstance(of_kind, str) else of_kind)]
    for value in [*getattr(thing, "__dict__", {}).values(), *(getattr(thing, name, None) for name in names)]:
        yield value
        if isinstance(value, list | tuple):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()


def _params(optimizer: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    return (param for group in optimizer.param_groups for param in group["params"])
