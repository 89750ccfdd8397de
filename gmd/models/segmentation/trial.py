"""Whether a network can take a patch, and what it makes of it, tried on torch's meta device, which has no values."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


def output_of(network: nn.Module, patch: tuple[int, int, int], training: bool) -> tuple[Any, str | None]:
    """Returns what a network makes of one patch, and the name of its last layer if that is a plain convolution.

    The network itself is not called, and stays as it is. Where it asks for values, which the meta device has none of,
    a copy of it is run on zeros.

    network: for volumes [1, 1, X, Y, Z]; patch: X, Y and Z; training: in which mode it is called
    Raises whatever the network raises for such a patch.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            return _run(_on_meta(network), torch.zeros(1, 1, *patch, device="meta"), training)
        except Exception:  # what is wrong with it there need not be wrong elsewhere
            return _run(copy.deepcopy(network), torch.zeros(1, 1, *patch), training)


def _on_meta(network: nn.Module) -> nn.Module:
    """Returns a copy of the network whose tensors have shapes, but no values, and take no memory."""
    tensors = {*network.parameters(), *network.buffers()}
    return copy.deepcopy(network, {id(tensor): tensor.detach().to("meta") for tensor in tensors})


def _run(network: nn.Module, volumes: Tensor, training: bool) -> tuple[Any, str | None]:
    made: dict[str, Any] = {}

    def remember(name: str) -> Any:
        def hook(module: nn.Module, given: tuple, output: Any) -> None:
            made[name] = output

        return hook

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d) and name:
            module.register_forward_hook(remember(name))
    output = network.train(training)(volumes)
    last = [name for name, value in made.items() if value is output]
    return output, last[0] if last else None
