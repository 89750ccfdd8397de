"""What a training runs on and how much memory it takes, as its metrics say."""

import os
import resource
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import torch

import gmd.training.loop
from gmd.monitor.resources import device_name, peak_memory, reset_peak_memory, total_memory
from gmd.training.loop import train
from gmd.training.saved_run import load_run
from helpers.run_cases import tiny_sentiment
from helpers.training_cases import read_metrics

CPU = torch.device("cpu")


@pytest.mark.usefixtures("one_thread", "no_pictures")
def test_a_run_says_what_it_ran_on(sentiment: Path, tmp_path: Path):
    run = train(tiny_sentiment(sentiment, tmp_path / "run"))
    [start] = read_metrics(run, "start")
    assert datetime.fromisoformat(start.pop("time")).utcoffset().total_seconds() == 0
    assert start.pop("device") == device_name(CPU)
    _, network = load_run(run)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    versions = {"torch": torch.__version__, "gmd": gmd.__version__}
    assert start == {"kind": "start", "epoch": 0, "step": 0, "threads": 1, "parameters": parameters} | versions
    for epoch in read_metrics(run, "epoch"):
        assert 100 < epoch["memory_MB"] < total_memory(CPU)


@pytest.mark.slow
def test_a_peak_is_remembered_and_not_that_of_another_process():
    before = peak_memory(CPU)
    code = "import torch; from gmd.monitor.resources import peak_memory; print(peak_memory(torch.device('cpu')))"
    torch.ones(int(before * 1e6) // 8 + 50_000_000, dtype=torch.float64)
    assert peak_memory(CPU) > before + 400
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 100 < float(child.stdout) < peak_memory(CPU)


def test_of_a_gpu_torch_is_asked(monkeypatch: pytest.MonkeyPatch):
    gpu = torch.device("cuda", 3)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {gpu: 7e6}[device])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: {gpu: "Some GPU"}[device])
    assert peak_memory(gpu) == 7
    assert device_name(gpu) == "Some GPU"


@pytest.mark.usefixtures("one_thread", "no_pictures")
def test_the_peak_of_a_gpu_is_that_of_this_training(sentiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A bug: fold 1 of a cross-validation had the peak of fold 0, of the same process."""
    reset = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    gpu = torch.device("cuda", 3)
    for device in (CPU, gpu):
        reset_peak_memory(device)
    assert reset == [gpu]
    monkeypatch.setattr(gmd.training.loop, "reset_peak_memory", reset.append)
    train(tiny_sentiment(sentiment, tmp_path / "run"))
    assert reset == [gpu, CPU]


def test_the_machine_has_the_memory_it_has_or_what_ulimit_leaves(monkeypatch: pytest.MonkeyPatch):
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    monkeypatch.setattr(Path, "exists", lambda path: False)  # the limits of a container
    for limit, total in [(resource.RLIM_INFINITY, machine), (2**62, machine), (10**9, 1000)]:
        monkeypatch.setattr(resource, "getrlimit", lambda which, limit=limit: {resource.RLIMIT_AS: (limit, -1)}[which])
        assert total_memory(CPU) == pytest.approx(total)
