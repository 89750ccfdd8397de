"""`make gpu` where there is no GPU: it says so; and its stages are run, timed, logged and judged as they should be."""

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from gpu import __main__ as make_gpu
from gpu import backends, every_kernel, stages, under
from gpu.stages import OK, OUT_OF_TIME, UNSUPPORTED, Stage, run_all
from helpers.places import ROOT

PYTHON = sys.executable


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
    bench = [sys.executable, "-m", "bench.gpu.surgery", str(tmp_path / "out")]
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
    assert run_all(everything, tmp_path, 90, {"WORD": "last words"}) == 1
    log = (tmp_path / "log.txt").read_text()
    assert capfdbinary.readouterr().out.decode() == log
    for words in (
        "first words",
        "complaint",
        "last words",
        "=== good, after 0 s of 90 s, at most 60 s",
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
    monkeypatch.setitem(stages.GRACES, signal.SIGINT, 1.0)
    assert run_all([Stage("deaf", 1.0, ["sh", "-c", "trap '' INT TERM; sleep 60"])], tmp_path, 60, {}) == 1
    assert time.monotonic() - begin < 20


def test_a_stage_that_overruns_is_interrupted_first_and_says_what_it_has(tmp_path, monkeypatch):
    """Though whoever started all this may have had SIGINT ignored, as a shell does for what runs in its background."""
    monkeypatch.setattr(stages, "LEAST_SECONDS", 0.1)
    code = """
import time
try:
    print("begun")
    time.sleep(60)
except KeyboardInterrupt:
    print("what there is")
"""
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run_all([script(code, "slow", limit=2.0)], tmp_path, 60, {}) == 1
    finally:
        signal.signal(signal.SIGINT, usual)
    assert "what there is" in (tmp_path / "log.txt").read_text()
    assert statuses(tmp_path) == {"slow": "failed: stopped after 2 s"}


def test_the_pytest_of_a_stage_that_overruns_reports_all_the_same(tmp_path, monkeypatch):
    """Where workers share the tests, too: one of them hangs, and what failed before is told and written down."""
    (tmp_path / "test_slow.py").write_text(
        "import time\ndef test_bad(): assert 'apples' == 'pears'\ndef test_hangs(): time.sleep(100)\n"
    )
    monkeypatch.setattr(make_gpu, "ROOT", tmp_path)
    monkeypatch.setattr(make_gpu, "WORKERS", 2)
    command = [*make_gpu._tests(tmp_path), "--rootdir", tmp_path, tmp_path / "test_slow.py"]
    for name in os.environ:
        if name.startswith("PYTEST_"):  # of the pytest around this one
            monkeypatch.delenv(name)
    begin = time.monotonic()
    stage = Stage("tests", 12.0, command)
    assert run_all([stage], tmp_path / "out", 60, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}) == 1
    assert time.monotonic() - begin < 12 + sum(stages.GRACES.values())
    assert statuses(tmp_path / "out") == {"tests": "failed: stopped after 12 s"}
    assert "assert 'apples' == 'pears'" in (tmp_path / "out" / "log.txt").read_text()
    assert "apples" in (tmp_path / "junit.xml").read_text()


def test_nothing_is_begun_without_time_for_it(tmp_path):
    both = [script("import time; time.sleep(2)", "first"), script("", "second")]
    graces = sum(stages.GRACES.values())  # what ending the last one may take
    assert run_all(both, tmp_path, stages.LEAST_SECONDS + graces + 1, {}) == 1
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
    measured = ["benchmark", "step", "norm", "ncu"]
    assert names == ["environment", "build", "backends", "tests", *measured, "memcheck", "racecheck"]
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
        map(str, ROOT.glob("tests/gpu/test_gpu_*.py"))
    )
    assert make_gpu.SECONDS < 480


def test_the_environment_puts_what_was_built_before_the_checkout():
    environment = make_gpu.environment("9.0")
    first, *_, last = environment["PYTHONPATH"].split(os.pathsep)
    assert (first, last) == (str(make_gpu.LIBRARY), str(ROOT))
    assert environment["TORCH_CUDA_ARCH_LIST"] == "9.0"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)  # where ninja is


