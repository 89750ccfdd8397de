"""Networks that cannot be shared, and what to do instead."""

from collections.abc import Sequence

from torch import nn
from torch.jit import ScriptModule
from torch.nn.parameter import is_lazy

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
        where = f"network: its module {name}" if name else "network:"
        if isinstance(module, ScriptModule):
            raise TypeError(f"{where} is a script, of which no second view can be made; share the network before")
        for kind in type(module).__mro__:
            if kind.__name__ in WRAPPERS and kind.__module__.startswith("torch."):
                raise TypeError(f"{where} {WRAPPERS[kind.__name__]}")
            if kind.__name__ == "Shared" and kind.__module__ == "gmd.sharing.shared":
                raise TypeError(f"{where} is shared already")
        if getattr(module, "_compiled_call_impl", None) is not None:
            raise TypeError(f"{where} {WRAPPERS['OptimizedModule']}")
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if is_lazy(tensor):
            raise ValueError(f"network: {name} has no size yet; call the network once before it is shared")
        if type(tensor).__name__ == "DTensor" or type(tensor.data).__name__ == "DTensor":
            raise TypeError(f"network: {name} {WRAPPERS['FullyShardedDataParallel']}")


def checked_modalities(modalities: Sequence[str]) -> tuple[str, ...]:
    """Returns the names as a tuple. Raises TypeError or ValueError unless they are one or several different names."""
    if isinstance(modalities, str) or not all(isinstance(m, str) for m in modalities):
        raise TypeError(f"modalities: expected a sequence of names, got {modalities!r}")
    if not modalities or "" in modalities or len(set(modalities)) < len(modalities):
        raise ValueError(f"modalities: expected different names, one at least, got {list(modalities)}")
    return tuple(modalities)
