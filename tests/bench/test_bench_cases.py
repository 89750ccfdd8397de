"""The cases of the benchmark are what their names say, and their gradients are like those of a training."""

from math import prod

import pytest
import torch

pytest.importorskip("matplotlib", reason="the benchmark's extras are not installed")

from bench.measure import oracle
from bench.measure.cases import CASES, LAYOUTS, Case
from bench.tables import targets
from helpers.bench_cases import OBJECTIVES, same


def test_registry_has_the_cases_that_the_targets_name():
    float32 = {f"{layout}-5.6M-T{t}" for layout in ("unet", "transformer") for t in (4, 7, 15)}
    bf16 = {f"transformer-5.6M-T{t}-bf16" for t in (4, 7, 15)}
    assert {*float32, *bf16, "small-0.3M-T7"} <= CASES.keys()
    assert {*float32, "transformer-16M-T15"} == set(targets.LARGE)
    assert bf16 == set(targets.BF16)


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_what_its_name_says(name):
    case = CASES[name]
    layout, size, t, *suffix = name.split("-")
    assert case.name == name
    assert len(case.shapes) == {"unet": 74, "transformer": 182, "small": 120}[layout]
    assert case.num_elements == pytest.approx(1e6 * float(size.rstrip("M")), rel=0.03)
    assert case.num_objectives == int(t[1:])
    types = {(): torch.float32, ("bf16",): torch.bfloat16, ("fp16",): torch.float16, ("fp64",): torch.float64}
    assert case.dtype == types[tuple(suffix)]
    assert case.num_bytes == case.num_elements * torch.finfo(case.dtype).bits // 8


# tiny-1K is one matrix: its time is that of a launch, and of no network
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "tiny-1K"])
def test_small_tensors_are_many_and_weigh_little(layout):
    vectors = [shape for shape in LAYOUTS[layout] if len(shape) == 1]
    assert len(vectors) > len(LAYOUTS[layout]) / 2
    assert sum(map(prod, vectors)) < 0.04 * sum(map(prod, LAYOUTS[layout]))


@pytest.mark.parametrize("t", OBJECTIVES)
def test_gradients_conflict_in_part_and_some_are_private(t):
    case = Case("small-0.3M", LAYOUTS["small-0.3M"], t)
    grads, again = case.gradients(), case.gradients()
    assert 0.05 < oracle.conflict_rate(oracle.exact_gram(grads)) < 0.5
    absent = [[g is None for g in row] for row in grads]
    assert 0 < sum(map(sum, absent)) < 0.1 * t * len(case.shapes)
    assert not any(map(all, zip(*absent, strict=True))), "a parameter that nobody reaches"
    assert all(same(row, other) for row, other in zip(grads, again, strict=True))
