"""Reads files that nobody wrote, in a process whose memory and time are limited: `-m helpers.read_pickles`.

Arguments: the function of `pickle_programs` or `file_programs` that makes them, the first seed, the seed behind the
last, and a folder. FOLDER/told.txt gets a line for each: its seed, and how reading ended.
"""

import resource
import signal
import sys
import time
import traceback
from pathlib import Path

from gmd.data.sequences.sequence_files import read_sequences
from gmd.errors import UserError
from helpers import file_programs, pickle_programs

SECONDS = 2.0  # of a processor, for one file of some kB: a thousand times what most take
MEMORY = 400_000_000  # bytes that all of a batch may take beyond what the process has


def outcome(path: Path, content: bytes) -> str:
    """How reading ends: "data", "refused", or what must not happen."""
    path.write_bytes(content)
    start = time.process_time()
    try:
        read_sequences(path)
        ended = "data"
    except UserError as error:
        # no file of this size has a reason to ask for so much
        ended = "out of memory" if "MemoryError" in str(error) else "refused"
    except Exception:
        ended = traceback.format_exc(limit=-4)
    took = time.process_time() - start
    return ended if took < SECONDS else f"{took:.1f} s"


def limit(files: int) -> None:
    """Limits the memory and the time of this process, whose end is death without a word."""
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + 10 + files // 20, used + 20 + files // 20))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)


def main(name: str, first: str, end: str, folder: str) -> None:
    make = getattr(file_programs, name, None) or getattr(pickle_programs, name)
    seeds = range(int(first), int(end))
    limit(len(seeds))
    for seed in seeds:
        with Path(folder, "told.txt").open("a") as file:
            file.write(f"{seed}: ")
            file.flush()
            ended = outcome(Path(folder, "data.pkl"), make(seed))
            file.write(ended.replace("\n", " | ") + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
