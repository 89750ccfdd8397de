"""Surgery inside the forward pass of a DistributedDataParallel, which is where Lightning runs a `training_step`.

A DistributedDataParallel begins to wait for gradients when its forward pass ends. A backward pass before that reaches
`.grad`, but nobody averages it, and the processes drift apart without a word. So the wrapper is told to wait now.
"""

from collections.abc import Iterable

import torch.distributed as dist
from torch import Tensor

from gmd.surgery._graph import STATIC


def expect_gradients(losses: Iterable[Tensor]) -> None:
    """Has a DistributedDataParallel in whose forward pass this runs, if any, average what comes to `.grad` next.

    losses: what the gradients are of; parameters that these do not reach are not waited for, if it was made so. Under
    its `no_sync()` nothing is averaged, as ever.

    Raises ValueError for a wrapper with a static graph.
    """
    if not dist.is_available() or not dist.is_initialized():
        return
    from torch.nn.parallel import DistributedDataParallel

    wrapper = DistributedDataParallel._get_active_ddp_module()
    if wrapper is None or not wrapper.require_backward_grad_sync:
        return
    if wrapper.static_graph:
        raise ValueError(STATIC)
    wrapper.reducer._rebuild_buckets()
    wrapper.reducer.prepare_for_backward(list(losses) if wrapper.find_unused_parameters else [])
