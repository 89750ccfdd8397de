"""How much memory there is, and how much of it a single file may ask for: its claims are believed only up to that."""

import math
import os
import resource
from functools import cache
from pathlib import Path

from gmd.errors import UserError

VARIABLE = "GMD_MAX_GB"  # 10^9 bytes


def most_bytes() -> int:
    """Returns how many bytes a single file may take in memory: half of this machine's, or what GMD_MAX_GB says.

    Raises UserError if GMD_MAX_GB is no number above 0.
    """
    given = os.environ.get(VARIABLE, "")
    if not given:
        return memory_of_machine() // 2
    try:
        limit = float(given)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise UserError(f"{VARIABLE}: got {given!r}, expected the most that a file may take in memory, in GB, as in 16")
    return int(limit * 1e9)


def check_claim(path: Path, claimed: int, what: str) -> None:
    """Raises UserError if a file claims to hold more than `most_bytes`. To be called before room is made for it.

    claimed: bytes in memory; what: that takes them, as in "a volume of 32767 x 32767 x 32767 voxels"
    """
    most = most_bytes()
    if claimed > most:
        raise UserError(
            f"{path}: {what} would take {claimed / 1e9:.3g} GB of memory, of which a file may take {most / 1e9:.3g}; "
            f"is it damaged? If it is right, set {VARIABLE}={math.ceil(claimed / 1e9)} in the environment"
        )


def memory_of_machine() -> int:
    """Returns the bytes of memory of this machine, or of the limit that `ulimit -v` or a control group has set."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    of_process, _ = resource.getrlimit(resource.RLIMIT_AS)
    own = [of_process] if of_process != resource.RLIM_INFINITY else []
    return min([machine, *own, *_of_control_groups()])


@cache  # it is asked for every file, and these limits hardly change while a process runs
def _of_control_groups() -> list[int]:
    """Returns the limits in bytes that control groups have set for this process, as those of containers."""
    limits = []
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        file = Path("/sys/fs/cgroup") / name
        text = file.read_text(encoding="ascii").strip() if file.exists() else "max"
        limits += [int(text)] if text.isdigit() else []
    return limits
