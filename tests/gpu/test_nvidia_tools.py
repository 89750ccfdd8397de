"""The kernels under compute-sanitizer and ncu: what these say is judged, and they are found where NVIDIA puts them."""

import os
import re
import sys
from pathlib import Path

import pytest
import torch

from gpu import environment, every_kernel, hot_kernels, launches, nvidia_tools, tools
from helpers.places import ROOT

PYTHON = sys.executable


@pytest.mark.parametrize("num_objectives", [1, 7, 17])
def test_the_script_for_the_sanitizers_is_right_about_the_values(num_objectives, monkeypatch):
    every_kernel.check(every_kernel.gradients(num_objectives), "cpu", offset=1)
    real = every_kernel.gk.combine
    monkeypatch.setattr(
        every_kernel.gk, "combine", lambda grads, w, out=None: real(grads, 1.01 * w if out else w, out=out)
    )
    with pytest.raises(AssertionError):
        every_kernel.check(every_kernel.gradients(num_objectives), "cpu", offset=0)


@pytest.mark.parametrize(("arguments", "expected"), [([], every_kernel.OFFSETS), (["--few"], every_kernel.FEW_OFFSETS)])
def test_a_sanitizer_may_be_shown_few_cases(monkeypatch, arguments, expected):
    met = []
    monkeypatch.setattr(every_kernel.torch, "ones", lambda *size, device: torch.tensor(1.0))
    monkeypatch.setattr(every_kernel, "check", lambda grads, device, offset: met.append((len(grads), offset)))
    monkeypatch.setattr(every_kernel, "check_norm", lambda *arguments: None)
    monkeypatch.setattr(every_kernel, "check_sketch", lambda *arguments: None)
    weighted, partly_kept = [], []
    monkeypatch.setattr(every_kernel, "check_weightings", lambda *arguments: weighted.append(arguments))
    monkeypatch.setattr(every_kernel, "check_partly_kept", lambda *arguments: partly_kept.append(arguments))
    monkeypatch.setattr(sys, "argv", ["every_kernel", *arguments])
    every_kernel.main()
    assert weighted == [(t, "cuda") for t in ((5,) if arguments else (2, 5, 33))]
    assert partly_kept == ([] if arguments else [(16, 600_007, "cuda")])
    assert met == [(t, offset) for t, offsets in expected.items() for offset in offsets]
    assert set(every_kernel.FEW_OFFSETS) <= set(every_kernel.OFFSETS)


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


def test_the_edge_of_what_is_kept_is_beyond_what_shared_memory_holds(monkeypatch):
    """On a Hopper: 132 times 227 KB hold less than half of that case's gradients, and more than nothing."""
    num_objectives, numel = every_kernel.PARTLY_KEPT
    kept = 132 * 227 * 1024 / (num_objectives * 2 * numel * 4)
    assert 0.25 < kept < 0.5
    every_kernel.check_partly_kept(num_objectives, 1007, "cpu")
    real = every_kernel.gk.surgery
    calls = []

    def wrong_the_second_time(grads, generator):
        calls.append(grads)
        found = real(grads, generator=generator)
        return every_kernel.gk.Surgery([m * len(calls) for m in found.merged], found.gram, found.weights)

    monkeypatch.setattr(every_kernel.gk, "surgery", wrong_the_second_time)
    with pytest.raises(AssertionError):
        every_kernel.check_partly_kept(num_objectives, 1007, "cpu")


