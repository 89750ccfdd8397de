"""Says who waited for what when a collective fails: torch's own message names a socket."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist


@contextmanager
def waiting(group: dist.ProcessGroup, what: str) -> Iterator[None]:
    """Opens a context for calls of torch.distributed.

    Raises:
        RuntimeError: another process did not take part in time, or has ended; the message names this process and
            `what` it waited for.
    """
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise  # of a backward pass with collectives in it, for another reason
        raise RuntimeError(
            f"process {dist.get_rank(group)} of {group.size()} waited for {what}, and another did not come: it failed "
            f"(look at its output), hangs, or takes another way through the program ({str(error).splitlines()[0]})"
        ) from error
