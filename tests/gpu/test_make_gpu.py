"""`make gpu` where there is no GPU: it says so; and its stages are run, timed, logged and judged as they should be."""

import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from gpu import __main__ as make_gpu
from gpu import backends, log, places, plan, stages
from gpu.stages import OK, OUT_OF_TIME, UNSUPPORTED, Stage, run_all
from helpers.gpu_run import BEGINNING, FIRST, SECOND, WITHOUT_BUILD, statuses
from helpers.places import ROOT

PYTHON = sys.executable


def script(code: str, name="stage", limit=60.0) -> Stage:
    return Stage(name, limit, [sys.executable, "-c", code])


@pytest.mark.slow
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


@pytest.mark.parametrize(("part", "expected"), [("", "-m gpu out\n"), ("PART=2", "-m gpu out --part 2\n")])
def test_make_passes_its_part_on(part, expected):
    command = ["make", "gpu", "OUT=out", "PYTHON=echo", *([part] if part else [])]
    # these tests run under make themselves, and a make under another says where it goes
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == expected


def test_it_wants_to_know_where_to():
    done = subprocess.run(["make", "gpu"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "where to? make gpu OUT=dir" in done.stderr
    done = subprocess.run([sys.executable, "-m", "gpu"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the following arguments are required: folder" in done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "gpu", "out", "--part", "3"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "argument --part: invalid choice: 3 (choose from 1, 2)" in done.stderr


def test_a_stage_that_fails_stops_none_of_the_others(tmp_path, capfdbinary):
    everything = [
        script("print('first words'); import sys; print('complaint', file=sys.stderr)", "good"),
        script("raise SystemExit(3)", "bad"),
        Stage("missing", 60, ["/nowhere/program"]),
        script(f"raise SystemExit({stages.UNSUPPORTED_STATUS})", "elsewhere"),
        script("import os; print(os.environ['WORD'])", "last"),
    ]
    assert run_all(everything, tmp_path, 90, {"WORD": "last words"}) == 1
    logged = (tmp_path / "log.txt").read_text()
    assert capfdbinary.readouterr().out.decode() == logged
    for words in (
        "first words",
        "complaint",
        "last words",
        "=== good, after 0 s of 90 s, at most 60 s",
        "/nowhere/pro",
    ):
        assert words in logged
    assert statuses(tmp_path) == {
        "good": OK,
        "bad": "failed: exit status 3",
        "missing": "failed: could not be started",
        "elsewhere": UNSUPPORTED,
        "last": OK,
    }


def test_what_cannot_work_here_is_no_failure(tmp_path):
    assert run_all([script(""), script("raise SystemExit(77)")], tmp_path, 60, {}) == 0


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_stage_that_ignores_requests_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "LEAST_SECONDS", 0.1)
    begin = time.monotonic()
    monkeypatch.setitem(stages.GRACES, signal.SIGINT, 1.0)
    assert run_all([Stage("deaf", 1.0, ["sh", "-c", "trap '' INT TERM; sleep 60"])], tmp_path, 60, {}) == 1
    assert time.monotonic() - begin < 20


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_pytest_of_a_stage_that_overruns_reports_all_the_same(tmp_path, monkeypatch):
    """Where workers share the tests, too: one of them hangs, and what failed before is told and written down."""
    (tmp_path / "test_slow.py").write_text(
        "import time\ndef test_bad(): assert 'apples' == 'pears'\ndef test_hangs(): time.sleep(100)\n"
    )
    monkeypatch.setattr(plan, "ROOT", tmp_path)
    monkeypatch.setattr(plan, "WORKERS", 2)
    monkeypatch.setattr(plan, "WARNINGS", ())  # for one of them each worker would import torch first
    monkeypatch.setitem(stages.GRACES, signal.SIGINT, 60.0)  # other tests keep this machine busy meanwhile
    command = [*plan.tests("none", longest=60), "--rootdir", tmp_path, tmp_path / "test_slow.py"]
    for name in os.environ:
        if name.startswith("PYTEST_"):  # of the pytest around this one
            monkeypatch.delenv(name)
    begin = time.monotonic()
    stage = Stage("tests", 12.0, command)
    variables = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    assert run_all([stage], tmp_path / "out", 120, variables) == 1
    assert time.monotonic() - begin < 12 + stages.RESERVE
    assert statuses(tmp_path / "out") == {"tests": "failed: stopped after 12 s"}
    assert "assert 'apples' == 'pears'" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.slow
def test_nothing_is_begun_without_time_for_it(tmp_path):
    both = [script("import time; time.sleep(2)", "first"), script("", "second")]
    assert run_all(both, tmp_path, stages.LEAST_SECONDS + stages.RESERVE + 1, {}) == 1
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
    monkeypatch.setattr(log, "MOST_LOGGED", 1000)
    monkeypatch.setattr(log, "MOST_AT_THE_END", 2)
    lines = [f"line {k} " + "x" * 92 for k in range(30)]
    assert run_all([script(f"print(*{lines!r}, sep='\\n')"), script("print('next')")], tmp_path, 60, {}) == 0
    logged, screen = (tmp_path / "log.txt").read_text(), capfdbinary.readouterr().out.decode()
    assert [line in logged for line in lines] == [True] * 10 + [False] * 18 + [True] * 2
    assert logged.count("what was printed here is not logged") == 1
    assert all(line in screen for line in lines)
    assert "next" in logged


def test_the_page_has_every_stage_in_its_order_with_its_seconds(tmp_path, no_wheels):
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert rows == [(stage.name, f"{stage.limit:g}", f"{stage.most:g}") for stage in plan.stages(tmp_path, None)]
    for part, seconds in plan.SECONDS.items():
        assert f"Part {part} takes {seconds} seconds at most" in page


def test_the_help_says_what_is_measured_and_what_is_not(capsys):
    with pytest.raises(SystemExit, match="0"):
        make_gpu.main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Measured are" in shown
    assert "Not measured are several GPUs" in shown


# What needs what


def test_what_needs_a_stage_that_failed_is_not_run_and_what_stands_in_for_it_is(tmp_path):
    def everything(status):
        return [
            script(f"raise SystemExit({status})", "build"),
            script("print('kernels')", "kernels")._replace(needs="build"),
            script("print('numbers')", "numbers")._replace(needs="kernels"),
            script("print('elsewhere')", "without")._replace(instead_of="build"),
            script("print('last')", "last"),
        ]

    assert run_all(everything(3), tmp_path / "bad", 90, {}) == 1
    assert statuses(tmp_path / "bad") == {
        "build": "failed: exit status 3",
        "kernels": "not run: it needs build",
        "numbers": "not run: it needs kernels",
        "without": OK,
        "last": OK,
    }
    assert run_all(everything(0), tmp_path / "good", 90, {}) == 0
    assert statuses(tmp_path / "good") == dict.fromkeys(("build", "kernels", "numbers", "last"), OK)


def test_what_others_leave_over_may_be_used():
    some = [Stage("a", 100, [], most=150), Stage("b", 30, [], most=50, needs="a"), Stage("c", 20, [])]
    instead = Stage("d", 60, [], most=90, instead_of="a")
    assert stages.time_limit([*some, instead], {}, left=150) == 100  # no more than what is kept for it
    assert stages.time_limit([*some, instead], {}, left=170) == 120
    assert stages.time_limit([*some, instead], {}, left=300) == 150
    assert stages.time_limit([*some, instead], {}, left=40) == 40
    assert stages.time_limit(some[1:], {"a": OK}, left=60) == 40
    assert stages.time_limit(some[2:], {"a": OK, "b": OK}, left=60) == 20
    bad = {"a": "failed: exit status 1", "b": "not run: it needs a"}
    assert stages.time_limit([some[2], instead], bad, left=200) == 20
    assert stages.time_limit([instead], bad, left=70) == 70
    # what will not run for want of what it needs keeps no time from the others
    assert stages.time_limit([instead, some[1]], bad, left=90) == 90


def test_a_stage_is_told_when_it_will_be_interrupted(tmp_path):
    begin = time.monotonic()
    code = f"import os; print('ends at', float(os.environ[{stages.ENDS!r}]))"
    assert run_all([script(code, limit=30.0)], tmp_path, 90, {}) == 0
    end = float((tmp_path / "log.txt").read_text().partition("ends at ")[2].split()[0])
    assert begin + 30 <= end <= time.monotonic() + 30


def test_the_log_of_a_second_part_follows_that_of_the_first(tmp_path):
    assert run_all([script("print('first part')")], tmp_path, 60, {}) == 0
    assert run_all([script("print('second part')")], tmp_path, 60, {}) == 0
    assert re.search("first part.*=== all.*second part.*=== all", (tmp_path / "log.txt").read_text(), re.DOTALL)


# What the real stages are


PARTS = [1, 2, None]


@pytest.fixture
def no_wheels(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "WHEELS", tmp_path / "wheels")
    return tmp_path / "wheels"


@pytest.mark.parametrize(("part", "expected"), [(1, FIRST), (2, SECOND), (None, FIRST + SECOND)])
def test_what_is_most_valuable_comes_first(no_wheels, tmp_path, part, expected):
    names = [stage.name for stage in plan.stages(tmp_path, part)]
    assert names == BEGINNING + expected + WITHOUT_BUILD
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("part", PARTS)
def test_the_limits_of_a_part_fit_into_its_time(tmp_path, monkeypatch, part):
    """With looking for a GPU before, what ending the last one may take, and wheels to install."""
    monkeypatch.setattr(plan, "WHEELS", tmp_path)
    (tmp_path / "a-1-py3-none-any.whl").touch()
    usual = [stage for stage in plan.stages(tmp_path, part) if not stage.instead_of]
    limits = sum(stage.limit for stage in usual)
    assert plan.PROBING + limits + stages.RESERVE <= plan.seconds(part)
    assert all(stage.limit >= stages.LEAST_SECONDS for stage in plan.stages(tmp_path, part))
    assert plan.seconds(part) <= {1: 270, 2: 450, None: 720}[part]


@pytest.mark.parametrize("part", PARTS)
def test_the_real_stages_can_be_run(tmp_path, part, no_wheels):
    no_wheels.mkdir()
    (no_wheels / "a-1-py3-none-any.whl").touch()
    whole = plan.stages(tmp_path, part)
    commands = {stage.name: list(map(str, stage.command)) for stage in whole}
    assert list(commands)[1] == "wheels"
    assert commands["wheels"][-1] == str(no_wheels / "a-1-py3-none-any.whl")
    assert {"--no-index", "--no-deps"} <= set(commands["wheels"])
    for command in commands.values():
        for module in (part for flag, part in pairwise(command) if flag == "-m"):
            path = ROOT / module.replace(".", "/")
            assert module in ("pip", "pytest") or path.with_suffix(".py").exists()
        if "pytest" in command:
            assert [path for path in command if path.endswith(".py")] == sorted(
                map(str, ROOT.glob("tests/gpu/test_gpu_*.py"))
            )
    for position, stage in enumerate(whole):
        assert {stage.needs, stage.instead_of} <= {"", *list(commands)[:position]}


def test_a_test_that_hangs_is_ended_before_its_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(plan.util, "find_spec", lambda name: name)  # pytest-timeout is not everywhere
    for stage in plan.stages(tmp_path, None):
        command = list(map(str, stage.command))
        if "pytest" in command:
            assert int(command[command.index("--timeout") + 1]) < stage.limit


@pytest.mark.parametrize("part", PARTS)
def test_few_files_come_back(tmp_path, part):
    """The log, the tables, the module that was built: no more than a lent machine gives back."""
    whole = [stage for stage in plan.stages(tmp_path, part) if not stage.instead_of]
    words = " ".join(str(word) for stage in whole for word in stage.command)
    tables = {"bench.gpu.surgery", "bench.gpu.norm", "bench.gpu.step", "bench.gpu.weightings", "ncu.csv"}
    assert set(re.findall(r"bench\.gpu\.\w+|ncu\.csv", words)) <= tables
    assert 2 + sum(name in words for name in tables) < stages.MOST_FILES  # one to spare


@pytest.fixture
def faked(tmp_path, monkeypatch, no_wheels):
    """Runs a part whose stages do nothing, but those that are to fail; returns their statuses."""
    monkeypatch.setattr(make_gpu, "_capability", lambda: "9.0")
    monkeypatch.chdir(tmp_path)
    real = plan.stages

    def run(part, failing=()):
        def fake(folder, part):
            codes = {stage.name: "raise SystemExit(1)" if stage.name in failing else "" for stage in real(folder, part)}
            return [stage._replace(command=[PYTHON, "-c", codes[stage.name]]) for stage in real(folder, part)]

        monkeypatch.setattr(make_gpu, "stages", fake)
        status = make_gpu.main([str(tmp_path / "out"), *([] if part is None else ["--part", str(part)])])
        found = statuses(tmp_path / "out")
        assert status == int(any(words != OK for words in found.values()))
        return found

    return run


@pytest.mark.parametrize(("part", "expected"), [(1, FIRST), (2, SECOND), (None, FIRST + SECOND)])
def test_a_part_where_all_goes_well(faked, part, expected):
    assert faked(part) == dict.fromkeys(BEGINNING + expected, OK)


@pytest.mark.parametrize("part", PARTS)
def test_without_a_build_only_what_needs_none_is_run(faked, part):
    ran = [name for name, status in faked(part, failing=("build",)).items() if not status.startswith("not run")]
    assert ran == ["environment", "build", *WITHOUT_BUILD]


def test_looking_for_a_gpu_takes_of_the_parts_time(tmp_path, monkeypatch, no_wheels):
    clock, met = iter([100.0, 112.5]), []
    monkeypatch.setattr(make_gpu, "monotonic", lambda: next(clock))
    monkeypatch.setattr(make_gpu, "_capability", lambda: "9.0")
    monkeypatch.setattr(make_gpu, "run_all", lambda stages, folder, seconds, environment: met.append(seconds) or 0)
    monkeypatch.chdir(tmp_path)
    assert make_gpu.main([str(tmp_path), "--part", "1"]) == 0
    assert met == [270 - 12.5]


def test_the_first_part_ends_where_a_kernel_is_wrong(faked):
    found = faked(1, failing=("every_kernel",))
    ran = [name for name, status in found.items() if not status.startswith("not run")]
    assert ran == BEGINNING
    assert {found[name] for name in FIRST} == {"not run: it needs every_kernel"}


def test_in_the_second_part_what_is_not_cuda_goes_on_where_a_kernel_is_wrong(faked):
    found = faked(2, failing=("every_kernel",))
    assert [name for name in SECOND if found[name] == OK] == [
        "backends",
        "other_tests",
        "norm",
        "weightings",
        "memcheck",
    ]


@pytest.mark.slow
def test_every_test_that_needs_a_gpu_is_run_in_one_of_the_parts():
    collected, total = 0, 0
    files = list(map(str, ROOT.glob("tests/gpu/test_gpu_*.py")))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    chosen = [stage.command for stage in plan.stages(ROOT, None) if "tests" in stage.name and not stage.instead_of]
    asked = [list(command)[list(command).index("--backends") + 1] for command in chosen]
    assert asked == ["cuda", "triton,reference,none"]
    for backends_of in (*asked, "cpu"):
        command = [PYTHON, "-m", "pytest", "-p", "gpu.selection", "--backends", backends_of, "--collect-only", "-q"]
        command += ["-p", "no:cacheprovider", *files]
        done = subprocess.run(command, cwd=ROOT, env=inherited, capture_output=True, text=True, check=True)
        listed = [line for line in done.stdout.splitlines() if "::" in line]
        assert all(f"{name} on a GPU" not in line for line in listed for name in BACKENDS - set(backends_of.split(",")))
        collected += len(listed)
        total = int(re.search(r"/(\d+) tests collected", done.stdout)[1])
    assert collected == total > 2000


BACKENDS = {"cuda", "triton", "reference"}


def test_the_environment_puts_what_was_built_before_the_checkout():
    environment = make_gpu.environment("9.0")
    first, *_, last = environment["PYTHONPATH"].split(os.pathsep)
    assert (first, last) == (str(places.LIBRARY), str(ROOT))
    assert environment["TORCH_CUDA_ARCH_LIST"] == "9.0"
    assert environment["OMP_NUM_THREADS"] == environment["TORCHINDUCTOR_COMPILE_THREADS"] == "1"
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)  # where ninja is


@pytest.mark.slow
def test_the_pytest_of_the_stage_collects_its_tests(tmp_path):
    """As it will be called there, but for running them."""
    command = [*map(str, plan.tests("cuda", longest=60)), "--collect-only"]
    # of the variables that the pytest around this one has set (it may be a worker of pytest-xdist's), none
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**inherited, **make_gpu.environment("9.0"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "test_gpu_kernels.py" in done.stdout


WARNS = """
import warnings
import gmd_kernels as gk
def test_torch_says_something_of_a_new_card(): warnings.warn("no current context", UserWarning)
def test_python_says_something(): warnings.warn("of its future", FutureWarning)
def test_another_backend_took_the_call(): warnings.warn("no kernels", gk.FallbackWarning)
def test_numbers_that_overflow(): warnings.warn("overflow", RuntimeWarning)
"""


@pytest.mark.slow
def test_what_a_card_is_new_for_is_no_failure_and_another_backend_is(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "WORKERS", 0)
    (tmp_path / "test_warns.py").write_text(WARNS)
    usual = list(map(str, plan.tests("none", longest=60)))
    options = [word for word in usual if not word.endswith(".py")]
    command = [*options, "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**inherited, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    failed = set(re.findall(r"FAILED \S+::(\w+)", done.stdout))
    assert failed == {"test_another_backend_took_the_call", "test_numbers_that_overflow"}, done.stdout + done.stderr
    assert "2 failed, 2 passed" in done.stdout


@pytest.mark.parametrize("broken", [None, "triton"])
def test_each_backend_is_asked_by_name(monkeypatch, capsys, broken):
    """One that is there and does not load is found out."""
    usable = {name: backends.gk.Backend(True, "is there") for name in ("cuda", "cpu", "triton", "reference")}
    monkeypatch.setattr(backends.gk, "backends", lambda: usable)
    monkeypatch.setattr(backends, "what_is_wrong", lambda device, name: "does not load" if name == broken else None)
    monkeypatch.setattr(backends, "tell_launches", lambda: print("launches are told"))
    assert backends.main() == (broken is not None)
    shown = capsys.readouterr().out
    for name in ("cuda", "triton", "reference"):
        end = "does not load" if name == broken else "merged as they should be"
        assert f"three known gradients through {name}: {end}" in shown
    assert "launches are told" in shown


def test_the_environment_is_told(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gpu.environment"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"torch {torch.__version__}" in done.stdout
    assert "$ nvidia-smi" in done.stdout
    for package in ("setuptools", "ninja", "pybind11", "pytest-xdist", "pytest-timeout"):
        assert f"\n{package} " in done.stdout
