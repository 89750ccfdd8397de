"""A machine with a GPU has few packages beside torch: all that runs there loads without any other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.places import ROOT

pytestmark = pytest.mark.slow

LEAN = ROOT / "tests" / "gpu" / "lean_python.py"
ELSEWHERE = {"bench.gpu.pictures"}  # is run where the results are looked at, not where they were measured
STAGES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("gpu", "bench/gpu")
    for path in (ROOT / folder).glob("*.py")
    if path.name != "__init__.py"
)


def lean(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # the pytest around this one has set variables, which a pytest within would take for its own
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = inherited | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, LEAN, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_every_module_that_a_stage_runs_loads():
    modules = [module for module in STAGES if module not in ELSEWHERE]
    assert {"gpu.__main__", "gpu.every_kernel", "bench.gpu.surgery", "bench.gpu.norm", "bench.gpu.step"} <= set(modules)
    done = lean("import", *modules)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == modules


def test_the_tests_of_the_gpu_are_collected():
    files = sorted((ROOT / "tests" / "gpu").glob("test_gpu_*.py"))
    done = lean("pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert all(f"{path.name}::" in done.stdout for path in files)


@pytest.mark.parametrize("package", ["torchjd", "monai", "matplotlib", "typeguard"])
def test_other_packages_are_not_there(package):
    done = lean("import", package)
    assert done.returncode == 1
    assert f"No module named '{package}'" in done.stderr


def test_without_torchjd_its_absence_is_told():
    code = "import bench.measure.peers as p; print(p.NO_TORCHJD)"
    done = lean("-c", code)
    assert done.stdout.startswith("torchjd is not installed: "), done.stderr


# The surgery and the norm on the CPU, by a clock that calls everything once; as far as what is printed at the end.
MEASURED = """
import sys
from functools import partial
from pathlib import Path
from bench.gpu import norm, step, surgery, timing, weightings
from bench.measure.cases import TINY_GPU_CASES

class Clock:
    def copy_gbps(self):
        return 1000.0
    def with_peak_memory(self, call):
        return call(), 1.0
    def times(self, contestant):
        contestant.prepare()
        contestant.call()
        return {"median_ms": 1.0, "p20_ms": 1.0, "p80_ms": 1.0, "calls": 1, "host_ms": 1.0}
    def warm_ms(self, contestant):
        return 1.0
    def launches(self, call):
        return 1

card = {"gpu": "some", "driver": "unknown", "cuda": "13.0", "torch": "2", "triton": "3", "torchjd": "0"}
card |= {"commit": "abc", "date": "now", "caches": "flushed"}
folder, clock, end = Path(sys.argv[3]), Clock(), float("inf")
turns = [turn for turn in surgery.PLANS["ours"] if turn.case.name in TINY_GPU_CASES]
measure = partial(timing.measure_on_gpu, clock=clock, device="cpu")
assert surgery.measure_and_show(measure, turns, folder, card, end) == 0
norm.LEVELS = ((16, 4),)
assert norm.measure_and_show(partial(norm.measure_level, clock=clock, device="cpu"), folder, card, end) == 0
step.STEPS = ({"width": 0.0625, "size": 16, "rounds": 1},)
assert step.measure_and_show(partial(step.rows_of_step, trained_steps=1), folder, card) == 0
weightings.SIZES = (4,)
assert weightings.measure_and_show(partial(weightings.measure, clock=clock, device="cpu"), folder, card, end) == 0
"""


def test_what_is_measured_is_written_and_shown(tmp_path):
    done = lean("-c", MEASURED, tmp_path)
    assert done.returncode == 0, done.stderr
    kinds = ("surgery", "norm", "step", "weightings")
    assert {path.name for path in tmp_path.iterdir()} == {f"{kind}_gpu.csv" for kind in kinds}
    assert "tiny-1K-T15: 1 ms" in done.stdout
