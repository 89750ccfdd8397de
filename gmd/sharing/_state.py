"""The state dict of a shared network: each tensor once, a private one as NAME.MODALITY, others as in the plain network.

It would otherwise hold every tensor once for each view, which safetensors refuses to write.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmd.sharing.shared import Shared


def written_once(shared: "Shared", state: dict[str, Any], prefix: str, metadata: object) -> None:
    """Renames what the views have put into the state, in place: torch calls this when a state dict is made."""
    for index, modality in enumerate(shared.modalities):
        of_view = f"{prefix}views.{index}."
        for key in [key for key in state if key.startswith(of_view)]:
            value, name = state.pop(key), key.removeprefix(of_view)
            first = shared.ties.first.get(name, name)
            if first in shared.ties.private or name not in shared.ties.first:  # a module's extra state is no tensor
                state[f"{prefix}{first}.{modality}"] = value
            elif index == 0:
                state[prefix + first] = value


def read_into_views(
    shared: "Shared", state: dict[str, Any], prefix: str, metadata: object, strict: bool, *lists: object
) -> None:
    """Undoes `written_once`, in place, before torch loads a state; that of the plain network is taken as well.

    Private tensors of every modality are then those of the plain network.
    """
    names = _names_of_a_view(shared, state, prefix)
    values: dict[str, Any] = {}
    taken = set()
    for index, modality in enumerate(shared.modalities):
        for name in names:
            first = shared.ties.first.get(name, name)
            of_all, of_one = prefix + first, f"{prefix}{first}.{modality}"
            own = first in shared.ties.private or name not in shared.ties.first
            key = of_one if own and of_one in state else of_all
            if key in state:
                values[f"{prefix}views.{index}.{name}"] = state[key]
            taken |= {of_all, of_one, prefix + name}
    for key in taken & state.keys():
        del state[key]
    state |= values


def in_names_of_the_state(shared: "Shared", incompatible: Any) -> None:
    """Tells missing and unexpected keys by the names that a state has, after torch has loaded one; each once."""
    for keys in (incompatible.missing_keys, incompatible.unexpected_keys):
        keys[:] = list(dict.fromkeys(_named(shared, key) for key in keys))


def _named(shared: "Shared", key: str) -> str:
    head, found, rest = key.partition("views.")
    index, _, name = rest.partition(".")
    if not found or not index.isdigit() or int(index) >= len(shared.modalities) or name not in shared.ties.first:
        return key
    first = shared.ties.first[name]
    return f"{head}{first}.{shared.modalities[int(index)]}" if first in shared.ties.private else head + first


def _names_of_a_view(shared: "Shared", state: dict[str, Any], prefix: str) -> list[str]:
    """Returns the names of a view's tensors and, from the state, of the extra state that some modules have."""
    extra = "_extra_state"
    of_modules = [f"{name}.{extra}".removeprefix(".") for name, _ in shared.views[0].named_modules()]
    wanted = {prefix + name: name for name in of_modules}
    told = [name for key, name in wanted.items() if key in state or f"{key}.{shared.modalities[0]}" in state]
    return [*shared.ties.first, *told]
