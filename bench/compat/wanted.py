"""What is to be tried: each minor version of torch, with the Pythons and both generations of numpy spread over them."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
OLDEST_TORCH = (2, 8)
OLD_NUMPY, NEW_NUMPY = "1.26.*", ">=2"
LAST_OF_OLD_NUMPY = "3.12"  # it has no wheels for later Pythons


class Wanted(NamedTuple):
    """One environment: of a Python ("3.12"), a torch ("2.9") and the versions of numpy that are allowed ("1.26.*")."""

    python: str
    torch: str
    numpy: str

    @property
    def name(self) -> str:
        return f"Python {self.python}, torch {self.torch}, numpy {self.numpy}"


def spread(torches: Sequence[str]) -> list[Wanted]:
    """Returns an environment for each torch: the older, the older its Python; every second one has the old numpy.

    torches: minor versions, oldest first: "2.8", "2.9"
    """
    last = max(1, len(torches) - 1)
    rows = []
    for place, torch in enumerate(torches):
        python = PYTHONS[round(place * (len(PYTHONS) - 1) / last)]
        old = place % 2 == 0 and PYTHONS.index(python) <= PYTHONS.index(LAST_OF_OLD_NUMPY)
        rows.append(Wanted(python, torch, OLD_NUMPY if old else NEW_NUMPY))
    return rows


def torches() -> list[str]:
    """Returns the minor versions of torch from OLDEST_TORCH to the newest that pip's indexes have, oldest first."""
    command = [sys.executable, "-m", "pip", "index", "versions", "torch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^Available versions: (.+)$", done.stdout, re.MULTILINE)
    return [] if found is None else minors(found[1].split(", "))


def minors(versions: Sequence[str]) -> list[str]:
    """Returns the minor versions among full ones, from OLDEST_TORCH on, oldest first; no release candidates."""
    numbers = {tuple(map(int, version.split(".")[:2])) for version in versions if re.fullmatch(r"[\d.]+", version)}
    return [f"{major}.{minor}" for major, minor in sorted(numbers) if (major, minor) >= OLDEST_TORCH]


def interpreter(python: str) -> Path | None:
    """Returns a Python of that minor version: on the PATH, or one that pyenv or uv has; None if there is none."""
    for found in (shutil.which(f"python{python}"), *_of_pyenv(python), _of_uv(python)):
        if found and _is(Path(found), python):
            return Path(found)
    return None


def _of_pyenv(python: str) -> list[Path]:
    folders = (Path.home() / ".pyenv" / "versions").glob(f"{python}.*/bin/python")
    return sorted(folders, key=lambda path: path.parts[-3])[::-1]


def _of_uv(python: str) -> str | None:
    if shutil.which("uv") is None:
        return None
    done = subprocess.run(["uv", "python", "find", "--offline", python], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _is(path: Path, python: str) -> bool:
    """Whether a program runs and is that Python: pyenv has stand-ins of that name that refuse."""
    tell = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-c", tell], capture_output=True, text=True, check=False)
    return done.stdout.strip() == python
