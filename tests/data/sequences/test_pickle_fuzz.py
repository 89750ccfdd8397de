"""Whatever bytes a pickle consists of: data or a UserError, soon, and with memory in proportion to its size."""

import collections
import os
import resource
import signal
import time
import traceback
from pathlib import Path

import pytest

from gmd.data.sequences.sequence_files import read_sequences
from gmd.errors import UserError
from helpers.pickle_programs import changed, program

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


def batch(make, seeds: range, folder: Path) -> collections.Counter:
    """Reads a file of each seed in a process of its own, whose memory and time are limited; returns how it ended.

    seeds: the first that ends otherwise than in data or a refusal ends the batch
    """
    told = folder / "told.txt"
    if not (child := os.fork()):
        try:
            _limit(len(seeds))
            for seed in seeds:
                with told.open("a") as file:
                    file.write(f"{seed}: ")
                    file.flush()
                    ended = outcome(folder / "data.pkl", make(seed))
                    file.write(ended.replace("\n", " | ") + "\n")
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    lines = told.read_text().splitlines()
    told.unlink()
    ends = collections.Counter(line.partition(": ")[2] for line in lines)
    wrong = [line for line in lines if line.partition(": ")[2] not in ("data", "refused")]
    assert not wrong, f"{make.__name__} of seed {wrong[0] or '?'} (ended by signal {status})"
    assert len(lines) == len(seeds)
    return ends


def _limit(files: int) -> None:
    """Limits the memory and the time of this process, whose end is death without a word."""
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (10 + files // 20, 20 + files // 20))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)


@pytest.mark.parametrize("make", [program, changed])
def test_a_sample_of_pickles_that_nobody_wrote(make, tmp_path):
    ends = batch(make, range(150), tmp_path)
    assert ends["refused"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("make", [program, changed])
@pytest.mark.parametrize("part", range(4))
def test_many_pickles_that_nobody_wrote(make, part, tmp_path):
    batch(make, range(1000 * (part + 1), 1000 * (part + 1) + 600), tmp_path)
