"""Where the programs of NVIDIA's toolkit lie, whose folders are often not on the PATH."""

import os
import shutil
from pathlib import Path

# Of several versions the newest comes first.
PLACES = ("/opt/nvidia/nsight-compute/*", "/usr/local/cuda*/bin", "/usr/local/cuda*/compute-sanitizer")


def find(name: str) -> str | None:
    """Returns the path of the program: the one on the PATH, else of $CUDA_HOME, else of the usual places."""
    home = os.environ.get("CUDA_HOME")
    folders = [Path(home, "bin")] if home else []
    for pattern in PLACES:
        folders += sorted(Path("/").glob(pattern.lstrip("/")), key=_version, reverse=True)
    path = os.pathsep.join(map(str, folders))
    return shutil.which(name) or (shutil.which(name, path=path) if path else None)


def _version(folder: Path) -> list[int]:
    """Returns the numbers in the path: they put 2025.10 behind 2025.9."""
    digits = "".join(letter if letter.isdigit() else " " for letter in str(folder))
    return [int(number) for number in digits.split()]
