"""What a card has too little memory for is left out, and said; the rest is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class Room:
    """Whether the memory was wanting."""

    wanting: bool = False


@contextmanager
def fits(what: str) -> Iterator[Room]:
    """Ends the block where the GPU's memory does not suffice, says for what, and goes on behind it."""
    room = Room()
    try:
        yield room
    except torch.OutOfMemoryError as error:
        room.wanting = True
        print(f"left out, for want of memory on the GPU: {what} ({str(error).splitlines()[0]})", flush=True)
    if room.wanting:
        torch.cuda.empty_cache()  # by now nothing of the block is alive
