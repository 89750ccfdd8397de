"""gk.gram and gk.surgery of gradients that lie in pieces over processes, beside those of whole ones."""

import re
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist

import gmd_kernels as gk
from helpers.several_processes import in_processes

T = 4
SHAPES = ((7, 3), (5,), (1,), (6, 2))
GROUPS = [0, 1, 1, 0]


def gradients() -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    rows = [[torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES] for _ in range(T)]
    return [[-g if k == 2 else g for g in row] for k, row in enumerate(rows)]


def private() -> list[list[torch.Tensor | None]]:
    """Only the first objective reaches the last parameter."""
    return [[*row[:3], row[3] if k == 0 else None] for k, row in enumerate(gradients())]


def work(rank: int) -> dict:
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor, init_device_mesh

    group = dist.group.WORLD
    mesh = init_device_mesh("cpu", (2,))
    placements = ([Shard(0)], [Replicate()], [Replicate()], [Shard(1)])
    lying = [
        [None if g is None else distribute_tensor(g, mesh, place) for g, place in zip(row, placements, strict=True)]
        for row in gradients()
    ]
    beside = [[row[0], *plain[1:]] for row, plain in zip(lying, gradients(), strict=True)]  # plain ones are copies
    terms = [
        [DTensor.from_local((1.5 - rank) * g / 2, mesh, [Partial()], run_check=False) for g in row]
        for row in gradients()
    ]
    flat = [[g.flatten().tensor_split(2)[rank] for g in row] for row in gradients()]
    order = torch.Generator().manual_seed(5 + rank)
    found: dict = {
        "lying": gk.gram(lying, reduce=group),
        "beside": gk.gram(beside, reduce=group),
        "terms": gk.gram(terms, reduce=group),
        "flat": gk.gram(flat, reduce=group),
        "groups": gk.gram(lying, GROUPS, reduce=group),
    }
    for name, rows in {"lying": lying, "beside": beside, "terms": terms}.items():
        surgery = gk.surgery(rows, gk.weightings.upgrad, reduce=group)
        found[f"{name}, merged"] = [g.full_tensor() if isinstance(g, DTensor) else g for g in surgery.merged]
    found["groups, merged"] = [
        g.full_tensor() if isinstance(g, DTensor) else g
        for g in gk.surgery(lying, gk.weightings.upgrad, groups=GROUPS, reduce=group).merged
    ]
    # the second process has no gradient of the last parameter, which the first one knows to be private
    mine = private() if rank == 0 else [[*row[:3], None] for row in private()]
    cut = [[None if g is None else g.flatten().tensor_split(2)[rank] for g in row] for row in mine]
    gmd = gk.surgery(cut, generator=order, reduce=group)
    found["gmd"] = {"gram": gmd.gram, "weights": gmd.weights, "last": gmd.merged[3]}
    found["combined"] = [g.full_tensor() for g in gk.combine(lying, torch.arange(1.0, T + 1))]
    bad = {
        "no group": lambda: gk.gram(flat, reduce="world"),
        "no reduce": lambda: gk.gram(lying),
        "in part": lambda: gk.gram([lying[0], gradients()[1]], reduce=group),
    }
    return found | {"bad": {name: message_of(call) for name, call in bad.items()}}


def message_of(call: Callable) -> str:
    try:
        call()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return in_processes(2, work, tmp_path_factory.mktemp("pieces"))


@pytest.mark.parametrize("name", ["lying", "beside", "terms", "flat"])
def test_a_gramian_of_pieces_is_that_of_whole_gradients(found, name):
    for got in found:
        torch.testing.assert_close(got[name], gk.gram(gradients()), rtol=1e-12, atol=1e-12)
        assert torch.equal(got[name], found[0][name])
        assert torch.equal(got[name], got[name].T)


def test_gramians_of_groups(found):
    torch.testing.assert_close(found[1]["groups"], gk.gram(gradients(), GROUPS), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["lying", "beside", "terms", "groups"])
def test_pieces_are_merged_where_they_lie(found, name):
    groups = GROUPS if name == "groups" else None
    expected = gk.surgery(gradients(), gk.weightings.upgrad, groups=groups).merged
    for got in found:
        for a, b in zip(got[f"{name}, merged"], expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_a_combination_needs_no_other_process(found):
    for a, b in zip(found[0]["combined"], gk.combine(gradients(), torch.arange(1.0, T + 1)), strict=True):
        torch.testing.assert_close(a, b)


def test_gmd_has_one_order_and_knows_what_others_reach(found):
    assert torch.equal(found[0]["gmd"]["weights"], found[1]["gmd"]["weights"])
    assert found[1]["gmd"]["last"] is None
    order = torch.Generator().manual_seed(5)
    rows = [[*row[:3], None if row[3] is None else row[3].flatten().tensor_split(2)[0]] for row in private()]
    expected = gk.surgery(rows, generator=order)
    torch.testing.assert_close(found[0]["gmd"]["gram"], expected.gram, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[0]["gmd"]["weights"], expected.weights, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[0]["gmd"]["last"], expected.merged[3], rtol=1e-12, atol=1e-12)


BAD = {
    "no group": r"TypeError: reduce: expected a torch.distributed process group, got str",
    "no reduce": r"TypeError: grads\[0\]\[0\]: a DTensor.*give reduce=",
    "in part": r"ValueError: grads\[1\]\[0\]: expected a DTensor on .*as the gradients before it",
}


@pytest.mark.parametrize("name", BAD)
def test_what_are_no_pieces(found, name):
    assert re.match(BAD[name], found[0]["bad"][name]), found[0]["bad"][name]
