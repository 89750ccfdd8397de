"""Which samples of a batch are whose, where several processes train together."""

from typing import NamedTuple, TypeVar

Item = TypeVar("Item")


class Share(NamedTuple):
    """The part of every batch that one process takes: neighbours, and as many as any other, or one more or less.

    Nothing is in two parts, and nothing is filled in: of a batch with fewer samples than processes the last processes
    have an empty part.

    Attributes:
        rank: the process, from 0 on.
        processes: how many there are.
    """

    rank: int = 0
    processes: int = 1

    def of(self, batch: list[Item]) -> list[Item]:
        """Returns the process's part of a batch."""
        each, more = divmod(len(batch), self.processes)
        start = self.rank * each + min(self.rank, more)
        return batch[start : start + each + (self.rank < more)]


ALL = Share()
