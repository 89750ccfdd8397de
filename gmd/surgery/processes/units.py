"""The units of a network that `torch.distributed.fsdp.fully_shard` has made, whose parameters are gathered to compute.

A parameter has two tensors: the optimizer's, a DTensor of which a process has a shard, and the one that is whole, which
the unit puts in its place while it computes. Autograd's graph knows the latter only.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

UNUSED_SINCE = "2.13"  # torch's version that has `set_reduce_scatter_unused_params`


class Sharded(NamedTuple):
    """A parameter of a unit.

    Attributes:
        name: in the network.
        param: the optimizer's tensor.
        leaf: the whole one, which has memory only while its unit is gathered.
        unit: the number of its unit.
    """

    name: str
    param: nn.Parameter
    leaf: nn.Parameter
    unit: int


class Units:
    """The units of a network; none where `fully_shard` has made none.

    Attributes:
        names: of the units, as the network has them; "" is the network itself.
        modules: the units.
    """

    def __init__(self, network: nn.Module):
        self._network = network
        fsdp = sys.modules.get("torch.distributed.fsdp")  # who has made a unit has imported it
        found = {
            name: module
            for name, module in network.named_modules()
            if fsdp is not None and isinstance(module, fsdp.FSDPModule)
        }
        self.names = list(found)
        self.modules: list[FSDPModule] = list(found.values())
        self._roots = [module for name, module in found.items() if not any(_is_inside(name, o) for o in found)]

    def parameters(self) -> list[Sharded]:
        """Returns the parameters of all units. Gathers one unit after the other; all are sharded afterwards."""
        self.shard()
        sharded = dict(self._network.named_parameters())
        found = {}
        for number, unit in enumerate(self.modules):
            unit.unshard()
            for name, leaf in self._network.named_parameters():
                if leaf is not sharded[name]:
                    found[name] = Sharded(name, sharded[name], leaf, number)
            unit.reshard()
        return list(found.values())

    def shard(self) -> None:
        """Leaves each process with its shards only."""
        for unit in self.modules:
            unit.reshard()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Opens a context in which all units are gathered, and no backward pass shards one."""
        self.keep_gathered(True)
        self._reduce_unused(False)  # by whoever else: there is nothing to add up
        try:
            for unit in self.modules:
                unit.unshard()
            yield
        finally:
            self.keep_gathered(False)
            self.shard()

    def keep_gathered(self, keep: bool) -> None:
        """Says whether units stay gathered after a backward pass has gone through them."""
        for root in self._roots:
            root.set_reshard_after_backward(not keep)

    @contextmanager
    def with_unused(self) -> Iterator[None]:
        """Opens a context in which units add up gradients of parameters too that this process has none of.

        Torch before 2.13 cannot. Outside, units leave them out, as they do by themselves.
        """
        self._reduce_unused(True)
        try:
            yield
        finally:
            self._reduce_unused(False)

    def _reduce_unused(self, unused: bool) -> None:
        for root in self._roots:
            if hasattr(root, "set_reduce_scatter_unused_params"):
                root.set_reduce_scatter_unused_params(unused)

    @contextmanager
    def usable_after_errors(self, leaves: Sequence[Tensor]) -> Iterator[None]:
        """Opens a context for backward passes, which an exception leaves with units that can compute again."""
        try:
            yield
        except BaseException as error:
            self.keep_gathered(False)
            for leaf in leaves:
                leaf.grad = None
            for root in self._roots:
                if hasattr(root, "reset_iter_state"):  # since torch 2.13
                    root.reset_iter_state()
            self.shard()
            if isinstance(error, RuntimeError):
                self._explain(error)
            raise

    def _explain(self, error: RuntimeError) -> None:
        """Adds to an error what may have caused it with a torch that is too old."""
        if (
            isinstance(error, RuntimeError)
            and self.modules
            and not hasattr(self.modules[0], "set_reduce_scatter_unused_params")
        ):
            why = "if a process has no gradient of a parameter that another has one of, fully_shard needs torch"
            error.args = (f"{error} ({why} {UNUSED_SINCE} or newer, this is {torch.__version__})",)


def _is_inside(name: str, other: str) -> bool:
    """Returns whether a module is inside another one, by their names in the network."""
    return name != other and (other == "" or name.startswith(f"{other}."))
