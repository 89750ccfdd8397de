"""Surgery inside the forward pass of a DistributedDataParallel, as in Lightning: it averages what is merged there.

In the place of the average a hook on its communication halves what comes.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gmd
from gmd.surgery.mean import MeanGradient
from helpers.multimodal_cases import Multimodal, batches, grads_of, losses_of, surgeon_of

[BATCH] = batches(1)
METHODS = {
    "merged": surgeon_of,
    "one pass": MeanGradient,
    "another method": lambda optimizer: gmd.Scalarised(optimizer, "gls"),
}


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def halved(state: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    future = torch.futures.Future()
    future.set_result(bucket.buffer() / 2)
    return future


class StepInside(nn.Module):
    """Its forward pass is a whole step of training, of these losses of all. As in Lightning, nothing waits then."""

    wrapper: DistributedDataParallel

    def __init__(self, make: Callable, chosen: slice):
        super().__init__()
        self.model = Multimodal()
        self.surgeon = make(torch.optim.SGD(self.model.parameters(), lr=0.1))
        self.chosen = chosen

    def forward(self, x: dict, target: torch.Tensor) -> torch.Tensor:
        losses = losses_of(self.model(x), target)[self.chosen]
        self.surgeon.backward(losses)
        self.wrapper.require_backward_grad_sync = False
        return losses[0].detach()


def grads_inside(make: Callable, chosen: slice, no_sync: bool = False, **options) -> list[list[torch.Tensor | None]]:
    """.grad after each of two steps in the forward pass of a DistributedDataParallel with options."""
    step = StepInside(make, chosen)
    wrapper = DistributedDataParallel(step, **options)
    wrapper.register_comm_hook(None, halved)
    object.__setattr__(step, "wrapper", wrapper)  # no child of it
    found = []
    for _ in range(2):
        step.zero_grad()
        step.surgeon = make(torch.optim.SGD(step.model.parameters(), lr=0.1))  # with the same random order again
        wrapper.require_backward_grad_sync = True
        with wrapper.no_sync() if no_sync else nullcontext():
            wrapper(*BATCH)
        found.append([None if grad is None else grad.clone() for grad in grads_of(step.model)])
    return found


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("unused", [False, True], ids=["all reached", "some not reached"])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_merged_is_averaged_at_every_step(method, unused):
    make = METHODS[method]
    chosen = (
        slice(0, 2) if unused else slice(None)
    )  # of the first two losses each needs another modality, none the third
    model = Multimodal()
    make(torch.optim.SGD(model.parameters(), lr=0.1)).backward(losses_of(model(BATCH[0]), BATCH[1])[chosen])
    assert any(grad is None for grad in grads_of(model)) is unused
    for got in grads_inside(make, chosen, find_unused_parameters=unused):
        for grad, alone in zip(got, grads_of(model), strict=True):
            if alone is None:
                assert grad is None or not grad.any()
            else:
                torch.testing.assert_close(grad, alone / 2)


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_averaged_under_no_sync(method):
    make = METHODS[method]
    model = Multimodal()
    make(torch.optim.SGD(model.parameters(), lr=0.1)).backward(losses_of(model(BATCH[0]), BATCH[1]))
    for got in grads_inside(make, slice(None), no_sync=True):
        for grad, alone in zip(got, grads_of(model), strict=True):
            torch.testing.assert_close(grad, alone)


@pytest.mark.usefixtures("group")
def test_a_static_graph_is_refused_there_too():
    with pytest.raises(ValueError, match="static_graph=True, which would not average"):
        grads_inside(surgeon_of, slice(None), static_graph=True)
