"""`python -m gpu DIR`: builds for the GPU found, tests, measures, reads the counters, looks for bad accesses and races.

Needs no network and no virtual environment, but torch, Triton, nvcc and pytest where `python3` finds them. What is most
valuable comes first. Wheels in wheels/ are installed beside the build: packages that this machine lacks.
"""

import os
import subprocess
import sys
from importlib import util
from pathlib import Path

from gpu.stages import Stage, run_all

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "gpu"
LIBRARY, SITE, WHEELS = BUILD / "lib", BUILD / "site", ROOT / "wheels"
SECONDS = 455  # in all, so that `make gpu` ends within eight minutes
WORKERS = 8  # processes that share the tests, and the GPU: Triton compiles on the CPU
PROBE = "import torch; print('{}.{}'.format(*torch.cuda.get_device_capability()))"


def main() -> int:
    """0, or 1 if a stage failed, or 2 if there is nothing to run on."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("expected one argument, the folder for the results: make gpu OUT=dir", file=sys.stderr)
        return 2
    capability = _capability()
    if capability is None:
        return 2
    folder = Path(sys.argv[1]).resolve()
    os.chdir(ROOT)
    return run_all(stages(folder), folder, SECONDS, environment(capability))


def _capability() -> str | None:
    """Of the first GPU, 9.0 for instance; None, and says why, without one."""
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    if probe.returncode == 0:
        return probe.stdout.strip()
    reason = (probe.stderr.strip().splitlines() or ["python did not start"])[-1]
    print(f"no GPU in this machine, or torch cannot use it: {reason}", file=sys.stderr)
    return None


def environment(capability: str) -> dict[str, str]:
    """For every stage. What was built comes before the checkout, whose gmd_kernels has no C++ part for this Python."""
    return {
        "GMD_FORCE_CUDA": "1",
        "TORCH_CUDA_ARCH_LIST": capability,
        "PYTHONPATH": os.pathsep.join(map(str, (LIBRARY, SITE, ROOT))),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",  # eight workers share the cores, and tensors of test size are slower on several
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),  # for ninja
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # plugins that happen to be there warn of each other, an error here
    }


def stages(folder: Path) -> list[Stage]:
    python = sys.executable
    build = [python, "setup.py", "build", "--build-base", BUILD, "--build-lib", LIBRARY]
    wheels = sorted(WHEELS.glob("*.whl"))
    install = [python, "-m", "pip", "install", "--no-index", "--no-deps", "--upgrade", "--target", SITE, *wheels]
    return [
        Stage("environment", 30, [python, "-m", "gpu.environment"]),
        *([Stage("wheels", 30, install)] if wheels else []),
        Stage("build", 200, build),
        Stage("backends", 40, [python, "-m", "gpu.backends"]),
        Stage("tests", 150, _tests(folder)),
        Stage("benchmark", 125, [python, "-m", "bench.gpu.surgery", folder]),
        Stage("step", 90, [python, "-m", "bench.gpu.step", folder]),
        Stage("norm", 60, [python, "-m", "bench.gpu.norm", folder]),
        Stage("ncu", 60, [python, "-m", "gpu.under", "ncu", folder / "ncu.csv"]),
        Stage("memcheck", 75, [python, "-m", "gpu.under", "memcheck"]),
        Stage("racecheck", 75, [python, "-m", "gpu.under", "racecheck"]),
    ]


def _tests(folder: Path) -> list[str | Path]:
    tests = sorted((ROOT / "tests" / "gpu").glob("test_gpu_*.py"))
    shared = ["-p", "xdist.plugin", "-n", str(WORKERS)] if util.find_spec("xdist") else []
    if shared and util.find_spec("pytest_timeout"):  # ends the worker whose kernel hangs, and another takes its place
        shared += ["-p", "pytest_timeout", "--timeout", "90", "--timeout-method", "thread"]
    # what this machine's torch and Python say of their own future and ends is no failure here; FallbackWarning is
    kinds = ("DeprecationWarning", "FutureWarning", "ResourceWarning")
    warnings = [option for kind in kinds for option in ("-W", f"ignore::{kind}")]
    options = ["-p", "no:cacheprovider", f"--junitxml={folder / 'junit.xml'}", *shared, *warnings]
    return [sys.executable, "-m", "pytest", "-q", "--tb=short", *options, *tests]


if __name__ == "__main__":
    sys.exit(main())
