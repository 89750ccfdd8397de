"""How many threads torch's operators should take here, and how these wait for each other. It needs no torch.

Torch runs an operator on several threads by OpenMP, and they wait for each other many times in each operator. As torch
comes they wait spinning, for milliseconds: where another process is busy on the same processors, that keeps the very
thread from running that they wait for. OpenMP reads its environment once, when torch is loaded, so the commands of this
project call `choose` first. Plain imports change nothing: how a program waits is for the program to choose. None of it
changes a result but the number of threads, by rounding, which is why that never depends on who else is there.
"""

import math
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

COUNT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")  # by any of these a user chooses how many threads
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # and by these how they wait
# Among idle processors: turns of libgomp's loop, some tenths of a millisecond, and milliseconds of libiomp; longer than
# from one operator to the next. Among busy ones every turn is lost. `python -m bench.contention` measures both.
SHORT_SPIN = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
SLEEP = {"OMP_WAIT_POLICY": "passive"}
LOOK = 0.1  # seconds of looking at what others do: ten ticks of Linux's counters

# a line of /proc/self/mountinfo: the root of the mount, where it is mounted, the file system, and its options
_MOUNT = r"^\S+ \S+ \S+ (\S+) (\S+) .*- (cgroup2?) \S+ (\S+)$"

_NUMBER = re.compile(r"\s*([1-9]\d{0,8})\s*(,|$)")  # of threads, as OpenMP takes it: one for each depth of nesting

chosen: dict[str, str] = {}  # the variables that `choose` has set in this process


class Quota(NamedTuple):
    """The processor time that a control group may take, as those of containers: in CPUs, and the file that says so."""

    cpus: float
    file: str


class Machine(NamedTuple):
    """What this process may use of the machine.

    Attributes:
        total: CPUs, as the system counts them, in the whole machine.
        allowed: those among them that this process may run on, by its affinity.
        cores: physical cores of these; two CPUs of one core share its arithmetic, and torch takes one thread for both.
        quota: of the control groups, or None if they limit nothing.
    """

    total: int
    allowed: int
    cores: int
    quota: Quota | None

    @property
    def cpus(self) -> int:
        """The number of CPUs that can be kept busy at once."""
        return self._within_quota(self.allowed)

    @property
    def threads(self) -> int:
        """The number of threads that torch should take."""
        return self._within_quota(self.cores)

    def _within_quota(self, number: int) -> int:
        """Returns at most the quota, rounded up: of 1.5 CPUs one thread would waste a third, and two use all."""
        return number if self.quota is None else min(number, math.ceil(self.quota.cpus))


def choose() -> None:
    """Sets what OpenMP reads, unless the user has set it, or torch is loaded already and it is too late."""
    if "torch" not in sys.modules:
        here = machine()
        needed = _wanted(here, os.environ) > 1 and not _given(WAITING, os.environ)
        chosen.update(settings(here, os.environ, busy_cpus() if needed else 0))
        os.environ.update(chosen)


def settings(machine: Machine, environment: Mapping[str, str], busy: int) -> dict[str, str]:
    """Returns the variables to set. What the user has chosen, in any of the variables for it, is left as it is.

    Torch itself takes a thread for each core that the affinity allows. Of quotas it knows nothing, so a quota is what
    the number is set for.

    busy: of the allowed CPUs, how many others keep busy
    """
    found: dict[str, str] = {}
    if machine.threads < machine.cores and not _given(COUNT, environment):
        found["OMP_NUM_THREADS"] = str(machine.threads)
    if not _given(WAITING, environment):
        crowded = _wanted(machine, environment) + busy > machine.allowed
        found |= SLEEP if crowded else SHORT_SPIN
    return found


def _wanted(machine: Machine, environment: Mapping[str, str]) -> int:
    """Returns how many threads there will be: what the user says, if OpenMP takes it, else what the machine allows."""
    given = _NUMBER.match(environment.get("OMP_NUM_THREADS", ""))
    return int(given[1]) if given else machine.threads


def about_count(threads: int, machine: Machine, environment: Mapping[str, str]) -> str:
    """Returns a sentence on the number of threads that torch takes, and why it is that many."""
    allowed = f"affinity allows {machine.allowed} of {machine.total} CPUs ({_plural(machine.cores, 'core')})"
    quota = "no quota" if machine.quota is None else f"the quota is {machine.quota.cpus:g} CPUs ({machine.quota.file})"
    sentence = f"{_plural(threads, 'thread')}: {allowed}, {quota}"
    given = {name: value for name, value in _given(COUNT, environment).items() if name not in chosen}
    if given:
        sentence += f", and your environment says {assignments(given)}"
    if threads > machine.cpus:
        sentence += f". More than {machine.cpus} hold each other up: set OMP_NUM_THREADS to that or less"
    return sentence


def about_waiting(threads: int, environment: Mapping[str, str]) -> str:
    """Returns a sentence on how torch's threads wait for each other, and who has chosen that."""
    if threads == 1:
        return "one thread waits for no other"
    given = _given(WAITING, environment)
    if not given:
        return "they spin while they wait, as OpenMP comes: very slow beside a busy process"
    who = "chosen by gmd" if given.keys() <= chosen.keys() else "of your environment"
    return f"they wait as {assignments(given)} says, {who}"


