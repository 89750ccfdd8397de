"""A network that serves several modalities: one view for each, which share all but what is private to it."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from gmd.sharing._closures import parameters_reached
from gmd.sharing._norms import add_affine, is_norm, lacks_affine
from gmd.sharing._private import Private, private_modules
from gmd.sharing._refusals import check_shareable, checked_modalities, warn_of_earlier_optimizers
from gmd.sharing._state import in_names_of_the_state, read_into_views, written_once
from gmd.sharing._ties import named_tensors, tie, ties_of


def share(
    network: nn.Module,
    modalities: Sequence[str],
    private: Private | Sequence[Private] | None = None,
    affine: bool = True,
) -> "Shared":
    """Makes a network for several modalities of one that takes the input of one (Dynamic Sharing; Wang et al., 2024).

    Every norm gets a scale, a shift and running statistics for each modality; all other parameters are shared. At first
    all modalities compute what the given network does. Make the optimizer afterwards: one made before lacks the private
    parameters of all modalities but the first, of which share warns.

    Args:
        network: maps the input of ONE modality, such as a volume of one channel, to an output. It becomes the view of
            the first modality: what is done to it later is done to that.
        modalities: names, in the order of their indices.
        private: what each modality has for itself, one entry or a sequence of them. "norm" (the default): all norms,
            that is torch's BatchNorm, InstanceNorm, GroupNorm, LayerNorm and RMSNorm, what derives from them, and
            classes called ...Norm that have parameters. "stem": the first convolution, linear layer or embedding, in
            the order in which the network's modules were made. The name of a module, with all that it holds; a class of
            modules; or a function of a name and a module that returns whether it is private.
        affine: whether norms without scale and shift are given them, ones and zeros, if norms are private.

    returns the shared network, to be called with an input and the name or the index of its modality

    Raises ValueError if nothing in the network could be private, and for a network that cannot be copied.
    Raises TypeError for networks that were compiled, scripted, or spread over devices or processes: share them before.
    """
    modalities = checked_modalities(modalities)
    check_shareable(network)
    chosen = private_modules(network, private)
    without = [name for name, module in chosen.items() if lacks_affine(module)] if affine else []
    if not without and not any(named_tensors(module) for module in chosen.values()):
        raise ValueError(_nothing_private(network, chosen))
    warn_of_earlier_optimizers(network)
    ties = ties_of(network, chosen.values())
    shared = [tensor for name, tensor in named_tensors(network).items() if ties.first[name] not in ties.private]
    views = [network, *(_view(network, shared) for _ in modalities[1:])]
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    for view in views:
        for name in without:
            add_affine(view.get_submodule(name), like)
    return Shared(views, modalities, tuple(chosen), len(without))


class Views(nn.ModuleList):
    """The views of a shared network: `views["t1"]` or `views[1]`."""

    def __init__(self, views: Sequence[nn.Module], modalities: tuple[str, ...]):
        super().__init__(views)
        self.modalities = modalities

    def __getitem__(self, modality: Any) -> Any:
        return super().__getitem__(self.modalities.index(modality) if isinstance(modality, str) else modality)


class Shared(nn.Module):
    """A network that serves several modalities; `gmd.share` makes it.

    Call it with an input and its modality, a name or an index; further arguments go to the network. A modality that is
    not called costs nothing, and its private parameters receive no gradient (`None`, not zeros).

    The state dict holds each tensor once: those of a modality's own as NAME.MODALITY, the others under the name that
    they have in the plain network, whose own state dict can be loaded too. Copies, `to` and `load_state_dict` keep what
    is shared shared. Attributes and hooks that are set after sharing have to be set on every one of `views`.

    Attributes:
        modalities: their names, in the order of their indices.
        views: name or index -> the network as that modality sees it, for whatever is done to one by itself: hooks,
            `torch.compile`.
        added_affines: how many norms had no scale and shift and were given them.
    """

    def __init__(self, views: Sequence[nn.Module], modalities: tuple[str, ...], private: Sequence[str], added: int):
        super().__init__()
        self.modalities = modalities
        self.views = Views(views, modalities)
        self.added_affines = added
        self.ties = ties_of(views[0], [views[0].get_submodule(name) for name in private])
        self._checked: set[int] = set()
        self._register_state_dict_hook(written_once)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(read_into_views)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_after_loading)  # type: ignore[no-untyped-call]

    def forward(self, x: Any, modality: str | int, *args: Any, **kwargs: Any) -> Any:
        """Runs the network as `modality` sees it. Raises ValueError for one that it does not know."""
        index = self.index(modality)
        outputs = self.views[index](x, *args, **kwargs)
        if self.training and torch.is_grad_enabled() and index not in self._checked and not _traced():
            self._check_private(outputs, (x, args, kwargs), index)
        return outputs

    def index(self, modality: str | int) -> int:
        """Returns the index of a modality that is given by its name or index. Raises ValueError for others."""
        if isinstance(modality, str) and modality in self.modalities:
            return self.modalities.index(modality)
        if isinstance(modality, int) and not isinstance(modality, bool) and 0 <= modality < len(self.modalities):
            return modality
        names = ", ".join(self.modalities)
        raise ValueError(f"modality: expected {names}, or an index below {len(self.modalities)}, got {modality!r}")

    def private_parameters(self, modality: str | int) -> list[nn.Parameter]:
        """Returns the parameters that belong to this modality alone."""
        own = dict(self.views[self.index(modality)].named_parameters())
        return [parameter for name, parameter in own.items() if self.ties.first[name] in self.ties.private]

    def shared_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters that all modalities use."""
        own = dict(self.views[0].named_parameters())
        return [parameter for name, parameter in own.items() if self.ties.first[name] not in self.ties.private]

    def described(self) -> str:
        """Returns a sentence that says how many parameters are shared and how many private."""
        shared = sum(parameter.numel() for parameter in self.shared_parameters())
        private = sum(parameter.numel() for parameter in self.private_parameters(0))
        norms = f"; given scale and shift, which they lacked: {self.added_affines} norms" if self.added_affines else ""
        return f"{shared:,} parameters shared by {len(self.modalities)} modalities, {private:,} private to each{norms}"

    def _apply(self, fn: Any, recurse: bool = True) -> "Shared":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        tie(list(self.views), self.ties)
        return self

    def _check_private(self, outputs: Any, inputs: Any, index: int) -> None:
        """Raises RuntimeError if a view uses what belongs to another one, the first time that each is trained."""
        others = {
            id(parameter): (modality, name)
            for other, modality in enumerate(self.modalities)
            if other != index
            for name, parameter in self.views[other].named_parameters()
            if self.ties.first[name] in self.ties.private
        }
        for parameter in parameters_reached(outputs, inputs):
            if id(parameter) in others:
                modality, name = others[id(parameter)]
                raise RuntimeError(
                    f"{self.modalities[index]} uses {name} of {modality}: the network keeps a function that holds that "
                    "module, such as a lambda, which cannot be given another one; make it a method, then share again"
                )
        self._checked.add(index)


def _view(network: nn.Module, shared: Sequence[torch.Tensor]) -> nn.Module:
    """Copies a network without its shared tensors, which are in the copy what they are in the network."""
    try:
        return copy.deepcopy(network, {id(tensor): tensor for tensor in shared})
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            "network: no view of it can be made, as it cannot be copied; if it keeps an activation, share it before "
            f"the first forward pass, or set that to None ({error})"
        ) from error


def _nothing_private(network: nn.Module, chosen: dict[str, nn.Module]) -> str:
    norms = sorted({type(module).__name__ for module in network.modules() if is_norm(module)})
    if chosen:
        return f"network: {', '.join(norms) or 'what is private'} has no parameters; affine=True gives norms their own"
    return (
        "network: nothing is private to a modality, as it has no module that is a norm. Normalisation by functions "
        "(torch.nn.functional) cannot be reached; make it modules, or name what is to be private: private=('stem',)"
    )


def _traced() -> bool:
    """Returns whether a compiler or a function transform is looking on, in which there is no graph to walk."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None


def _after_loading(shared: Shared, incompatible: Any) -> None:
    in_names_of_the_state(shared, incompatible)
    tie(list(shared.views), shared.ties)
