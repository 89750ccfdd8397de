"""Where the tests of the GPU run: each backend on a GPU; and the same functions on the CPU, where everybody has one."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from helpers.assertions import assert_equal, assert_gram

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU in this machine")


class Place(NamedTuple):
    """A device, and the backend that serves it."""

    device: str
    backend: str

    def put(self, values: Any) -> Any:
        """Copies of tensors in lists, on the device; contiguous."""
        return tree_map(lambda g: None if g is None else g.contiguous().to(self.device, copy=True), values)


ON_CPU, REFERENCE = Place("cpu", "cpu"), Place("cuda", "reference")
KERNELS = Place("cuda", "cuda"), Place("cuda", "triton")


def on_each(*places: Place) -> Callable:
    """A fixture: each of the places in turn, its backend the only one for the length of the test."""

    def param(place: Place):
        if place.device == "cpu":
            return pytest.param(place, id="CPU")
        return pytest.param(place, id=f"{place.backend} on a GPU", marks=needs_gpu)

    @pytest.fixture(params=map(param, places))
    def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
        monkeypatch.setenv("GMD_BACKEND", request.param.backend)
        yield request.param
        if request.param.device == "cuda":
            _wait()

    return place


def _wait() -> None:
    """A kernel's fault shows here, in the test that launched it.

    The process can do nothing on the GPU after that; where it is one of several (pytest-xdist's), another replaces it.
    """
    try:
        torch.cuda.synchronize()
    except RuntimeError as fault:
        if "PYTEST_XDIST_WORKER" not in os.environ:
            raise
        print(f"{os.environ.get('PYTEST_CURRENT_TEST')}: {fault}", file=sys.stderr, flush=True)
        os._exit(1)


def check_gram(place: Place, grads: list[list[Tensor | None]], gram: Tensor, groups: Sequence[int] | None = None):
    """Right within the kernels' bounds, and symmetric to the bit."""
    assert_equal(gram, gram.mT, "a Gramian and its transpose")
    # torch's library may add up in one long chain on a GPU
    assert_gram(home(grads), home(gram), groups, place.backend, worst=place == REFERENCE)


def home(values: Any) -> Any:
    """Tensors in lists or by themselves, to the CPU, where the oracle works."""
    return tree_map(lambda g: g.cpu() if isinstance(g, Tensor) else g, values)


def same_bits(some: list[Tensor | None], others: list[Tensor | None]) -> bool:
    return all(g is o is None or torch.equal(g, o) for g, o in zip(some, others, strict=True))


def opposed(*shapes: tuple[int, ...], num_objectives: int = 3) -> list[list[Tensor]]:
    """[T][P] float32 on the CPU: every gradient conflicts with every other, so that the order of projections counts."""
    sizes = [torch.Size(shape).numel() for shape in shapes]
    rows = torch.randn(num_objectives, sum(sizes), generator=torch.Generator().manual_seed(0))
    rows = (rows - 1.3 * rows.mean(dim=0)) * torch.linspace(1, 1.5, num_objectives)[:, None]
    return [[g.reshape(s).clone() for g, s in zip(row.split(sizes), shapes, strict=True)] for row in rows]
