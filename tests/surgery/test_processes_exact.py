"""scope="global": several processes make the surgery that one would make on all of their batches."""

from functools import partial

import pytest
import torch

import gmd
from gmd.surgery import MeanGradient
from helpers.process_cases import Case, train
from helpers.several_processes import in_processes


def gmd_of(optimizer, network, seed, **options):
    return gmd.GMD(optimizer, generator=torch.Generator().manual_seed(seed), model=network, **options)


def surgeon_of(optimizer, network, seed, weighting, **options):
    if weighting == "gradvac":
        weighting = gmd.Weighting("gradvac", generator=torch.Generator().manual_seed(seed))
    return gmd.Surgeon(
        optimizer, gmd.Weighting("cagrad", smooth=0.5) if weighting == "cagrad" else weighting, **options
    )


def mean_of(optimizer, network, seed, **options):
    return MeanGradient(optimizer, **options)


GMD = Case(gmd_of)
CASES = {
    "gmd": GMD,
    "sum": Case(partial(gmd_of, reduction="sum"), wrapped=False),
    "modules": Case(partial(gmd_of, granularity="module")),
    "tensors": Case(partial(gmd_of, granularity="tensor")),
    "upgrad": Case(partial(surgeon_of, weighting="upgrad")),
    "cagrad": Case(partial(surgeon_of, weighting="cagrad")),
    "gradvac": Case(partial(surgeon_of, weighting="gradvac")),
    "stand-ins": GMD._replace(how=("stand-ins",)),
    "a list": GMD._replace(how=("list", "same")),
    "frozen": GMD._replace(how=("frozen",)),
    "outputs": GMD._replace(how=("outputs",)),
    "outputs, stand-ins": GMD._replace(how=("outputs", "stand-ins")),
    "factors": GMD._replace(how=("outputs", "factors")),
    "factors, few directions": Case(partial(gmd_of, tol=0.3), how=("outputs", "factors")),
    "few directions": Case(partial(gmd_of, tol=0.3), how=("outputs",)),
    "few directions, tensors": Case(partial(gmd_of, tol=0.3, granularity="tensor"), how=("outputs",)),
    "by sample": Case(partial(gmd_of, by_sample=True), how=("outputs",)),
    "now and then": Case(partial(gmd_of, every=2), how=("stand-ins",), steps=5),
    "auto": Case(partial(gmd_of, every="auto"), how=("stand-ins",), steps=6),
    "now and then, a list": Case(partial(gmd_of, every=2), how=("list", "same"), steps=5),
    "now and then, outputs": Case(partial(gmd_of, every=2), how=("outputs",), steps=5),
    "now and then, few directions": Case(partial(gmd_of, every=2, tol=0.3), how=("outputs",), steps=5),
    "part": Case(partial(gmd_of, every=2), how=("part",), steps=4),
    "mean": Case(mean_of),
    "mean, outputs": Case(mean_of, how=("outputs",)),
}
IN_PARTS = {  # how to train in two parts, and as what
    "gmd": GMD._replace(how=("same",)),
    "tensors, outputs": Case(partial(gmd_of, granularity="tensor"), how=("outputs",)),
    "upgrad": Case(partial(surgeon_of, weighting="upgrad")),
}


def work(rank: int, world: int = 2) -> dict:
    """What a process finds in each case."""
    torch.manual_seed(rank)
    found = {name: train(case, rank, world) for name, case in CASES.items()}
    return found | {f"parts: {name}": train(case, rank, world, parts=True) for name, case in IN_PARTS.items()}


@pytest.fixture(scope="module")
def expected() -> dict:
    """What one process finds."""
    cases = CASES | {f"parts: {name}": case for name, case in IN_PARTS.items()}
    return {name: train(case, 0, 1) for name, case in cases.items()}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return in_processes(2, work, tmp_path_factory.mktemp("two"))


def assert_same(got: dict, expected: dict, first: bool, parts: bool = False) -> None:
    """To 1e-12; what is told of outputs is compared where the process has all of them."""
    close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)
    for mine, alone in zip(got["told"], expected["told"], strict=True):
        assert mine["names"] == alone["names"]
        assert mine["refreshed"] == alone["refreshed"]
        close(mine["losses"], alone["losses"])
        close(mine["grams"], alone["grams"], rtol=1e-11)
        close(mine["weights"], alone["weights"], rtol=1e-10)
        for a, b in zip(mine["grads"], alone["grads"], strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                close(a, b)
        if first and not parts:
            assert mine["directions"] == alone["directions"]
            assert (mine["norms"] is None) == (alone["norms"] is None)
            if mine["norms"] is not None:
                close(mine["norms"], alone["norms"])
    for a, b in zip(got["params"], expected["params"], strict=True):
        close(a, b)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_as_one(found, expected, name):
    for rank, got in enumerate(found):
        assert_same(got[name], expected[name], first=rank == 0)


@pytest.mark.parametrize("name", IN_PARTS)
def test_two_parts_are_as_one_batch(found, expected, name):
    for rank, got in enumerate(found):
        assert_same(got[f"parts: {name}"], expected[f"parts: {name}"], first=rank == 0, parts=True)


@pytest.mark.parametrize("name", IN_PARTS)
def test_two_parts_are_as_one_batch_in_one_process_too(expected, name):
    got = train(IN_PARTS[name], 0, 1, parts=True)
    assert_same(got, expected[f"parts: {name}"], first=True, parts=True)


@pytest.mark.slow
@pytest.mark.parametrize("world", [3, 4])
def test_more_processes_are_as_one(expected, world, tmp_path):
    for got in in_processes(world, partial(work, world=world), tmp_path):
        for name in expected:
            assert_same(got[name], expected[name], first=False, parts=name.startswith("parts: "))
