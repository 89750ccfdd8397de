"""`python -m gpu.under memcheck | racecheck | ncu FILE`: the kernels under one of NVIDIA's tools.

Ends with 77 where the tool cannot work on this machine, a virtual one without access to counters for instance.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu.every_kernel import DONE, REACHED
from gpu.stages import UNSUPPORTED_STATUS

METRICS = (
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "launch__registers_per_thread",
    "launch__grid_size",
    "launch__block_size",
    "launch__shared_mem_per_block_dynamic",
)
KERNELS = "regex:gram|combine|surgery"  # of names without their namespaces and arguments
ERROR_STATUS = 9  # of the sanitizer when it found something


def main() -> int:
    tool, *arguments = sys.argv[1:]
    name = "ncu" if tool == "ncu" else "compute-sanitizer"
    if shutil.which(name) is None:
        return _unsupported(f"{name} is not on the PATH")
    return profile(Path(arguments[0])) if tool == "ncu" else sanitize(tool)


def sanitize(tool: str) -> int:
    """Status 1 if anything was found, or if the values are wrong."""
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", str(ERROR_STATUS), "--print-limit", "20"]
    if tool == "memcheck":
        command += ["--report-api-errors", "no"]  # torch asks a driver for what it may not have; launches are checked
    # every tensor in an allocation of its own, or what lies beyond one would be another, which nobody would notice
    code, output = _show([*command, sys.executable, "-m", "gpu.every_kernel"], PYTORCH_NO_CUDA_MEMORY_CACHING="1")
    if REACHED not in output:
        return _unsupported(output)
    return int(code != 0 or DONE not in output)


def profile(table: Path) -> int:
    """Leaves what ncu counted in `table`."""
    command = ["ncu", "--clock-control", "none", "--kernel-name", KERNELS, "--metrics", ",".join(METRICS)]
    command += ["--csv", "--log-file", str(table)]
    code, output = _show([*command, sys.executable, "-m", "gpu.hot_kernels"])
    lines = table.read_text().splitlines() if table.exists() else []
    print(*lines, sep="\n")
    if any(METRICS[0] in line for line in lines):
        return code
    return _unsupported("\n".join([*lines, output]))


def _show(command: Sequence[str], **environment: str) -> tuple[int, str]:
    """Runs, and prints as it comes; status and output."""
    print("$ " + " ".join(command), flush=True)
    options = {"env": {**os.environ, **environment}, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    lines = []
    with subprocess.Popen(command, text=True, **options) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines)


def _unsupported(output: str) -> int:
    """Says why: the first line that speaks of an error, or the last of all."""
    lines = output.strip().splitlines() or ["it printed nothing"]
    print(f"did not work here: {next((line for line in lines if 'error' in line.lower()), lines[-1])}")
    return UNSUPPORTED_STATUS


if __name__ == "__main__":
    sys.exit(main())
