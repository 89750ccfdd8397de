"""One environment, from nothing: torch, the archive of the sources installed, `gmd doctor`, tests, commands."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.compat.torch_wheels import sources, what_came
from bench.compat.wanted import Wanted, interpreter

LONGEST = 1200.0  # seconds of one step
TESTS = (
    *("tests/kernels/test_kernels.py", "tests/kernels/test_kernel_types.py", "tests/kernels/test_library.py"),
    *("tests/kernels/test_compile.py", "tests/kernels/test_weightings.py", "tests/kernels/test_group_norm_relu.py"),
    *("tests/surgery/test_gmd.py", "tests/surgery/test_paths.py", "tests/surgery/test_every.py"),
    *("tests/surgery/test_scaling.py", "tests/surgery/test_by_sample.py", "tests/sharing/test_share.py"),
)
COMMANDS = (  # a volume's way and a sequence's, from data to tables
    "gmd phantom volumes --cases 6 --shape 24 24 24",
    "gmd train brats --data volumes --out brats --width 0.125 --patch 16 16 16 --epochs 1 --steps-per-epoch 1",
    "gmd evaluate brats",
    "gmd phantom sentiment.npz --task sentiment",
    "gmd train sentiment --data sentiment.npz --out sentiment --epochs 1",
    "gmd evaluate sentiment",
    "gmd compare sentiment sentiment",
)
KERNELS = "import gmd_kernels as gk; cpu = gk.backends()['cpu']; print(cpu.reason); assert cpu.available, cpu.reason"
NO_PYTHON, NO_TORCH = "no such Python here", "no build of torch for the CPU could be had"
PASSED, FAILED, NOT_TRIED = "passed", "failed", "not tried"


class StepFailed(Exception):
    """A step of a trial failed; the message says which and what it printed last."""


def trial(wanted: Wanted, archive: Path, folder: Path, any_build: bool, tell: Callable[[str], None]) -> dict:
    """Tries one environment, and returns its row: versions, what happened, seconds of each step.

    archive: of the sources; folder: of the environment, made anew; any_build: see `sources`
    tell: is called with what is done now
    """
    row: dict = {"python": wanted.python, "torch": wanted.torch, "numpy": wanted.numpy, "outcome": NOT_TRIED}
    found = interpreter(wanted.python)
    if found is None:
        return row | {"why": NO_PYTHON}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _step("venv", [found, "-m", "venv", folder / "env"], folder)
        source = sources(folder / "env" / "bin" / "python", wanted.torch, folder, any_build)
        if source is None:
            return row | {"why": NO_TORCH}
        row["source"] = source[0]
        _installed(row, wanted, source[1], archive, folder, tell)
        _used(row, archive, folder, tell)
    except StepFailed as failure:
        return row | {"outcome": FAILED, "why": str(failure)}
    except subprocess.CalledProcessError as failure:
        return row | {"outcome": FAILED, "why": f"import torch: {last_line(failure.stderr)}"}
    return row | {"outcome": PASSED}


def _installed(row: dict, wanted: Wanted, torch: list[str], archive: Path, folder: Path, tell: Callable) -> None:
    """Installs torch and then gmd from its archive, whose kernels are compiled against that torch."""
    python = folder / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q"]
    tell("torch")
    row["install_s"] = _step("installing torch", [*pip, *torch], folder)
    numpy = f"numpy{wanted.numpy if wanted.numpy.startswith('>') else '==' + wanted.numpy}"
    fixed = f"torch=={what_came(python, ['torch'])['torch']}"
    tell("packages and kernels")
    built = [numpy, fixed, "ninja", "pybind11", "setuptools>=77", "pytest", "hypothesis"]
    row["install_s"] += _step("installing what the build needs", [*pip, *built], folder)
    package = [numpy, fixed, "--no-build-isolation", f"gmd-surgery[train] @ file://{archive}"]
    row["build_s"] = _step("building and installing gmd", [*pip, *package], folder)
    row |= what_came(python)


def _used(row: dict, archive: Path, folder: Path, tell: Callable) -> None:
    """Runs `gmd doctor`, the tests of the archive and the commands, with what is installed."""
    programs = folder / "env" / "bin"
    shutil.unpack_archive(archive, folder / "unpacked", filter="data")
    [source] = (folder / "unpacked").iterdir()
    tell("gmd doctor")
    row["doctor_s"] = _step("gmd doctor", [programs / "gmd", "doctor"], folder, statuses=(0, 1))  # 1: no Triton
    _step("the C++ kernels", [programs / "python", "-c", KERNELS], folder)
    tell("tests")
    options = ("-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default")  # other versions warn of other things
    tests = [programs / "python", "-m", "pytest", *options, *TESTS]
    before = time.perf_counter()
    row["tests"] = counted(_output("tests", tests, folder, within=source))
    if not row["tests"]:
        raise StepFailed("tests: none passed, all were skipped")
    row["tests_s"] = time.perf_counter() - before
    tell("commands")
    row["commands_s"] = sum(_step(line, [programs / "gmd", *line.split()[1:]], folder) for line in COMMANDS)


def counted(printed: str) -> int:
    """Returns how many tests passed, from the last line that pytest printed."""
    found = re.search(r"(\d+) passed", printed.strip().splitlines()[-1])
    return int(found[1]) if found else 0


def _step(name: str, command: list, folder: Path, statuses: tuple[int, ...] = (0,)) -> float:
    """Runs a step, and returns the seconds that it took. Raises StepFailed."""
    before = time.perf_counter()
    _output(name, command, folder, statuses)
    return time.perf_counter() - before


def _output(
    name: str, command: list, folder: Path, statuses: tuple[int, ...] = (0,), within: Path | None = None
) -> str:
    """Runs a step, in the environment's folder or `within` another, and returns what it printed. Raises StepFailed.

    Python finds no checkout there, nor what lies in the folder where it is started: gmd is what was installed.
    """
    environment = {**os.environ, "GMD_NO_CUDA": "1", "PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"}
    environment |= {"PATH": f"{folder / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}", "MPLBACKEND": "agg"}
    environment.pop("PYTHONPATH", None)
    words = list(map(str, command))
    with (folder / "log.txt").open("a+", encoding="utf-8") as log:
        print(f"$ {' '.join(words)}", file=log, flush=True)
        begin = log.tell()
        try:
            status = subprocess.run(
                words, cwd=within or folder, env=environment, stdout=log, stderr=log, timeout=LONGEST, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            raise StepFailed(f"{name}: took longer than {LONGEST:.0f} s") from None
        log.seek(begin)
        printed = log.read()
    if status not in statuses:
        raise StepFailed(f"{name}: {last_line(printed)}")
    return printed


def last_line(printed: str) -> str:
    """Returns the last line that says something."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "nothing was printed"
