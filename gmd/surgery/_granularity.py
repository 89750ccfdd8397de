"""Which parameters are operated on together: all of them, those of a module, or each by itself."""

from collections.abc import Sequence

import torch
from torch import nn

from gmd.surgery._optimizers import parameters_of

GRANULARITIES = ("model", "module", "tensor")


def module_names(optimizers: Sequence[torch.optim.Optimizer], model: nn.Module | None) -> dict[nn.Parameter, str]:
    """Returns the name of each parameter's module, from `model` or from the names that the optimizers were given."""
    if model is not None:
        named = list(model.named_parameters())
    else:
        # two optimizers may have been made from parts of a model, in each of which there is a "weight"
        named = [
            (f"{o}.{name}", param)
            for o, optimizer in enumerate(optimizers)
            for group in optimizer.param_groups
            for name, param in zip(group.get("param_names", ()), group["params"], strict=False)
        ]
    modules = {param: name.rpartition(".")[0] for name, param in named}
    for i, param in enumerate(parameters_of(optimizers)):
        if param not in modules and model is None:
            raise ValueError(
                "granularity='module': which modules there are is not known; give model=, or make the optimizer from "
                "model.named_parameters()"
            )
        if param not in modules:
            raise ValueError(
                f"granularity='module': parameter {i} of the optimizer, {list(param.shape)}, belongs to no module of "
                f"model ({type(model).__name__})"
            )
    return modules


def groups_of(params: list[nn.Parameter], granularity: str, modules: dict[nn.Parameter, str]) -> list[int] | None:
    """Returns the group of each parameter, 0..K-1; None for one group of all."""
    if granularity == "model":
        return None
    if granularity == "tensor":
        return list(range(len(params)))
    numbers: dict[str, int] = {}
    return [numbers.setdefault(modules[param], len(numbers)) for param in params]
