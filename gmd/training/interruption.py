"""Ctrl-C, and the SIGTERM of a cluster's scheduler, at a moment at which what was computed can be saved."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTICE = b"\nstopping; the running step is finished and saved first. Once more stops at once, without that\n"


class Interruption:
    """While the block runs, SIGINT and SIGTERM raise KeyboardInterrupt, but at the end of what is held only.

        with Interruption() as interruption:
            for batch in batches:
                with interruption.held():
                    step(batch)

    The second signal raises wherever it comes. Handlers are those from before after the block; in another thread than
    the main one, where Python allows none, and for a signal that is ignored (nohup), nothing is changed.

    Attributes:
        whole: no held block was left half-way, so what it does can be saved.
    """

    def __init__(self) -> None:
        self.whole = True
        self._wanted = False
        self._before = {}

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
        """A block that the first signal lets finish; `whole` stays False after an exception in it."""
        self.whole = False
        yield
        self.whole = True
        if self._wanted:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: object) -> None:
        first, self._wanted = not self._wanted, True
        if self.whole or not first:
            raise KeyboardInterrupt
        # not print: the signal may have come in the middle of one. A terminal that is gone must not keep us from saving
        with contextlib.suppress(OSError):
            os.write(2, NOTICE)
