"""What is in this machine: the card as it was found, the compiler, the packages."""

import platform
import shutil
import subprocess
import sys
from importlib import metadata

CARD = "name,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit,compute_mode"
PACKAGES = (
    *("torch", "triton", "torchjd", "numpy", "pandas", "matplotlib", "setuptools", "ninja", "pybind11"),
    *("pytest", "pytest-xdist", "pytest-timeout", "hypothesis"),
)
COMMANDS = (
    ["nvidia-smi", f"--query-gpu={CARD}", "--format=csv"],
    ["nvcc", "--version"],
    ["ncu", "--version"],
    ["compute-sanitizer", "--version"],
)


def main() -> None:
    print(f"Python {platform.python_version()} at {sys.executable}, {platform.machine()}, Linux {platform.release()}")
    for name in PACKAGES:
        print(f"{name} {_version(name)}")
    for command in COMMANDS:
        print(f"$ {' '.join(command)}", flush=True)
        if shutil.which(command[0]) is None:
            print(f"{command[0]} is not on the PATH")
        else:
            subprocess.run(command, check=False)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "is not installed"


if __name__ == "__main__":
    main()
