"""Copies what the stages print to the screen and, line by line, into a file, kept if the machine is taken away."""

import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

MOST_LOGGED = 2**20  # bytes of each stage: the log has to fit into what comes back
MOST_AT_THE_END = 500  # lines of a longer one, for its end is where it says what has failed


class Log:
    """Copies what is printed to a file, behind what that file holds already."""

    def __init__(self, path: Path):
        self._file: BinaryIO = path.open("ab")

    def close(self) -> None:
        self._file.close()

    def write(self, text: str) -> None:
        self._put(text.encode() + b"\n", logged=True)

    def copy(self, stream: BinaryIO, heed: Callable[[str], object]) -> None:
        """Copies all of the stream to the screen; of much, only the beginning and the end go to the file.

        Each line is shown to `heed` as well.
        """
        left = MOST_LOGGED
        end: deque[bytes] = deque(maxlen=MOST_AT_THE_END)
        with stream:
            for line in stream:
                self._put(line, logged=left > 0)
                heed(line.decode(errors="replace"))
                if left <= 0:
                    end.append(line)
                left -= len(line)
        if end:
            self._file.write(b"... what was printed here is not logged ...\n" + b"".join(end))
            self._file.flush()

    def _put(self, line: bytes, logged: bool) -> None:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        if logged:
            self._file.write(line)
            self._file.flush()  # what is there counts, should the machine be taken away
