"""Prints what is in this machine: the card as it was found, the compiler, the packages."""

import platform
import subprocess
import sys
from importlib import metadata

from gpu.tools import find

CARD = "name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit,compute_mode"
PACKAGES = (
    *("torch", "triton", "torchjd", "numpy", "pandas", "matplotlib", "setuptools", "ninja", "pybind11"),
    *("pytest", "pytest-xdist", "pytest-timeout", "hypothesis"),
)
COMMANDS = (
    ["nvidia-smi", f"--query-gpu={CARD}", "--format=csv"],
    ["nvcc", "--version"],
    ["c++", "--version"],
    ["ncu", "--version"],
    ["compute-sanitizer", "--version"],
)


def main() -> None:
    print(f"Python {platform.python_version()} at {sys.executable}, {platform.machine()}, Linux {platform.release()}")
    for name in PACKAGES:
        print(f"{name} {_version(name)}")
    for name, *arguments in COMMANDS:
        program = find(name)
        print(f"$ {' '.join([program or name, *arguments])}", flush=True)
        if program is None:
            print(f"{name} is neither on the PATH nor in one of its usual places")
        else:
            subprocess.run([program, *arguments], check=False)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "is not installed"


if __name__ == "__main__":
    main()
