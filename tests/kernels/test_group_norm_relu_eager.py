"""group_norm_relu by the short way through C++: what it takes, what is left to Python, the same bits both ways."""

import sys

import pytest
import torch
from torch import Tensor

import gmd_kernels as gk
from gmd_kernels import native
from helpers.assertions import assert_same_bits
from helpers.kernel_cases import LAYOUTS
from helpers.norm_cases import DTYPES, Case, clear_gradient, gradients, make_case

if native.compiled is None:
    pytest.skip(native.why_not, allow_module_level=True)

short_way = native.compiled.group_norm_relu
module = sys.modules[gk.group_norm_relu.__module__]  # the package's function hides the module of its name
X, TABLE, ROWS = torch.ones(2, 4, 3), torch.ones(3, 4), torch.zeros(2, dtype=torch.int64)
USUAL = {"x": X, "weight": TABLE, "bias": TABLE, "num_groups": 2, "rows": ROWS, "eps": 1e-5}


@pytest.fixture(autouse=True)
def no_backend_is_forced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GMD_BACKEND", raising=False)


def by_cpp(case: Case) -> Tensor:
    return short_way(case.x, case.weight, case.bias, case.num_groups, case.rows, case.eps)


def takes(**change: object) -> bool:
    return short_way(*(USUAL | change).values()) is not None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "negated"])
def test_the_same_bits_both_ways(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, layout: str):
    case = make_case("3d", dtype, layout)
    grad = clear_gradient(case)
    assert by_cpp(case) is not None

    def run() -> list[Tensor]:
        y = gk.group_norm_relu(case.x, case.weight, case.bias, case.num_groups, case.rows, case.eps)
        return [y, *gradients(case, grad, gk.group_norm_relu)]

    short = run()
    monkeypatch.setattr(module, "_C", None)
    assert_same_bits(short, run())


def test_default_rows():
    for table in (TABLE[:1], TABLE[:2]):
        case = Case(X, table, table, torch.arange(2) % len(table), 2)
        assert torch.equal(short_way(X, table, table, 2, None, 1e-5), by_cpp(case))
    assert not takes(rows=None), "3 rows for 2 samples"


@pytest.mark.parametrize(
    "change",
    [
        {"x": [1.0]},
        {"x": X.int()},
        {"x": X.cfloat()},
        {"x": X.to("meta")},
        {"x": X.to_sparse()},
        {"x": torch.ones(4)},
        {"x": LAYOUTS["permuted"](X)},
        {"x": LAYOUTS["padded"](X)},
        {"weight": None},
        {"weight": TABLE.double()},
        {"weight": TABLE[0]},
        {"weight": TABLE[:2]},
        {"bias": TABLE[:, 1:]},
        {"bias": TABLE.half()},
        {"bias": TABLE.to("meta")},
        {"num_groups": 0},
        {"num_groups": 3},
        {"num_groups": 2.0},
        {"num_groups": 2**80},
        {"rows": [0, 1]},
        {"rows": ROWS.int()},
        {"rows": ROWS[:1]},
        {"rows": ROWS[None]},
        {"rows": ROWS.to("meta")},
        {"rows": torch.tensor([0, 3])},
        {"rows": torch.tensor([-1, 0])},
        {"eps": -1.0},
        {"eps": torch.nan},
        {"eps": "1e-5"},
        {"eps": 1},
        {"weight": TABLE.bfloat16(), "bias": TABLE.bfloat16(), "x": X.bfloat16()},
    ],
    ids=lambda change: " ".join(change),
)
def test_what_is_left_to_python(change: dict):
    assert takes()
    assert not takes(**change)


def test_rows_with_strides():
    rows = torch.tensor([[2, 9], [0, 9]])[:, 0]
    assert torch.equal(short_way(*(USUAL | {"rows": rows}).values()), short_way(X, TABLE, TABLE, 2, rows.clone(), 1e-5))


@pytest.mark.parametrize("backend", ["reference", "triton", "cuda", "nonsense"])
def test_another_backend_is_not_ours_to_serve(monkeypatch: pytest.MonkeyPatch, backend: str):
    monkeypatch.setenv("GMD_BACKEND", "cpu")
    assert takes()
    monkeypatch.setenv("GMD_BACKEND", backend)
    assert not takes()


def test_torch_func_and_tracing_see_every_op():
    seen = []
    torch.func.vmap(lambda t: seen.append(takes()) or t)(X)
    torch.func.grad(lambda t: seen.append(takes()) or t.sum())(X)
    assert seen == [False, False]
    assert takes()


def test_a_change_of_what_was_kept_is_noticed():
    x = X.clone().requires_grad_()
    y = short_way(*(USUAL | {"x": x * 1, "weight": (weight := TABLE.clone())}).values())
    weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_the_node_is_freed_once_used():
    x = X.clone().requires_grad_()
    y = short_way(*(USUAL | {"x": x}).values()).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()
