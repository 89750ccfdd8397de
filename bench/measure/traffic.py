"""What travels between processes: the collectives that are called, and the bytes that each process sends for them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# how often the bytes of the larger side leave each of R processes by a ring, in units of (R - 1) / R
ROUNDS = {"reduce_scatter": 1, "alltoall": 1, "allgather": 1, "allreduce": 2, "broadcast": 1}
BIG = 4096  # bytes; what is smaller counts as small


class Traffic(TorchDispatchMode):
    """Counts torch.distributed's collectives while it is open, by the tensors that are handed to them.

    size: R, of the group

    Attributes:
        big, small: name of a collective -> how many were called, of more or less than BIG bytes.
        sent: bytes that each process sends by ring algorithms.
    """

    def __init__(self, size: int):
        super().__init__()
        self._size = size
        self.big: Counter[str] = Counter()
        self.small: Counter[str] = Counter()
        self.sent = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.namespace == "c10d":
            self._count(func.name().split("::")[1], args)
        return func(*args, **(kwargs or {}))

    def _count(self, called: str, args: Sequence[Any]) -> None:
        name = next((name for name in ROUNDS if name in called.replace("_reduce", "reduce", 1)), None)
        if name is None:
            return
        size = max(_bytes(arg) for arg in args)
        (self.big if size > BIG else self.small)[name] += 1
        self.sent += ROUNDS[name] * size * (self._size - 1) / self._size


def _bytes(arg: object) -> int:
    """Returns the bytes of a tensor, or of all in a list."""
    if isinstance(arg, Tensor):
        return arg.nbytes
    return sum(map(_bytes, arg)) if isinstance(arg, list | tuple) else 0
