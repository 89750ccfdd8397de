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
# of names without their namespaces and arguments
KERNELS = "regex:gram|combine|surgery|(moments|apply|products|gradient)_kernel"
ERROR_STATUS = 9  # of the sanitizer when it found something
MARKS = "=========", "==ERROR==", "==WARNING=="  # what the tools begin their own lines with, the sanitizer and ncu
REFUSALS = (  # what they say there on a machine where they cannot work
    *("device not supported", "failed to initialize", "librarynotloaded", "err_nvgpuctrperm"),
    *("profiling is not supported", "driver resource was unavailable", "driver is not compatible"),
)


def main() -> int:
    tool, *arguments = sys.argv[1:]
    name = "ncu" if tool == "ncu" else "compute-sanitizer"
    if shutil.which(name) is None:
        return _unsupported(f"{name} is not on the PATH")
    return profile(Path(arguments[0])) if tool == "ncu" else sanitize(tool)


def sanitize(tool: str) -> int:
    """Status 1 if anything was found, or if the values are wrong."""
    script, variables = [sys.executable, "-m", "gpu.every_kernel"], {}
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", str(ERROR_STATUS), "--print-limit", "20"]
    if tool == "memcheck":
        command += ["--report-api-errors", "no"]  # torch asks a driver for what it may not have; launches are checked
        # every tensor in an allocation of its own, or what lies beyond one would be another, which nobody would notice
        variables = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    if not _runs_well(script):
        return 1
    code, output = _show([*command, *script], **variables)
    refusal = _refusal(output)
    if refusal is None or (code != 0 and REACHED in output):
        return int(code != 0 or DONE not in output)
    return _unsupported(refusal)


def profile(table: Path) -> int:
    """Leaves what ncu counted in `table`."""
    script = [sys.executable, "-m", "gpu.hot_kernels"]
    command = ["ncu", "--clock-control", "none", "--kernel-name", KERNELS, "--metrics", ",".join(METRICS)]
    command += ["--csv", "--log-file", str(table)]
    if not _runs_well(script):
        return 1
    code, output = _show([*command, *script])
    lines = table.read_text().splitlines() if table.exists() else []
    print(*lines, sep="\n")
    counted = any(METRICS[0] in line for line in lines if not line.startswith(MARKS))
    refusal = _refusal("\n".join([*lines, output]))
    if counted or refusal is None:
        return int(code != 0 or not counted)
    return _unsupported(refusal)


def _runs_well(script: Sequence[str]) -> bool:
    """Without the tool: else what is a bug of ours could pass for a machine where the tool does not work."""
    code, _ = _show(script)
    if code != 0:
        print(f"failed without the tool already: exit status {code}")
    return code == 0


def _refusal(output: str) -> str | None:
    """The line in which the tool itself, not the script under it, says that it cannot work here."""
    own = (line for line in output.splitlines() if line.startswith(MARKS))
    return next((line for line in own if any(words in line.lower() for words in REFUSALS)), None)


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


def _unsupported(reason: str) -> int:
    print(f"did not work here: {reason}")
    return UNSUPPORTED_STATUS


if __name__ == "__main__":
    sys.exit(main())
