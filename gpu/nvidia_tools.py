"""`python -m gpu.nvidia_tools memcheck [--few] | racecheck [--few] | ncu FILE`: the kernels under a tool of NVIDIA's.

Ends with 77 where the tool cannot work on this machine, a virtual one without access to counters for instance.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu.every_kernel import DONE, REACHED
from gpu.stages import UNSUPPORTED_STATUS
from gpu.tools import find

METRICS = (
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    # what else may hold a kernel up: the issue of instructions, the pipes of float64 and of conversions
    "sm__cycles_elapsed.max",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "smsp__inst_executed.sum",
    "smsp__inst_executed_pipe_fp64.sum",
    "smsp__inst_executed_pipe_xu.sum",
    # why warps wait: for memory, for code, for a pipe that is busy, for the queue to the caches
    *(
        f"smsp__average_warps_issue_stalled_{reason}_per_issue_active.ratio"
        for reason in ("long_scoreboard", "no_instruction", "math_pipe_throttle", "lg_throttle")
    ),
    # whether the second pass finds gradients in the L2 cache, and whether shared memory's banks are in each other's way
    "lts__t_sectors_op_read.sum",
    "lts__t_sectors_op_read_lookup_hit.sum",
    "l1tex__data_bank_conflicts_pipe_lsu.sum",
    "launch__registers_per_thread",
    "launch__grid_size",
    "launch__block_size",
    "launch__shared_mem_per_block_dynamic",
)
# of names without their namespaces and arguments
KERNELS = "regex:^(gram|gram_wide|combine|surgery|weights|(norm_)?(moments|apply|products|gradient))_kernel$"
ERROR_STATUS = 9  # of the sanitizer when it found something
MARKS = "=========", "==ERROR==", "==WARNING=="  # what the tools begin their own lines with, the sanitizer and ncu
# What they say there on a machine where they cannot work -> what to do about it.
HIDDEN = "it needs a machine that shows the GPU itself and lets its driver be looked at, which some virtual ones do not"
REFUSALS = {
    "err_nvgpuctrperm": (
        "run all as root, or let everybody read the counters: NVreg_RestrictProfilingToAdminUsers=0, an option of "
        "NVIDIA's kernel module"
    ),
    "driver resource was unavailable": "another profiler is at work on this GPU: end it",
    "driver is not compatible": "take a version of the tool that is as old as the driver, or update the driver",
    **dict.fromkeys(
        ("device not supported", "failed to initialize", "librarynotloaded", "profiling is not supported"), HIDDEN
    ),
}
INSTALL = {
    "ncu": "install Nsight Compute, or set CUDA_HOME to the toolkit that has it",
    "compute-sanitizer": "install CUDA's toolkit, or set CUDA_HOME to where it is",
}


def main() -> int:
    """Returns 0, or 1 for a failure of ours, or 77 where the tool is missing or cannot work."""
    tool, *arguments = sys.argv[1:]
    name = "ncu" if tool == "ncu" else "compute-sanitizer"
    program = find(name)
    if program is None:
        return _unsupported(f"{name} is neither on the PATH nor in one of its usual places; {INSTALL[name]}")
    return profile(program, Path(arguments[0])) if tool == "ncu" else sanitize(program, tool, arguments)


def sanitize(program: str, tool: str, arguments: Sequence[str] = ()) -> int:
    """Runs `gpu.every_kernel` with its arguments. Status 1 if anything was found, or if the values are wrong."""
    script, variables = [sys.executable, "-m", "gpu.every_kernel", *arguments], {}
    command = [program, "--tool", tool, "--error-exitcode", str(ERROR_STATUS), "--print-limit", "20"]
    if tool == "memcheck":
        command += ["--report-api-errors", "no"]  # torch asks a driver for what it may not have; launches are checked
        # every tensor in an allocation of its own, or what lies beyond one would be another, which nobody would notice
        variables = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    code, output = _show([*command, *script], **variables)
    refusal = _refusal(output)
    if refusal is None or (code != 0 and REACHED in output):
        return int(code != 0 or DONE not in output)
    return _unsupported(refusal) if _runs_well(script) else 1


def profile(program: str, table: Path) -> int:
    """Runs `gpu.hot_kernels`, and leaves what ncu counted in `table`. Status 1 if nothing was counted."""
    script = [sys.executable, "-m", "gpu.hot_kernels"]
    command = [program, "--clock-control", "none", "--kernel-name", KERNELS, "--metrics", ",".join(METRICS)]
    command += ["--csv", "--log-file", str(table)]
    table.unlink(missing_ok=True)  # of an earlier run
    code, output = _show([*command, *script])
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    print(*lines, sep="\n")
    counted = any(METRICS[0] in line for line in lines if not line.startswith(MARKS))
    refusal = _refusal("\n".join([*lines, output]))
    if counted or refusal is None:
        return int(code != 0 or not counted)
    return _unsupported(refusal) if _runs_well(script) else 1


def _runs_well(script: Sequence[str]) -> bool:
    """Returns whether the script runs without the tool: else a bug of ours could pass for a machine that is unsuited.

    It is run only after the tool has refused, as it takes time that the tool may need.
    """
    code, _ = _show(script)
    if code != 0:
        print(f"failed without the tool already: exit status {code}")
    return code == 0


def _refusal(output: str) -> str | None:
    """Returns the line in which the tool itself, not the script under it, says that it cannot work, and what to do."""
    own = (line for line in output.splitlines() if line.startswith(MARKS))
    told = (f"{line}; {advice}" for line in own for words, advice in REFUSALS.items() if words in line.lower())
    return next(told, None)


def _show(command: Sequence[str], **environment: str) -> tuple[int, str]:
    """Runs the command and prints what it says as it comes. Returns its status and its output."""
    print("$ " + " ".join(command), flush=True)
    variables, lines = {**os.environ, **environment}, []
    with subprocess.Popen(
        command, text=True, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines)


def _unsupported(reason: str) -> int:
    print(f"did not work here: {reason}")
    return UNSUPPORTED_STATUS


if __name__ == "__main__":
    sys.exit(main())
