"""Lets Ctrl-C, and the SIGTERM of a cluster's scheduler, take effect only when what was computed can be saved."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], object] | int | None  # as `signal.signal` returns it
NOTICE = b"\nstopping; the running step is finished and saved first. Once more stops at once, without that\n"


class Interruption:
    """Makes SIGINT and SIGTERM raise KeyboardInterrupt, but not before the end of a block that is held.

        with Interruption() as interruption:
            for batch in batches:
                with interruption.held():
                    step(batch)

    The second signal raises wherever it comes. With `alone=False` the first one raises nowhere: several processes have
    to agree on when to stop, and look at `wanted` for that; one of them `tells` that they will. After the outer block
    the handlers are those from before. In another thread than the main one, where Python allows no handlers, and for a
    signal that is ignored (nohup), all stays as it is.

    Attributes:
        whole: whether no held block was left half-way, so that what it does can be saved.
        wanted: whether a signal has come.
    """

    def __init__(self, alone: bool = True, tells: bool = True) -> None:
        self.whole = True
        self.wanted = False
        self._alone, self._tells = alone, tells
        self._before: dict[signal.Signals, Handler] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            ours = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
            self._before = {number: signal.signal(number, self._note) for number in ours}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the first signal back until the block has finished. `whole` stays False after an exception in it."""
        self.whole = False
        yield
        self.whole = True
        if self.wanted and self._alone:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: object) -> None:
        """Handles a signal: raises, or takes note of it until the held block has finished."""
        first, self.wanted = not self.wanted, True
        if (self.whole and self._alone) or not first:
            raise KeyboardInterrupt
        # not print: the signal may have come in the middle of one. A terminal that is gone must not keep us from saving
        with contextlib.suppress(OSError):
            if self._tells:
                os.write(2, NOTICE)