@pytest.mark.parametrize("num_objectives", every_kernel.SIZES)
def test_the_script_for_the_sanitizers_looks_at_every_weightings_values(num_objectives, monkeypatch):
    every_kernel.check_weightings(num_objectives, "cpu")
    for name in (*every_kernel.WEIGHTINGS, "gradvac"):
        real, calls = getattr(every_kernel.gk.weightings, name), []

        def wrong_the_first_time(*arguments, real=real, calls=calls, **options):
            calls.append(arguments)
            return real(*arguments, **options) * (1.01 if len(calls) == 1 else 1.0)

        with monkeypatch.context() as patch:
            patch.setitem(every_kernel.gk.weightings._BY_NAME, name, wrong_the_first_time)
            patch.setattr(every_kernel.gk.weightings, name, wrong_the_first_time)
            with pytest.raises(AssertionError):
                every_kernel.check_weightings(num_objectives, "cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_script_for_the_sanitizers_looks_at_the_sketchs_values(dtype, monkeypatch):
    every_kernel.check_sketch(dtype, "cpu")
    real = every_kernel.gk.sketch_
    seeds = iter([3, 4])
    monkeypatch.setattr(every_kernel.gk, "sketch_", lambda sketch, grads, seed: real(sketch, grads, next(seeds)))
    with pytest.raises(AssertionError):
        every_kernel.check_sketch(dtype, "cpu")


# What the review of the kernels asks for: what it is that holds them up.
ASKED = {
    *("gpu__time_duration.sum", "sm__cycles_elapsed.max", "dram__throughput.avg.pct_of_peak_sustained_elapsed"),
    *("smsp__issue_active.avg.pct_of_peak_sustained_active", "smsp__inst_executed.sum"),
    *("smsp__inst_executed_pipe_fp64.sum", "smsp__inst_executed_pipe_xu.sum"),
    *(
        f"smsp__average_warps_issue_stalled_{reason}_per_issue_active.ratio"
        for reason in ("long_scoreboard", "no_instruction", "math_pipe_throttle", "lg_throttle")
    ),
    *("lts__t_sectors_op_read.sum", "lts__t_sectors_op_read_lookup_hit.sum"),
    "l1tex__data_bank_conflicts_pipe_lsu.sum",
}


def test_ncu_counts_what_tells_why_a_kernel_is_slow():
    assert set(nvidia_tools.METRICS) >= ASKED
    assert len(set(nvidia_tools.METRICS)) == len(nvidia_tools.METRICS)
    assert not any(metric.startswith("sm__throughput") for metric in nvidia_tools.METRICS)  # many passes by itself


def test_ncu_sees_the_case_that_stays_on_the_chip_and_both_types():
    names = [case.name for case in hot_kernels.CASES]
    assert {"small-0.46M-T15", "transformer-5.6M-T15", "transformer-5.6M-T15-bf16"} <= set(names)


KERNEL_FILES = sorted((ROOT / "csrc" / "cuda").rglob("*.cu"))
# which gpu.hot_kernels does not launch, or whose time is that of a launch; a weighting is one block
NOT_PROFILED = {
    "upload",
    "sketch",
    "sketch_sum",
    *(path.stem for path in KERNEL_FILES if path.parent.name == "weightings"),
}


@pytest.mark.parametrize("path", KERNEL_FILES, ids=lambda path: path.stem)
def test_ncu_looks_at_every_kernel_that_counts(path):
    (name,) = set(re.findall(r"(\w+_kernel)\(", path.read_text().partition("__global__")[2].partition("{")[0]))
    looked_at = re.search(nvidia_tools.KERNELS.removeprefix("regex:"), name) is not None
    assert looked_at == (path.stem not in NOT_PROFILED), name


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
    monkeypatch.setattr(nvidia_tools, "_runs_well", lambda script: True)


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
    assert nvidia_tools.sanitize("compute-sanitizer", "memcheck") == expected
    told = f"did not work here: {REFUSES}; it needs a machine that shows the GPU itself"
    assert (told in capfd.readouterr().out) == (expected == 77)


@pytest.mark.parametrize(("name", "shown"), [("memcheck", "1"), ("racecheck", "None")])
def test_every_tensor_has_memory_of_its_own_only_where_accesses_are_checked(tool, good_script, capfd, name, shown):
    tool("compute-sanitizer", "import os; print(os.environ.get('PYTORCH_NO_CUDA_MEMORY_CACHING'))", 0)
    nvidia_tools.sanitize("compute-sanitizer", name)
    assert capfd.readouterr().out.splitlines()[1] == shown


COUNTED, NO_COUNTERS = f"gram,{nvidia_tools.METRICS[0]},1.0", "==ERROR== ERR_NVGPUCTRPERM - no permission"


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
    assert nvidia_tools.profile("ncu", table) == expected
    told = f"did not work here: {NO_COUNTERS}; run all as root, or let everybody read the counters"
    assert (told in capfd.readouterr().out) == (expected == 77)


@pytest.mark.parametrize("name", ["memcheck", "ncu"])
def test_a_script_that_fails_without_the_tool_is_a_failure(tmp_path, tool, monkeypatch, capfd, name):
    for program in ("compute-sanitizer", "ncu"):
        tool(program, f"print({REFUSES!r})", 1)
    tool("python", "print('a bug of ours')", 3)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", ["nvidia_tools", name, str(tmp_path / "ncu.csv")])
    assert nvidia_tools.main() == 1
    shown = capfd.readouterr().out
    assert "a bug of ours\nfailed without the tool already: exit status 3" in shown
    assert "did not work here" not in shown


def test_a_tool_that_is_not_there(monkeypatch, capfd):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(tools, "PLACES", ())
    monkeypatch.setattr(sys, "argv", ["nvidia_tools", "racecheck"])
    assert nvidia_tools.main() == 77
    told = capfd.readouterr().out
    assert "did not work here: compute-sanitizer is neither on the PATH nor" in told
    assert "install CUDA's toolkit, or set CUDA_HOME" in told


def put_program(folder: Path, name: str) -> str:
    folder.mkdir(parents=True)
    (folder / name).write_text("#!/bin/sh\necho version 1\n")
    (folder / name).chmod(0o755)
    return str(folder / name)


def test_a_tool_is_found_where_nvidia_puts_it(tmp_path, monkeypatch, capfd):
    """On the PATH first, then in CUDA_HOME, then the newest version of the usual folders."""
    monkeypatch.setattr(tools, "PLACES", (f"{tmp_path}/nsight/*", f"{tmp_path}/local/cuda*/bin"))
    monkeypatch.setenv("PATH", str(tmp_path / "on_path"))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    assert tools.find("ncu") is None
    local = put_program(tmp_path / "local" / "cuda-13.0" / "bin", "ncu")
    assert tools.find("ncu") == local
    put_program(tmp_path / "nsight" / "2025.9.0", "ncu")
    newest = put_program(tmp_path / "nsight" / "2025.10.1", "ncu")
    assert tools.find("ncu") == newest
    assert tools.find("compute-sanitizer") is None
    home = put_program(tmp_path / "home" / "bin", "ncu")
    assert tools.find("ncu") == home
    environment.main()
    assert f"$ {home} --version\nversion 1\n" in capfd.readouterr().out
    on_path = put_program(tmp_path / "on_path", "ncu")
    assert tools.find("ncu") == on_path


def test_the_usual_places_are_nvidias():
    assert tools.PLACES[:2] == ("/opt/nvidia/nsight-compute/*", "/usr/local/cuda*/bin")


def test_of_all_that_the_profiler_sees_our_kernels_are_told_by_name():
    names = [
        "void gmd::cuda::(anonymous namespace)::surgery_kernel<15>(gmd::cuda::Table, gmd::cuda::Workspace)",
        "Memcpy HtoD (Pageable -> Device)",
        "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float> >(int)",
        "gmd::cuda::upload_kernel(gmd::cuda::Words, int, unsigned long*)",
        "gmd::cuda::_GLOBAL__N__1f2e_10_weights_cu_ab::weights_kernel(double const*, int)",
    ]
    assert launches.ours(names) == ["surgery_kernel", "upload_kernel", "weights_kernel"]
