"""Which stages there are, in which order, and how long each may take: what is most valuable comes first.

Part 1 tells whether the kernels work and how fast they are, part 2 everything else. They are meant for two calls of a
machine that is lent for minutes: what the first one shows can be mended before the second.
"""

import sys
from importlib import util
from pathlib import Path

from gpu.places import ROOT, SITE, WHEELS
from gpu.stages import Stage

SECONDS = {1: 270, 2: 450}  # that each part takes at most
PROBING = 8  # of them are kept for looking for a GPU, before the first stage
WORKERS = 8  # processes that share the tests, and the GPU: Triton compiles on the CPU
EVERY = "every_kernel"
# What torch and Python say of their own future and ends, of a card or a driver that nobody has seen yet, is no failure:
# but that a call went through another backend is. The last that fits a warning counts.
WARNINGS = (
    *(f"ignore::{kind}" for kind in ("DeprecationWarning", "FutureWarning", "ResourceWarning")),
    *("default::UserWarning", "error::gmd_kernels.FallbackWarning"),
)


def seconds(part: int | None) -> int:
    """Returns how long that part takes at most; both, for None."""
    return sum(SECONDS.values()) if part is None else SECONDS[part]


def stages(folder: Path, part: int | None) -> list[Stage]:
    """Returns the stages of part 1 or 2, or of both (None) one after the other. Their results go into `folder`."""
    parts = {1: first, 2: second}
    chosen = parts.values() if part is None else [parts[part]]
    return [*beginning(folder), *(stage for stages_of in chosen for stage in stages_of(folder)), *without_build(folder)]


def beginning(folder: Path) -> list[Stage]:
    """Returns what every part begins with. Where a kernel is wrong or hangs, nothing that measures kernels is begun."""
    wheels = sorted(WHEELS.glob("*.whl"))
    install = _python("-m", "pip", "install", "--no-index", "--no-deps", "--upgrade", "--target", SITE, *wheels)
    return [
        Stage("environment", 6, _python("-m", "gpu.environment"), most=20),
        *([Stage("wheels", 5, install, most=30)] if wheels else []),
        Stage("build", 94, _python("-m", "gpu.build", folder), most=150),
        Stage(EVERY, 20, _python("-m", "gpu.every_kernel"), most=40, needs="build"),
    ]


def first(folder: Path) -> list[Stage]:
    """Returns the rest of part 1: how fast the CUDA kernels are, what limits them, and whether they are right."""
    table = folder / "ncu.csv"
    return [
        Stage("ours", 28, _python("-m", "bench.gpu.surgery", folder, "--who", "ours"), most=50, needs=EVERY),
        Stage("ncu", 28, _python("-m", "gpu.nvidia_tools", "ncu", table), most=60, needs=EVERY),
        Stage("cuda_tests", 30, tests("cuda", longest=25), most=75, needs=EVERY),
        Stage("racecheck_few", 12, _python("-m", "gpu.nvidia_tools", "racecheck", "--few"), most=40, needs=EVERY),
        Stage("memcheck_few", 12, _python("-m", "gpu.nvidia_tools", "memcheck", "--few"), most=40, needs=EVERY),
    ]


def second(folder: Path) -> list[Stage]:
    """Returns the rest of part 2: all cases, all others beside ours, the other tests, step and norm, checks in full."""
    return [
        Stage("benchmark", 85, _python("-m", "bench.gpu.surgery", folder), most=120, needs=EVERY),
        Stage("backends", 15, _python("-m", "gpu.backends"), most=30, needs="build"),
        Stage("other_tests", 67, tests("triton", "reference", "none", longest=60), most=150, needs="build"),
        Stage("step", 45, _python("-m", "bench.gpu.step", folder), most=80, needs=EVERY),
        Stage("norm", 30, _python("-m", "bench.gpu.norm", folder), most=50, needs="build"),
        Stage("weightings", 15, _python("-m", "bench.gpu.weightings", folder), most=40, needs="build"),
        Stage("memcheck", 17, _python("-m", "gpu.nvidia_tools", "memcheck"), most=75, needs="build"),
        Stage("racecheck", 17, _python("-m", "gpu.nvidia_tools", "racecheck"), most=75, needs=EVERY),
    ]


def without_build(folder: Path) -> list[Stage]:
    """Returns what makes sense where the C++ and CUDA part could not be built: Triton's kernels need no build."""
    benchmark = _python("-m", "bench.gpu.surgery", folder, "--who", "triton")
    return [
        Stage("triton_tests", 90, tests("triton", longest=60), most=150, instead_of="build"),
        Stage("triton_bench", 60, benchmark, most=90, instead_of="build"),
    ]


def tests(*backends: str, longest: int) -> list[str | Path]:
    """Returns the command for the GPU's tests of those backends, see `gpu.selection`.

    A test of more than `longest` seconds ends its worker, as its kernel hangs; another worker takes its place.
    """
    files = sorted((ROOT / "tests" / "gpu").glob("test_gpu_*.py"))
    shared = ["-p", "xdist.plugin", "-n", str(WORKERS)] if util.find_spec("xdist") else []
    if shared and util.find_spec("pytest_timeout"):
        shared += ["-p", "pytest_timeout", "--timeout", str(longest), "--timeout-method", "thread"]
    warnings = [option for words in WARNINGS for option in ("-W", words)]
    options = ["-p", "no:cacheprovider", "-p", "gpu.selection", "--backends", ",".join(backends), *shared, *warnings]
    return _python("-m", "pytest", "-q", "--tb=short", *options, *files)


def _python(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, *arguments]
