"""What a stage has printed tells what it lacks, and what to do about that: in one line, and only where it does."""

import signal
import subprocess
import sys

import pytest

from gpu import __main__ as make_gpu
from gpu.hints import Hints, ended, hint
from helpers.places import ROOT

TOLD = {
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 7.6 GiB": "memory",
    "torch.AcceleratorError: CUDA error: out of memory": "the GPU has too little memory left",
    "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update": "update it",
    "torch.AcceleratorError: CUDA error: CUDA driver version is insufficient for CUDA runtime version": "older than",
    "CUDA error: system has unsupported display driver / cuda driver combination": "older than",
    "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device": "remove built/",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable": "another process",
    "#error -- unsupported GNU version! gcc versions later than 15 are not supported!": "CXX",
    "Attempted to use ninja as the backend but we could not find ninja.. Falling back": "ninja is missing",
    "RuntimeError: Ninja is required to load C++ extensions": "ninja is missing",
    "ModuleNotFoundError: No module named 'pandas'": "the package pandas is missing; put its wheel into wheels/",
    "E   ModuleNotFoundError: No module named 'hypothesis'": "the package hypothesis is missing",
    "/usr/bin/python3.12: No module named pytest": "the package pytest is missing",
    "OSError: [Errno 28] No space left on device": "the disk is full",
    "did not work here: ncu is neither on the PATH nor in one of its usual places; install it": "neither on the PATH",
}


@pytest.mark.parametrize("line", TOLD)
def test_a_line_tells_what_is_missing(line):
    assert TOLD[line] in hint(line + "\n")
    assert "\n" not in hint(line + "\n")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "692 passed in 40.2s",
        "torchjd is not installed: No module named 'torchjd'",  # who takes part in the benchmark says so itself
        "assert 'apples' == 'pears'",
        "transformer-64M-T15: 1.7 ms, 92% of the floor",
    ],
)
def test_a_line_of_something_else_tells_nothing(line):
    assert hint(line) == ""


def test_the_last_hint_counts():
    hints = Hints()
    assert hints.sentence == ""
    for line in ("No space left on device", "nothing in particular", "CUDA error: out of memory", "the end"):
        hints.heed(line)
    assert "too little memory" in hints.sentence


def test_the_words_of_the_build_are_those_of_setup():
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert "the CUDA kernels cannot be built, as GMD_FORCE_CUDA=1 asks for: {no_cuda}" in text
    words = "gmd_kernels: the CUDA kernels cannot be built, as GMD_FORCE_CUDA=1 asks for: no nvcc; install it.\n"
    assert hint(words) == "no nvcc; install it"


@pytest.mark.parametrize(
    ("code", "words"),
    [(1, "exit status 1"), (-9, "ended by SIGKILL"), (137, "ended by SIGKILL"), (-11, "ended by SIGSEGV")],
)
def test_the_way_a_stage_has_ended(code, words):
    assert ended(code) == words


def test_a_killed_process_has_such_a_status():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process.send_signal(signal.SIGKILL)
    assert ended(process.wait()) == "ended by SIGKILL"


# Looking for a GPU, before any stage


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise RuntimeError('The NVIDIA driver on your system is too old (found version 11040).')", "update it, or"),
        ("raise RuntimeError('No CUDA GPUs are available')", "No CUDA GPUs are available"),
        ("import no_such_torch", "the package no_such_torch is missing"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "python: ended by SIGSEGV"),
        ("import time; time.sleep(60)", "its driver hangs"),
    ],
)
def test_why_there_is_no_gpu(monkeypatch, capsys, tmp_path, code, told):
    monkeypatch.setattr(make_gpu, "PROBE", code)
    monkeypatch.setattr(make_gpu, "LONGEST_PROBE", 0.3 if "sleep" in code else 60.0)
    assert make_gpu.main([str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert not (tmp_path / "out").exists()
