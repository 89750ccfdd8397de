"""`make gpu` where there is no GPU: it says so; and its stages are run, timed, logged and judged as they should be."""

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from gpu import __main__ as make_gpu
from gpu import every_kernel, stages, under
from gpu.stages import OK, OUT_OF_TIME, UNSUPPORTED, Stage, run_all

ROOT = Path(__file__).parents[1]


def script(code: str, name="stage", limit=60.0) -> Stage:
    return Stage(name, limit, [sys.executable, "-c", code])


def statuses(folder: Path) -> dict[str, str]:
    """Of each stage, from the table at the end of the log."""
    table = (folder / "log.txt").read_text().rpartition("=== all, ")[2].splitlines()[1:]
    lines = [line.partition(" s  ") for line in table if " s  " in line]
    return {begin.split()[0]: status for begin, _, status in lines}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU in this machine")
def test_without_a_gpu_it_says_so_at_once(tmp_path):
    command = ["make", "gpu", f"OUT={tmp_path / 'out'}", f"PYTHON={sys.executable}"]
    begin = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no GPU in this machine" in done.stderr
    assert not (tmp_path / "out").exists()
    assert time.monotonic() - begin < 60
    bench = [sys.executable, "-m", "bench.gpu", str(tmp_path / "out")]
    done = subprocess.run(bench, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no GPU in this machine" in done.stderr


def test_it_wants_to_know_where_to():
    done = subprocess.run(["make", "gpu"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "where to? make gpu OUT=dir" in done.stderr
    done = subprocess.run([sys.executable, "-m", "gpu"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected one argument" in done.stderr


def test_a_stage_that_fails_stops_none_of_the_others(tmp_path, capfdbinary):
    everything = [
        script("print('first words'); import sys; print('complaint', file=sys.stderr)", "good"),
        script("raise SystemExit(3)", "bad"),
        Stage("missing", 60, ["/nowhere/program"]),
        script(f"raise SystemExit({stages.UNSUPPORTED_STATUS})", "elsewhere"),
        script("import os; print(os.environ['WORD'])", "last"),
    ]
    assert run_all(everything, tmp_path, 60, {"WORD": "last words"}) == 1
    log = (tmp_path / "log.txt").read_text()
    assert capfdbinary.readouterr().out.decode() == log
    for words in (
        "first words",
        "complaint",
        "last words",
        "=== good, after 0 s of 60 s, at most 60 s",
        "/nowhere/pro",
    ):
        assert words in log
    assert statuses(tmp_path) == {
        "good": OK,
        "bad": "failed: exit status 3",
        "missing": "failed: could not be started",
        "elsewhere": UNSUPPORTED,
        "last": OK,
    }


def test_what_cannot_work_here_is_no_failure(tmp_path):
    assert run_all([script(""), script("raise SystemExit(77)")], tmp_path, 60, {}) == 0


def test_a_stage_is_stopped_with_all_that_it_has_started(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "LEAST_SECONDS", 0.1)
    orphan, begin = tmp_path / "orphan", time.monotonic()
    slow = Stage("slow", 2.0, ["sh", "-c", f"(sleep 4; touch {orphan}) & echo begun; wait"])
    assert run_all([slow, script("print('goes on')")], tmp_path, 60, {}) == 1
    assert statuses(tmp_path) == {"slow": "failed: stopped after 2 s", "stage": OK}
    assert "begun" in (tmp_path / "log.txt").read_text()
    time.sleep(max(0.0, begin + 5 - time.monotonic()))
    assert not orphan.exists()


def test_a_process_left_behind_is_ended_and_not_waited_for(tmp_path):
    code = (
        "import subprocess, sys; print('done'); subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    )
    begin = time.monotonic()
    assert run_all([script(code)], tmp_path, 60, {}) == 0
    assert time.monotonic() - begin < 20


def test_a_stage_that_ignores_requests_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "LEAST_SECONDS", 0.1)
    begin = time.monotonic()
    assert run_all([Stage("deaf", 1.0, ["sh", "-c", "trap '' TERM; sleep 60"])], tmp_path, 60, {}) == 1
    assert time.monotonic() - begin < 20


def test_nothing_is_begun_without_time_for_it(tmp_path):
    both = [script("import time; time.sleep(2)", "first"), script("", "second")]
    assert run_all(both, tmp_path, stages.LEAST_SECONDS + 1, {}) == 1
    assert statuses(tmp_path) == {"first": OK, "second": OUT_OF_TIME}


def test_too_many_or_too_large_results_are_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "MOST_BYTES", 10_000)
    write = (
        "import sys; [open(f'{sys.argv[1]}/{k}', 'wb').write(b'x' * int(sys.argv[3])) for k in range(int(sys.argv[2]))]"
    )
    for count, size, words in ((7, 10, None), (8, 10, "9 files in"), (2, 6000, "bytes in")):
        folder = tmp_path / f"{count}x{size}"
        stage = Stage("writes", 60, [sys.executable, "-c", write, folder, count, size])
        assert run_all([stage], folder, 60, {}) == (words is not None)
        assert words is None or words in (folder / "log.txt").read_text()


def test_of_a_long_log_the_beginning_and_the_end_are_kept(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.setattr(stages, "MOST_LOGGED", 1000)
    monkeypatch.setattr(stages, "MOST_AT_THE_END", 2)
    lines = [f"line {k} " + "x" * 92 for k in range(30)]
    assert run_all([script(f"print(*{lines!r}, sep='\\n')"), script("print('next')")], tmp_path, 60, {}) == 0
    log, screen = (tmp_path / "log.txt").read_text(), capfdbinary.readouterr().out.decode()
    assert [line in log for line in lines] == [True] * 10 + [False] * 18 + [True] * 2
    assert log.count("what was printed here is not logged") == 1
    assert all(line in screen for line in lines)
    assert "next" in log


# What the real stages are


def test_the_real_stages(tmp_path, monkeypatch):
    monkeypatch.setattr(make_gpu, "WHEELS", tmp_path)
    names = [stage.name for stage in make_gpu.stages(tmp_path)]
    assert names == ["environment", "build", "backends", "tests", "benchmark", "memcheck", "racecheck", "ncu"]
    (tmp_path / "a-1-py3-none-any.whl").touch()
    whole = {stage.name: list(map(str, stage.command)) for stage in make_gpu.stages(tmp_path)}
    assert list(whole)[1] == "wheels"
    assert whole["wheels"][-1] == str(tmp_path / "a-1-py3-none-any.whl")
    assert {"--no-index", "--no-deps"} <= set(whole["wheels"])
    for command in whole.values():
        for module in (part for flag, part in pairwise(command) if flag == "-m"):
            path = ROOT / module.replace(".", "/")
            assert module in ("pip", "pytest") or path.with_suffix(".py").exists()
    assert [path for path in whole["tests"] if path.endswith(".py")] == sorted(
        map(str, ROOT.glob("tests/test_gpu_*.py"))
    )
    assert make_gpu.SECONDS < 480


def test_the_environment_puts_what_was_built_before_the_checkout():
    environment = make_gpu.environment("9.0")
    first, *_, last = environment["PYTHONPATH"].split(os.pathsep)
    assert (first, last) == (str(make_gpu.LIBRARY), str(ROOT))
    assert environment["TORCH_CUDA_ARCH_LIST"] == "9.0"


def test_the_pytest_of_the_stage_collects_its_tests(tmp_path):
    """As it will be called there, but for running them."""
    command = [*map(str, make_gpu._tests(tmp_path)), "--collect-only"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "test_gpu_kernels.py" in done.stdout


def test_the_environment_is_told(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gpu.environment"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"torch {torch.__version__}" in done.stdout
    assert "$ nvidia-smi" in done.stdout


# The scripts under NVIDIA's tools


@pytest.mark.parametrize("num_objectives", [1, 7, 17])
def test_the_script_for_the_sanitizers_is_right_about_the_values(num_objectives, monkeypatch):
    every_kernel.check(every_kernel.gradients(num_objectives), "cpu", offset=1)
    real = every_kernel.gk.combine
    monkeypatch.setattr(
        every_kernel.gk, "combine", lambda grads, w, out=None: real(grads, 1.01 * w if out else w, out=out)
    )
    with pytest.raises(AssertionError):
        every_kernel.check(every_kernel.gradients(num_objectives), "cpu", offset=0)


TOOL = """#!{python}
import sys
print("==ERROR== a tool that has something to say")
{words}
sys.exit({status})
"""


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        ([], 1, 77),
        ([every_kernel.REACHED, every_kernel.DONE], 0, 0),
        ([every_kernel.REACHED, every_kernel.DONE], 9, 1),
        ([every_kernel.REACHED], 0, 1),
    ],
    ids=["cannot work here", "good", "found something", "stopped half way"],
)
def test_what_a_sanitizer_says_is_judged(tmp_path, monkeypatch, capfd, words, status, expected):
    tool = tmp_path / "compute-sanitizer"
    prints = "\n".join(f"print({line!r})" for line in words)
    tool.write_text(TOOL.format(python=sys.executable, words=prints, status=status))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert under.sanitize("memcheck") == expected
    assert ("did not work here: ==ERROR== a tool" in capfd.readouterr().out) == (expected == 77)


@pytest.mark.parametrize("works", [False, True])
def test_what_ncu_counts_is_kept_and_where_it_cannot_it_says_why(tmp_path, monkeypatch, capfd, works):
    tool, table = tmp_path / "ncu", tmp_path / "ncu.csv"
    line = f"gram,{under.METRICS[0]},1.0" if works else "==ERROR== no counters"
    tool.write_text(TOOL.format(python=sys.executable, words=f"open({str(table)!r}, 'w').write({line!r})", status=0))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert under.profile(table) == (0 if works else 77)
    assert ("did not work here: ==ERROR== no counters" in capfd.readouterr().out) == (not works)


def test_a_tool_that_is_not_there(monkeypatch, capfd):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", ["under", "racecheck"])
    assert under.main() == 77
    assert "did not work here: compute-sanitizer is not on the PATH" in capfd.readouterr().out
