"""The check of the optimizer that a method is given."""

import torch

LBFGS = (
    "optimizer: LBFGS evaluates its closure several times in a step and searches along a line for a lower loss, but "
    "what a method leaves in .grad is in general no function's gradient: the search has no meaning. Take an optimizer "
    "that uses each gradient once, such as SGD or AdamW; or LBFGS without gmd, on torch.stack(losses).mean()"
)
SHARDED = (
    "optimizer: parameter {index} is sharded over processes (FSDP or DTensor), whose pieces torch.autograd.grad does "
    "not reach. Let each process hold the whole network: DistributedDataParallel works"
)


def check_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Returns the optimizer; raises a TypeError that says why no method here can work with it.

    Wrappers that have the parameters in `param_groups`, as LightningOptimizer, are optimizers too.
    """
    if not hasattr(optimizer, "param_groups"):
        raise TypeError(f"optimizer: expected a torch optimizer, got {type(optimizer).__name__}")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise TypeError(LBFGS)
    for index, param in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        # FSDP's first version marks its parameters so; the second makes DTensors of them
        if getattr(param, "_fsdp_flattened", False) or hasattr(param, "device_mesh"):
            raise TypeError(SHARDED.format(index=index))
    return optimizer
