"""`python -m gpu DIR [--part 1|2]`: builds for the GPU found, tests, measures, looks for bad accesses and races.

Needs no network and no virtual environment, but torch, Triton, nvcc, a C++ compiler and pytest where `python3` finds
them. Wheels in wheels/ are installed beside the build: packages that this machine lacks. `gpu.plan` says what the parts
are; without --part they run one after the other, in twelve minutes at most.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from gpu.hints import ended, hint
from gpu.places import LIBRARY, ROOT, SITE
from gpu.plan import SECONDS, seconds, stages
from gpu.stages import run_all

PROBE = "import torch; print('{}.{}'.format(*torch.cuda.get_device_capability()))"
LONGEST_PROBE = 60.0  # seconds; a driver that does not answer then would keep the stages waiting too

MEASURED = (
    "Measured are, with values compared first: Gramian, combination and surgery beside Triton, torch and the published "
    "way; the norm; the weightings; a whole training step; NVIDIA's counters. Not measured are several GPUs, AMD's, "
    "energy, and what a training ends with. docs/gpu.md has the stages and what to do with the results."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 if a stage failed, or 2 if there is nothing to run on."""
    begin = monotonic()
    parser = argparse.ArgumentParser(prog="python -m gpu", description="All that needs a GPU.", epilog=MEASURED)
    parser.add_argument("folder", type=Path, help="for the results and log.txt")
    parser.add_argument("--part", type=int, choices=SECONDS, help="one part only; by default both, one after the other")
    chosen = parser.parse_args(arguments)
    capability = _capability()
    if capability is None:
        return 2
    folder = chosen.folder.resolve()
    os.chdir(ROOT)
    left = seconds(chosen.part) - (monotonic() - begin)
    return run_all(stages(folder, chosen.part), folder, left, environment(capability))


def _capability() -> str | None:
    """Returns the compute capability of the first GPU, 9.0 for instance. Without a GPU it says why and returns None."""
    try:
        command = [sys.executable, "-c", PROBE]
        probe = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_PROBE)
    except subprocess.TimeoutExpired:
        print(f"the GPU did not answer in {LONGEST_PROBE:.0f} s: its driver hangs; start it anew", file=sys.stderr)
        return None
    if probe.returncode == 0:
        return probe.stdout.strip()
    reason = (probe.stderr.strip().splitlines() or [f"python: {ended(probe.returncode)}"])[-1]
    print(f"no GPU in this machine, or torch cannot use it: {reason}", file=sys.stderr)
    if advice := hint(reason):
        print(advice, file=sys.stderr)
    return None


def environment(capability: str) -> dict[str, str]:
    """Returns every stage's variables. What was built comes before the checkout, whose gmd_kernels has no C++ part."""
    return {
        "GMD_FORCE_CUDA": "1",
        "TORCH_CUDA_ARCH_LIST": capability,
        "PYTHONPATH": os.pathsep.join(map(str, (LIBRARY, SITE, ROOT))),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",  # eight workers share the cores, and tensors of test size are slower on several
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # or each of the workers would start as many processes as there are cores
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),  # for ninja
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # plugins that happen to be there warn of each other, an error here
    }


if __name__ == "__main__":
    sys.exit(main())
