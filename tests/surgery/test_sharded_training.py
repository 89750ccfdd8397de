"""scope="global" where parameters are cut up between processes: the surgery of one process that has all of it."""

from functools import partial
from pathlib import Path

import pytest
import torch

import gmd
from gmd.surgery import MeanGradient
from helpers.several_processes import in_processes
from helpers.sharded_cases import Case, both, fsdp, hsdp, tensor_parallel, train


def gmd_of(optimizer, network, **options):
    return gmd.GMD(optimizer, generator=torch.Generator().manual_seed(3), model=network, **options)


def surgeon_of(optimizer, network, weighting, **options):
    return gmd.Surgeon(optimizer, weighting, model=network, **options)


def mean_of(optimizer, network, **options):
    return MeanGradient(optimizer, **options)


def mean_of_network(optimizer, network, **options):
    return MeanGradient(optimizer, model=network, **options)


GMD = Case(gmd_of)
EVERYWHERE = {  # what works however parameters are cut
    "gmd": GMD,
    "a list": GMD._replace(how=("list", "unused")),
    "modules": Case(partial(gmd_of, granularity="module"), how=("eps",)),
    "tensors": Case(partial(gmd_of, granularity="tensor"), how=("eps",)),
    "upgrad": Case(partial(surgeon_of, weighting="upgrad")),
    "now and then": Case(partial(gmd_of, every=2), steps=5),
    "now and then, unused": Case(partial(gmd_of, every=2), how=("unused",), steps=5),
    "scaler": GMD._replace(how=("scaler",)),
    "now and then, scaler": Case(partial(gmd_of, every=2), how=("scaler",)),
    "accumulated": GMD._replace(how=("twice",)),
    "parts": GMD._replace(how=("parts",)),
    "mean": Case(mean_of),
    "mean, unused": Case(mean_of_network, how=("unused",)),
}
OUTPUTS = {
    "outputs": GMD._replace(how=("outputs",)),
    "outputs, lacking": GMD._replace(how=("outputs", "lacking")),
    "outputs, parts": GMD._replace(how=("outputs", "parts")),
    "outputs, modules": Case(partial(gmd_of, granularity="module"), how=("outputs", "eps")),
    "few directions": Case(partial(gmd_of, tol=0.3), how=("outputs",)),
    "few directions, lacking": Case(partial(gmd_of, tol=0.3), how=("outputs", "lacking")),
    "by sample": Case(partial(gmd_of, by_sample=True), how=("outputs",)),
    "now and then, outputs": Case(partial(gmd_of, every=2), how=("outputs",), steps=5),
    "now and then, few directions": Case(partial(gmd_of, every=2, tol=0.3), how=("outputs",), steps=5),
}
CASES = EVERYWHERE | OUTPUTS
SOME = ("gmd", "modules", "now and then, unused", "outputs, lacking", "few directions")
QUICK = ("gmd", "now and then, unused", "few directions, lacking")


def work(rank: int, cuts, cases) -> dict:
    """What a process finds in each case."""
    torch.manual_seed(rank)
    return {f"{cut.__name__}, {name}": train(cases[name], cut) for cut in cuts for name in cases}


@pytest.fixture(scope="module")
def expected() -> dict:
    """What one process finds, with the options of "global" left out."""
    return {name: train(case) for name, case in CASES.items()}


def assert_close(got, expected, told: str, atol: float = 1e-12) -> None:
    if isinstance(expected, list):
        for a, b in zip(got, expected, strict=True):
            assert_close(a, b, told, atol)
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(got, expected, rtol=0, atol=atol, msg=lambda m: f"{told}: {m}")
    else:
        assert got == expected, told


def assert_as_one(found: list[dict], expected: dict) -> None:
    for rank, result in enumerate(found):
        for name, ours in result.items():
            one = expected[name.split(", ", 1)[1]]
            # weights are quotients of what is nearly zero in a tensor of one number
            atol = 1e-11 if name.endswith("tensors") else 1e-12
            for step, (a, b) in enumerate(zip(ours["told"], one["told"], strict=True)):
                if a["norms"] is not None:  # of this process's outputs
                    b = b | {"norms": b["norms"][: len(a["norms"])]}
                for key in b:
                    assert_close(a[key], b[key], f"{name}, process {rank}, step {step}, {key}", atol)
            assert_close(ours["params"], one["params"], f"{name}, process {rank}, parameters", atol)


def test_two_processes_are_as_one(expected, tmp_path: Path):
    cases = {name: CASES[name] for name in QUICK}
    assert_as_one(in_processes(2, partial(work, cuts=(fsdp, tensor_parallel), cases=cases), tmp_path), expected)


@pytest.mark.slow
def test_two_processes_are_as_one_in_all_cases(expected, tmp_path: Path):
    cuts = (fsdp, tensor_parallel)
    assert_as_one(in_processes(2, partial(work, cuts=cuts, cases=CASES), tmp_path), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor")  # of tensor parallelism
def test_four_processes_are_as_one(expected, tmp_path: Path):
    cases = {name: CASES[name] for name in SOME}
    assert_as_one(in_processes(4, partial(work, cuts=(fsdp, hsdp, both), cases=cases), tmp_path), expected)
