"""What of a network belongs to one modality each: its norms, or what the caller names."""

from collections.abc import Callable, Sequence

from torch import nn

from gmd.sharing._norms import is_norm

Private = str | type[nn.Module] | Callable[[str, nn.Module], bool]
LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding, nn.EmbeddingBag, nn.Bilinear)


def private_modules(network: nn.Module, private: Private | Sequence[Private] | None) -> dict[str, nn.Module]:
    """Returns the modules that are to be private by their names, with all that is in them; each is there once.

    private: as for `gmd.share`
    Raises ValueError for an entry that nothing in the network answers to, TypeError for one that is no entry.
    """
    if private is None:
        private = ("norm",)
    entries = private if isinstance(private, list | tuple) else (private,)
    found: dict[str, nn.Module] = {}
    for entry in entries:
        chosen = _chosen(network, entry)
        if not chosen and entry != "norm":  # whether there are norms is another question, with an answer of its own
            raise ValueError(f"private: got {_shown(entry)}, which the network has not; {_what_there_is(network)}")
        found |= chosen
    return {name: module for name, module in network.named_modules() if name in found}


def _chosen(network: nn.Module, entry: object) -> dict[str, nn.Module]:
    modules = dict(network.named_modules())
    if entry == "norm":
        return {name: module for name, module in modules.items() if is_norm(module)}
    if entry == "stem":
        layers = [(name, module) for name, module in modules.items() if isinstance(module, LAYERS)]
        return dict(layers[:1])
    if isinstance(entry, str):
        # also by a second name, under which named_modules does not list a module again
        named = dict(network.named_modules(remove_duplicate=False))
        if entry not in named or entry == "":
            return {}
        return {name: module for name, module in modules.items() if module is named[entry]}
    if isinstance(entry, type) and issubclass(entry, nn.Module):
        return {name: module for name, module in modules.items() if isinstance(module, entry)}
    if callable(entry) and not isinstance(entry, type):
        return {name: module for name, module in modules.items() if entry(name, module)}
    raise TypeError(
        "private: expected 'norm', 'stem', names of modules, classes of them, or functions of a name and a module, "
        f"got {entry!r}"
    )


def _shown(entry: object) -> str:
    return repr(entry) if isinstance(entry, str) else getattr(entry, "__name__", repr(entry))


def _what_there_is(network: nn.Module) -> str:
    names = [name for name, _ in network.named_children()]
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"expected 'norm', 'stem' or modules of it, such as {shown}" if names else "it has no modules"
