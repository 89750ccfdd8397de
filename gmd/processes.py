"""Which process wrote something, and whether it still runs: for locks, and for files that a killed process has left."""

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

_PROC = Path("/proc")
_MACHINE = Path("/etc/machine-id")


@dataclass(frozen=True)
class Process:
    """A process, told apart from any that had its number before or has it elsewhere.

    Attributes:
        host: the name of its machine.
        space: the start of the system, the container that its number counts in, and the machine's id; "" where none is
            known.
        pid: its number there.
        start: when it began, in ticks since the start of the system, as Linux counts; 0 where that is not known.
    """

    host: str
    space: str
    pid: int
    start: int

    @classmethod
    def this(cls) -> "Process":
        """Returns the process that runs this."""
        pid = os.getpid()
        return cls(socket.gethostname(), _space(), pid, _start(pid))

    @classmethod
    def from_dict(cls, values: object) -> "Process | None":
        """Returns the process that `to_dict` described; None if the values describe none."""
        expected = {"host": str, "space": str, "pid": int, "start": int}
        if not isinstance(values, dict) or values.keys() < expected.keys():
            return None
        found = {key: values[key] for key in expected}
        if any(type(found[key]) is not kind for key, kind in expected.items()):
            return None
        if not (0 < found["pid"] < 2**31 and 0 <= found["start"] < 2**63):
            return None
        return cls(**found)

    def to_dict(self) -> dict[str, str | int]:
        """Returns what makes the process out, as JSON has it."""
        return asdict(self)

    def runs(self) -> bool | None:
        """Returns whether the process still runs; None if that cannot be told from here: on another machine, say."""
        if self.host != socket.gethostname():
            return None
        boot, container, machine = _parts(self.space)
        our_boot, our_container, our_machine = _parts(_space())
        if machine != our_machine:
            return None  # of the same name, as every machine that is called localhost
        if boot != our_boot:
            return False  # the system was started anew
        if container != our_container:
            return None
        return _start(self.pid) == self.start if self.start else _is_there(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _space() -> str:
    """Returns the ids of this start of the system, of the container which numbers processes, and of the machine.

    Linux has the first two; the third is not everywhere, in containers least of all.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        container = os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return ""
    try:
        machine = _MACHINE.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    return f"{boot} {container} {machine}".strip()


def _parts(space: str) -> tuple[str, str, str]:
    boot, _, rest = space.partition(" ")
    container, _, machine = rest.partition(" ")
    return boot, container, machine


def _start(pid: int) -> int:
    """Returns when a process began, in ticks; 0 if there is none, or one that has ended, or the system does not say."""
    try:
        # the name of the program, which may hold anything, stands in parentheses before the numbers
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])  # a zombie, whose parent has not asked for its end yet


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
