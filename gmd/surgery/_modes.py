"""The modes of torch that a backward pass works in, whatever those of its caller are."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def ordinary_modes() -> Iterator[None]:
    """Opens a context, also as a decorator, with gradients enabled, outside inference mode and outside autocast.

    So the result is the same inside torch.no_grad(), in an optimizer's `step` say, as outside. Backward passes and
    surgery have the precision of what the forward pass left, as torch advises: autocast is for forward passes.
    """
    accelerator = torch.accelerator.current_accelerator()
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {"cpu"} | ({accelerator.type} if accelerator is not None else set()):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
