"""Networks that cannot be shared, and what to do instead."""

import gc
import sys
from collections.abc import Sequence

from torch import nn
from torch.jit import ScriptModule
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from gmd.printing import warn

# by name, so that nobody waits for the import of what he does not use
WRAPPERS = {
    "OptimizedModule": "was compiled; share the network first, then compile shared.views[m] one by one",
    "DataParallel": "is spread over devices; share the network first",
    "DistributedDataParallel": "is spread over processes; share the network first, then wrap what share returns",
    "FullyShardedDataParallel": "is sharded; sharding and gmd.share do not go together",
}


def check_shareable(network: nn.Module) -> None:
    """Raises TypeError or ValueError, with what to do, for a network that would be shared wrongly or not at all."""
    if not isinstance(network, nn.Module):
        raise TypeError(f"network: expected a torch.nn.Module, got {type(network).__name__}")
    for name, module in network.named_modules():
        if reason := _why_not(module):
            raise TypeError(f"network: its module {name} {reason}" if name else f"network: {reason}")
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if is_lazy(tensor):
            raise ValueError(f"network: {name} has no size yet; call the network once before it is shared")
        if hasattr(tensor, "device_mesh"):  # of FSDP's second version, and of tensor parallelism
            raise TypeError(f"network: {name} {WRAPPERS['FullyShardedDataParallel']}")


def _why_not(module: nn.Module) -> str | None:
    """Returns why a network with this module in it cannot be shared; None if it can."""
    if isinstance(module, ScriptModule):
        return "is a script, of which no second view can be made; share the network before"
    if getattr(module, "_compiled_call_impl", None) is not None:
        return WRAPPERS["OptimizedModule"]
    of_torch = [kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torch.")]
    if (wrapper := next((name for name in of_torch if name in WRAPPERS), None)) is not None:
        return WRAPPERS[wrapper]
    return "is shared already" if hasattr(module, "ties") and type(module).__module__ == "gmd.sharing.shared" else None


def checked_modalities(modalities: Sequence[str]) -> tuple[str, ...]:
    """Returns the names as a tuple. Raises TypeError or ValueError unless they are one or several different names."""
    if isinstance(modalities, str) or not all(isinstance(m, str) for m in modalities):
        raise TypeError(f"modalities: expected a sequence of names, got {modalities!r}")
    if not modalities or "" in modalities or len(set(modalities)) < len(modalities):
        raise ValueError(f"modalities: expected different names, one at least, got {list(modalities)}")
    return tuple(modalities)


def warn_of_earlier_optimizers(network: nn.Module) -> None:
    """Warns if there is an optimizer of the network's parameters: it lacks those that sharing makes.

    An optimizer is known to itself alone, so this asks Python's memory: an object refers to its class. That takes a
    tenth of a second, and is left out where nobody but the network refers to its parameters.
    """
    if _references(network) <= _references(nn.Linear(1, 1)):
        return
    parameters = {id(parameter) for parameter in network.parameters()}
    kinds = _with_subclasses(Optimizer)
    for thing in gc.get_referrers(*kinds):
        held = [p for group in thing.param_groups for p in group["params"]] if type(thing) in kinds else []
        if any(id(parameter) in parameters for parameter in held):
            warn(
                f"network: there is an optimizer ({type(thing).__name__}) of its parameters, which lacks the private "
                "ones that gmd.share makes for further modalities and would never move them; make the optimizer of "
                "what share returns",
                stacklevel=3,
            )
            return


def _references(network: nn.Module) -> int:
    """Returns how many references there are to the parameter that has most of them."""
    own = (module._parameters.values() for module in network.modules())
    return max((sys.getrefcount(parameter) for some in own for parameter in some if parameter is not None), default=0)


def _with_subclasses(kind: type) -> list[type]:
    below: list[type] = kind.__subclasses__()
    return [kind, *(one for direct in below for one in _with_subclasses(direct))]