def test_the_pytest_of_the_stage_collects_its_tests(tmp_path):
    """As it will be called there, but for running them."""
    command = [*map(str, make_gpu._tests(tmp_path)), "--collect-only"]
    # of the variables that the pytest around this one has set (it may be a worker of pytest-xdist's), none
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**inherited, **make_gpu.environment("9.0"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "test_gpu_kernels.py" in done.stdout


@pytest.mark.parametrize("broken", [None, "triton"])
def test_each_backend_is_asked_by_name(monkeypatch, capsys, broken):
    """One that is there and does not load is found out."""
    usable = {name: backends.gk.Backend(True, "is there") for name in ("cuda", "cpu", "triton", "reference")}
    monkeypatch.setattr(backends.gk, "backends", lambda: usable)
    monkeypatch.setattr(backends, "what_is_wrong", lambda device, name: "does not load" if name == broken else None)
    assert backends.main() == (broken is not None)
    shown = capsys.readouterr().out
    for name in ("cuda", "triton", "reference"):
        end = "does not load" if name == broken else "merged as they should be"
        assert f"three known gradients through {name}: {end}" in shown


def test_the_environment_is_told(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gpu.environment"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"torch {torch.__version__}" in done.stdout
    assert "$ nvidia-smi" in done.stdout
    for package in ("setuptools", "ninja", "pybind11", "pytest-xdist", "pytest-timeout"):
        assert f"\n{package} " in done.stdout


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


@pytest.mark.parametrize(("channels", "dtype", "last"), every_kernel.NORMS)
def test_the_script_for_the_sanitizers_looks_at_the_norms_values(channels, dtype, last, monkeypatch):
    every_kernel.check_norm(channels, dtype, last, "cpu")
    real, calls = every_kernel.gk.group_norm_relu, []

    def wrong_the_second_time(x, weight, *others):
        calls.append(x)
        return real(x, weight if len(calls) == 1 else 1.05 * weight, *others)

    monkeypatch.setattr(every_kernel.gk, "group_norm_relu", wrong_the_second_time)
    with pytest.raises(AssertionError):
        every_kernel.check_norm(channels, dtype, last, "cpu")


TOOL = """#!{python}
import sys
{words}
sys.exit({status})
"""
REFUSES = "========= Error: Device not supported. Please refer to the manual"
ELSEWHERE = "RuntimeError: Failed to initialize NVML"  # not the tool's own words
HERE, DONE = every_kernel.REACHED, every_kernel.DONE


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Puts a program of some name first on the PATH, which does and ends as it is told."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def make(name, words, status):
        path = tmp_path / name
        path.write_text(TOOL.format(python=PYTHON, words=words, status=status))
        path.chmod(0o755)

    return make


@pytest.fixture
def good_script(monkeypatch):
    """That runs well without the tool; what it needs is a GPU."""
    monkeypatch.setattr(under, "_runs_well", lambda script: True)


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        pytest.param([REFUSES], 1, 77, id="cannot work here"),
        pytest.param([REFUSES, HERE, DONE], 0, 77, id="looked at nothing"),
        pytest.param([REFUSES, HERE], 9, 1, id="found something all the same"),
        pytest.param([ELSEWHERE], 1, 1, id="not the tool's words"),
        pytest.param(["ImportError: no module of ours"], 1, 1, id="our bug"),
        pytest.param([], 0, 1, id="nothing ran"),
        pytest.param([HERE, DONE], 0, 0, id="good"),
        pytest.param([HERE, DONE], 9, 1, id="found something"),
        pytest.param([HERE], 0, 1, id="stopped half way"),
    ],
)
def test_what_a_sanitizer_says_is_judged(tool, good_script, capfd, words, status, expected):
    tool("compute-sanitizer", "\n".join(f"print({line!r})" for line in words), status)
    assert under.sanitize("memcheck") == expected
    assert (f"did not work here: {REFUSES}" in capfd.readouterr().out) == (expected == 77)


@pytest.mark.parametrize(("name", "shown"), [("memcheck", "1"), ("racecheck", "None")])
def test_every_tensor_has_memory_of_its_own_only_where_accesses_are_checked(tool, good_script, capfd, name, shown):
    tool("compute-sanitizer", "import os; print(os.environ.get('PYTORCH_NO_CUDA_MEMORY_CACHING'))", 0)
    under.sanitize(name)
    assert capfd.readouterr().out.splitlines()[1] == shown


COUNTED, NO_COUNTERS = f"gram,{under.METRICS[0]},1.0", "==ERROR== ERR_NVGPUCTRPERM - no permission"


@pytest.mark.parametrize(
    ("line", "status", "expected"),
    [
        pytest.param(COUNTED, 0, 0, id="works"),
        pytest.param(COUNTED, 77, 1, id="the script fails"),
        pytest.param(NO_COUNTERS, 1, 77, id="no permission"),
        pytest.param("==WARNING== no kernels were profiled", 0, 1, id="no kernels"),
    ],
)
def test_what_ncu_counts_is_kept_and_else_it_says_why(tmp_path, tool, good_script, capfd, line, status, expected):
    table = tmp_path / "ncu.csv"
    tool("ncu", f"open({str(table)!r}, 'w').write({line!r})", status)
    assert under.profile(table) == expected
    assert (f"did not work here: {NO_COUNTERS}" in capfd.readouterr().out) == (expected == 77)


@pytest.mark.parametrize("name", ["memcheck", "ncu"])
def test_a_script_that_fails_without_the_tool_is_a_failure(tmp_path, tool, monkeypatch, capfd, name):
    for program in ("compute-sanitizer", "ncu"):
        tool(program, f"print({REFUSES!r})", 1)
    tool("python", "print('a bug of ours')", 3)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", ["under", name, str(tmp_path / "ncu.csv")])
    assert under.main() == 1
    shown = capfd.readouterr().out
    assert "a bug of ours\nfailed without the tool already: exit status 3" in shown
    assert "did not work here" not in shown


def test_a_tool_that_is_not_there(monkeypatch, capfd):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", ["under", "racecheck"])
    assert under.main() == 77
    assert "did not work here: compute-sanitizer is not on the PATH" in capfd.readouterr().out
