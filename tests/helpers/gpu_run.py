"""What `python -m gpu` consists of, and how its stages went by the log that it leaves."""

from pathlib import Path

BEGINNING = ["environment", "build", "every_kernel"]
FIRST = ["ours", "ncu", "other_kernels", "cuda_tests", "racecheck_few", "memcheck_few"]
SECOND = ["benchmark", "backends", "other_tests", "step", "norm", "weightings", "memcheck", "racecheck"]
WITHOUT_BUILD = ["triton_tests", "triton_bench"]


def statuses(folder: Path) -> dict[str, str]:
    """Of each stage, from the table at the end of the log."""
    table = (folder / "log.txt").read_text().rpartition("=== all, ")[2].splitlines()[1:]
    lines = [line.partition(" s  ") for line in table if " s  " in line]
    return {begin.split()[0]: status for begin, _, status in lines}