def advice(machine: Machine, busy: int) -> str:
    """Returns the line for a shell that gives a program of the user's own the same settings."""
    return f"export {assignments(settings(machine, {}, busy))}"


def machine(root: Path = Path("/")) -> Machine:
    """Returns what this process may use. root: of the file system, where Linux tells about its control groups."""
    total = os.cpu_count() or 1
    if not hasattr(os, "sched_getaffinity"):  # neither affinity nor control groups: not Linux
        return Machine(total, total, total, None)
    allowed = os.sched_getaffinity(0)
    siblings = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {_text(root / siblings.format(cpu)) or f"cpu{cpu}" for cpu in allowed}
    return Machine(max(total, len(allowed)), len(allowed), len(cores), quota(root))


def busy_cpus(root: Path = Path("/"), seconds: float = LOOK) -> int:
    """Returns how many of the CPUs that this process may use others keep busy, more or less, while it sleeps a moment.

    A CPU counts if it is busy half of the time: of many CPUs each has something to do now and then.
    """
    before = _ticks(root)
    time.sleep(seconds)
    after = _ticks(root)
    passed = [(after[cpu][0] - ticks, after[cpu][1] - idle) for cpu, (ticks, idle) in before.items() if cpu in after]
    return sum(ticks > 0 and idle <= ticks / 2 for ticks, idle in passed)


def _ticks(root: Path) -> dict[int, tuple[int, int]]:
    """Returns, of each CPU that this process may use, the ticks that Linux has counted, and how many of them idle."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    found = {}
    for cpu, numbers in re.findall(r"^cpu(\d+)((?: \d+){8})", _text(root / "proc/stat"), re.MULTILINE):
        if int(cpu) in allowed:
            ticks = [int(number) for number in numbers.split()]  # the fourth and fifth are idle, and waiting for a disk
            found[int(cpu)] = sum(ticks), ticks[3] + ticks[4]
    return found


def quota(root: Path = Path("/")) -> Quota | None:
    """Returns the smallest quota of this process's control groups, and of all groups around them; None without one."""
    found = (_quota_of(folder, root) for start, top in _groups(root) for folder in _upwards(start, top))
    return min((quota for quota in found if quota is not None), default=None)


def _groups(root: Path) -> Iterator[tuple[Path, Path]]:
    """Yields the folder of each control group that this process is in for its CPU time, and where its tree is mounted.

    Linux has two versions of them, often side by side. What a container sees of a tree may begin at its own group; its
    path from outside is then the `origin` of the mount.
    """
    own = {}
    for controllers, path in re.findall(r"^\d+:([^:]*):(.*)$", _text(root / "proc/self/cgroup"), re.MULTILINE):
        if controllers == "" or "cpu" in controllers.split(","):
            own["cgroup" if controllers else "cgroup2"] = path
    mounts = re.findall(_MOUNT, _text(root / "proc/self/mountinfo"), re.MULTILINE)
    for origin, point, version, options in mounts:
        if version not in own or (version == "cgroup" and "cpu" not in options.split(",")):
            continue
        path, origin = PurePosixPath(own[version]), _unescaped(origin)
        top = root / _unescaped(point).lstrip("/")
        seen = path.is_relative_to(origin) and ".." not in path.parts
        yield top / path.relative_to(origin) if seen else top, top


def _upwards(folder: Path, top: Path) -> Iterator[Path]:
    """Yields a folder and those around it, up to `top`."""
    yield from (around for around in (folder, *folder.parents) if around.is_relative_to(top))


def _quota_of(folder: Path, root: Path) -> Quota | None:
    """Returns the quota of one control group, of either version; None if it has none."""
    for file, text in (
        (folder / "cpu.max", _text(folder / "cpu.max")),
        (folder / "cpu.cfs_quota_us", f"{_text(folder / 'cpu.cfs_quota_us')} {_text(folder / 'cpu.cfs_period_us')}"),
    ):
        microseconds = re.fullmatch(r"\s*([1-9]\d*)\s+([1-9]\d*)\s*", text)  # no quota is "max", or -1
        if microseconds is not None:
            return Quota(int(microseconds[1]) / int(microseconds[2]), f"/{file.relative_to(root)}")
    return None


def _text(path: Path) -> str:
    """Returns what a file of the system says, or nothing where there is none, or where a sandbox hides it."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _unescaped(field: str) -> str:
    r"""Returns a path as it is: a blank in it is \040 in /proc/self/mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


def _given(names: tuple[str, ...], environment: Mapping[str, str]) -> dict[str, str]:
    """Returns those of the variables that have a value. OMP_NUM_THREADS=0 is none, nor is any that OpenMP ignores."""
    found = {name: environment[name] for name in names if environment.get(name)}
    if not _NUMBER.match(found.get("OMP_NUM_THREADS", "")):
        found.pop("OMP_NUM_THREADS", None)
    return found


def assignments(variables: Mapping[str, str]) -> str:
    """Returns variables as a shell takes them."""
    return " ".join(f"{name}={value}" for name, value in variables.items())


def _plural(number: int, thing: str) -> str:
    """Returns a number and what it counts."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
