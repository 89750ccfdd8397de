"""Builds of the package as tests need them: of a copy of the sources, in seconds, and installed elsewhere."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from gmd_kernels.native import compiled
from helpers.places import ROOT

# what git ignores, anywhere and at the top
NOT_SOURCES = (".git", ".venv", ".*cache", ".hypothesis", "__pycache__", "*.so", "build_info.json", "*.egg-info")
NOT_AT_THE_TOP = ("build", "dist", "runs", "data", "wheels", "built")
# A compiler that compiles nothing: what it links is the module that was built here by the true one. The flags of each
# call are a line of the file calls.txt beside it.
COMPILER = """#!{python}
import shutil, subprocess, sys
from pathlib import Path
arguments = sys.argv[1:]
if "-c" in arguments or "-shared" in arguments:
    with open(Path(__file__).with_name("calls.txt"), "a") as calls:
        print(*arguments, file=calls)
    out = Path(arguments[arguments.index("-o") + 1])
    if "-MF" in arguments:
        Path(arguments[arguments.index("-MF") + 1]).write_text(f"{{out}}:")
    shutil.copyfile({module!r}, out) if "-shared" in arguments else out.touch()
else:
    sys.exit(subprocess.run(["c++", *arguments]).returncode)
"""


def copy_sources(target: Path) -> Path:
    """Copies the source tree as it is in git, or in an unpacked archive of it, and returns where to."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        patterns = (*NOT_SOURCES, *NOT_AT_THE_TOP) if Path(folder) == ROOT else NOT_SOURCES
        return shutil.ignore_patterns(*patterns)(folder, names)

    return shutil.copytree(ROOT, target, ignore=left_out)


def quick_compiler(folder: Path) -> dict[str, str]:
    """Writes COMPILER into a folder, and returns the environment in which setup.py takes it for the C++ part alone."""
    script = folder / "compiler"
    script.write_text(COMPILER.format(python=sys.executable, module=getattr(compiled, "__file__", "")))
    script.chmod(0o755)
    return {"CXX": str(script), "GMD_NO_CUDA": "1"}


def build_wheel(source: Path, target: Path, **environment: str) -> Path:
    """Builds a wheel of a source tree, without the network, and returns its path."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", str(target), "."]
    done = run(*command, cwd=source, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = target.glob("*.whl")
    return wheel


def run(*command: str, cwd: Path = Path("/"), **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, env={**os.environ, **environment}, cwd=cwd, capture_output=True, text=True, check=False
    )


def python(site: Path, *arguments: str, cwd: Path = Path("/")) -> subprocess.CompletedProcess:
    """Runs Python with the packages of `site` in front; -S keeps this checkout's editable installation out.

    Python's own library comes before other packages: an old copy of argparse is among those that nnU-Net needs.
    """
    path = (str(site), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
    return run(sys.executable, "-S", *arguments, cwd=cwd, PYTHONPATH=os.pathsep.join(path))
