"""A network of which each process keeps a part, and of the optimizer's state too: torch's `fully_shard`, with --shard.

Parameters are DTensors then, and those of the optimizer's state that are like them. A checkpoint has them whole, so
that it is the same file as without --shard.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed import fsdp

from gmd.errors import UserError
from gmd.surgery.processes.units import UNUSED_SINCE
from gmd.together import is_first, processes, waited_for
from gmd_kernels.pieces import is_dtensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def check_torch() -> None:
    """Raises UserError for a torch whose units stop where a process lacks a gradient that another process has."""
    if not hasattr(getattr(fsdp, "FSDPModule", None), "set_reduce_scatter_unused_params"):
        raise UserError(
            f"--shard: expected torch {UNUSED_SINCE} or newer, whose fully_shard lets a process lack a modality, got "
            f"torch {torch.__version__}; update it, or train without --shard"
        )


def shard(network: nn.Module, device: torch.device) -> None:
    """Leaves each process with its part of the parameters of a network, in place. All have the same network before.

    It is one unit, whose parameters come together for each step: modalities go through parts of it several times, which
    as units of their own would meet those of other processes out of turn.

    device: the network's
    Raises UserError for a parameter without dimensions, which cannot be cut.
    """
    from torch.distributed.device_mesh import init_device_mesh

    for name, param in network.named_parameters():
        if param.ndim == 0:
            raise UserError(
                f"--shard: got a network whose parameter {name} is a single number without dimensions, which cannot be "
                "cut into parts; expected one of shape [1] in its place, or train without --shard"
            )
    for param in network.parameters():  # fully_shard takes no channels-last layout, whose values stay the same
        param.data = param.data.contiguous()
    with waited_for("the parts of the network"):
        fsdp.fully_shard(network, mesh=init_device_mesh(device.type, (processes(),)))


@contextmanager
def gathered(network: object) -> Iterator[None]:
    """Opens a context in which each process has all parameters of what `shard` was called on; of others, nothing."""
    if not isinstance(network, fsdp.FSDPModule):
        yield
        return
    with waited_for("the parameters of the network"):
        network.unshard()
    try:
        yield
    finally:
        network.reshard()


def whole(state: Any) -> Any:
    """Returns a state with whole tensors in the place of DTensors, on the CPU of the first process; others have None.

    All processes have to call it. The state, of dictionaries, is left as it is.
    """
    if is_dtensor(state):
        with waited_for("a part of the checkpoint"):
            tensor = state.full_tensor()
        return tensor.detach().cpu() if is_first() else None
    if not isinstance(state, dict):
        return state
    found = copy(state)  # of a network's, what torch has written on it too
    for name, value in state.items():
        found[name] = whole(value)
    return found


def pieces_of_network(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Returns whole weights as the network has them, with this process's pieces of those that are sharded there."""
    return {name: _piece(state[name], like) for name, like in network.state_dict().items()}


def pieces_of_optimizer(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Returns the whole state of an optimizer with this process's pieces of what is like a sharded parameter."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    of_each = {
        number: {name: _piece(value, params[number]) for name, value in of_one.items()}
        for number, of_one in state["state"].items()
    }
    return state | {"state": of_each}


def _piece(value: Any, like: "Tensor | DTensor") -> Any:
    if not is_dtensor(like) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    there = value.to(like.device)
    # each process has read the file: nothing is sent
    return distribute_tensor(there, like.device_mesh, like.placements, src_data_rank=None)
