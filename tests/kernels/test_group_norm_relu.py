"""group_norm_relu against float64 on the same rounded inputs: values, gradients, layouts, rows, extremes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import gmd_kernels as gk
from gmd_kernels import cpu_ops, dispatch, reference
from gmd_kernels.norm_arguments import lying_plainly
from helpers.assertions import assert_within
from helpers.kernel_cases import LAYOUTS
from helpers.norm_cases import (
    DTYPES,
    SHAPES,
    Case,
    clear_gradient,
    exact_gradients,
    gradient_error,
    gradients,
    make_case,
    value_error,
    with_nan,
)

NAMES = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
BACKENDS = {"cpu": cpu_ops, "reference": reference}

pytestmark = pytest.mark.usefixtures("one_thread")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
each_layout = pytest.mark.parametrize("layout", ["contiguous", "channels_last"])


@pytest.fixture(params=BACKENDS)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GMD_BACKEND", request.param)
    return BACKENDS[request.param]


def run(case: Case) -> Tensor:
    return gk.group_norm_relu(case.x, case.weight, case.bias, case.num_groups, case.rows, case.eps)


@pytest.mark.usefixtures("kernels")
@each_dtype
@each_layout
@pytest.mark.parametrize("name", SHAPES)
def test_values_and_gradients(name: str, layout: str, dtype: torch.dtype):
    case = make_case(name, dtype, layout)
    y, grad = run(case), clear_gradient(case)
    assert (y.shape, y.dtype) == (case.x.shape, dtype)
    assert_within(value_error(case, y))
    assert 0 < (y == 0).double().mean() < 1, "the ReLU does nothing: this test shows half"
    found = gradients(case, grad, gk.group_norm_relu)
    assert [g.dtype for g in found] == [tensor.dtype for tensor in case[:3]]
    assert_within(gradient_error(case, found, grad))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["3d", "2d-odd", "1d"])
def test_layouts(name: str, layout: str, dtype: torch.dtype):
    case = make_case(name, dtype, layout)
    grad = LAYOUTS["every_second"](clear_gradient(case))
    assert_within(value_error(case, run(case)))
    assert_within(gradient_error(case, gradients(case, grad, gk.group_norm_relu), grad))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last_3d], ids=str)
def test_memory_format_is_kept(format: torch.memory_format):
    case = make_case("3d", torch.float32)
    x = case.x.contiguous(memory_format=format)
    for part in (x, x[:, :, 1:], x[:, :, :, ::2]):
        y = run(case._replace(x=part))
        assert y.is_contiguous(memory_format=format)
        assert not y.is_contiguous(memory_format=torch.channels_last_3d) or format is torch.channels_last_3d
        [dx, _, _] = gradients(case._replace(x=x), torch.ones_like(x), gk.group_norm_relu)
        assert dx.is_contiguous(memory_format=format)


@each_layout
@pytest.mark.parametrize("name", ["3d", "one-group", "slots", "long-slots"])
@pytest.mark.usefixtures("kernels")
def test_a_mean_far_from_zero(name: str, layout: str):
    """Sums of squares would cancel: 1e6 + 1 in float32."""
    case = make_case(name, torch.float32, layout, mean=1e3)
    grad = clear_gradient(case)
    assert_within(value_error(case, run(case)))
    assert_within(gradient_error(case, gradients(case, grad, gk.group_norm_relu), grad))


@each_layout
@pytest.mark.parametrize("outlier", [0.0, 3e4])
def test_the_first_elements_are_unlike_the_others(layout: str, outlier: float):
    """They are what the moments are taken about."""
    case = make_case("long-slots", torch.float32, layout, mean=1e3)
    case.x[:, :, :9] = outlier
    assert_within(value_error(case, run(case)))


@pytest.mark.usefixtures("kernels")
@each_layout
def test_a_constant_has_no_variance(layout: str):
    case = make_case("3d", torch.float32, layout)
    case.x.fill_(0.1)
    assert torch.allclose(run(case), case.bias[case.rows].relu()[..., None, None, None].expand_as(case.x), atol=1e-4)


@pytest.mark.usefixtures("kernels")
@each_layout
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_nan_and_inf_spoil_their_group_and_no_other(layout: str, value: float):
    case = make_case("3d", torch.float32, layout)
    clean = run(case)
    case.x[1, 5, 2, 1, 0] = value
    y, grad = run(case), torch.ones_like(case.x)
    dx, dweight, dbias = gradients(case, grad, gk.group_norm_relu)
    spoilt = torch.zeros_like(case.x, dtype=torch.bool)
    spoilt[1, 4:6] = True
    assert torch.equal(y.isnan(), spoilt)
    assert torch.equal(y[~spoilt], clean[~spoilt])
    assert torch.equal(dx.isnan(), spoilt)
    of_row = torch.zeros_like(dweight, dtype=torch.bool)
    of_row[case.rows[1], 4:6] = True
    assert torch.equal(dweight.isnan(), of_row)
    assert torch.equal(dbias[case.rows[1], 4:6].double(), exact_gradients(case, grad)[2][case.rows[1], 4:6])


@pytest.mark.usefixtures("kernels")
@each_layout
@pytest.mark.parametrize("which", ["x", "weight", "bias"])
def test_the_gradient_passes_a_nan(layout: str, which: str):
    """So that a loss of NaN leaves no finite gradients. Exact sums: the gradients are small integers."""
    case = with_nan(make_case("3d", torch.float32, layout), which)
    grad = torch.arange(case.x.numel()).reshape(case.x.shape).remainder(5).float()
    expected = exact_gradients(case, grad)
    dx, dweight, dbias = gradients(case, grad, gk.group_norm_relu)
    assert torch.equal(dbias.double(), expected[2])
    assert dbias[case.rows[1], 5] >= grad[1, 5].sum()
    for found, right in zip((dx, dweight), expected[:2], strict=True):
        assert torch.allclose(found.double(), right, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_nan_passes_as_through_torchs_relu():
    x = torch.full((1, 2, 3), torch.nan, requires_grad=True)
    weight, bias = (torch.ones(1, 2, requires_grad=True) for _ in range(2))
    ours = torch.autograd.grad(gk.group_norm_relu(x, weight, bias, 1).sum(), [x, weight, bias])
    theirs = torch.autograd.grad(F.relu(F.group_norm(x, 1, weight[0], bias[0])).sum(), [x, weight, bias])
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(ours, theirs, strict=True))


# Rows


@pytest.mark.usefixtures("kernels")
def test_a_row_that_no_sample_takes_gets_zeros():
    case = make_case("3d", torch.float32)
    _, dweight, dbias = gradients(case, torch.ones_like(case.x), gk.group_norm_relu)
    unused = [row for row in range(len(case.weight)) if row not in case.rows]
    assert unused == [1, 3]
    for table in (dweight, dbias):
        assert not table[unused].any()
        assert table[case.rows].any(dim=1).all()


@pytest.mark.usefixtures("kernels")
def test_rows_that_are_not_given():
    case = make_case("3d", torch.float32)
    x, weight, bias = case[:3]
    one, each = torch.zeros(2, dtype=torch.int64), torch.arange(2)
    call = gk.group_norm_relu
    assert torch.equal(call(x, weight[:1], bias[:1], 8), call(x, weight[:1], bias[:1], 8, one))
    assert torch.equal(call(x, weight[:2], bias[:2], 8), call(x, weight[:2], bias[:2], 8, each))


@pytest.mark.usefixtures("kernels")
def test_samples_are_each_alone():
    case = make_case("many-samples", torch.bfloat16, "channels_last")
    y = run(case)
    for sample in (0, 17, 69):
        alone = case._replace(x=case.x[sample : sample + 1], rows=case.rows[sample : sample + 1])
        assert torch.equal(run(alone)[0], y[sample])


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (2, 4, 0, 3)])
def test_nothing_to_normalize(shape: tuple[int, ...]):
    x = torch.zeros(shape, requires_grad=True)
    weight, bias = (torch.ones(3, 4, requires_grad=True) for _ in range(2))
    y = gk.group_norm_relu(x, weight, bias, 2, torch.zeros(shape[0], dtype=torch.int64))
    y.sum().backward()
    assert y.shape == x.grad.shape == shape
    assert not weight.grad.any()
    assert not bias.grad.any()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_tables_of_xs_type(dtype: torch.dtype):
    case = make_case("3d", dtype)
    case = case._replace(weight=case.weight.to(dtype), bias=case.bias.to(dtype))
    grad = clear_gradient(case)
    found = gradients(case, grad, gk.group_norm_relu)
    assert_within(value_error(case, run(case)))
    assert [g.dtype for g in found] == [dtype] * 3
    assert_within(gradient_error(case, found, grad))


# What the backends promise each other


@each_dtype
@each_layout
@pytest.mark.parametrize("name", ["3d", "one-voxel", "long-slots"])
def test_statistics(kernels, name: str, layout: str, dtype: torch.dtype):
    case = make_case(name, dtype, layout)
    x = lying_plainly(case.x)
    _, mean, rstd = kernels.group_norm_relu(x, case.weight, case.bias, case.rows, case.num_groups, case.eps)
    grouped = x.double().reshape(len(x), case.num_groups, -1)
    assert mean.dtype == rstd.dtype == case.weight.dtype
    tolerance = 1e-13 if dtype is torch.float64 else 1e-6
    assert torch.allclose(mean.double(), grouped.mean(-1), rtol=0, atol=tolerance)
    expected = (grouped.var(-1, correction=0) + case.eps).rsqrt()
    assert torch.allclose(rstd.double(), expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize("needs_x", [False, True])
def test_the_gradient_of_x_is_made_only_where_it_is_wanted(kernels, needs_x: bool):
    x, weight, bias, rows, num_groups, eps = make_case("3d", torch.float32)
    _, mean, rstd = kernels.group_norm_relu(x, weight, bias, rows, num_groups, eps)
    grad = torch.ones_like(x)
    dx, *tables = kernels.group_norm_relu_backward(grad, x, weight, bias, rows, mean, rstd, needs_x)
    assert (dx is not None) == needs_x
    expected = kernels.group_norm_relu_backward(grad, x, weight, bias, rows, mean, rstd, True)[1:]
    assert all(torch.equal(a, b) for a, b in zip(tables, expected, strict=True))


@each_layout
@each_dtype
@pytest.mark.parametrize("name", ["slots", "2d-odd", "deep"])
def test_every_element_is_written(monkeypatch: pytest.MonkeyPatch, name: str, layout: str, dtype: torch.dtype):
    """New memory is filled with NaN."""
    case = make_case(name, dtype, layout)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        y, grad = run(case), clear_gradient(case)
        found = gradients(case, grad, gk.group_norm_relu)
    finally:
        torch.use_deterministic_algorithms(False)
    assert y.isfinite().all()
    assert all(g.isfinite().all() for g in found)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", ["slots", "long-slots", "many-samples", "deep"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_same_bits_for_any_number_of_threads(name: str, layout: str, dtype: torch.dtype):
    case = make_case(name, dtype, layout)
    grad = clear_gradient(case)
    results = []
    for threads in (1, 1, 2, 3):
        torch.set_num_threads(threads)
        results.append([run(case), *gradients(case, grad, gk.group_norm_relu)])
    torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


# Who serves it


def test_the_cpu_is_served_by_cpp(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GMD_BACKEND", raising=False)
    for dtype in DTYPES:
        assert dispatch.choose_for_norm(torch.ones(1, 2, 3, dtype=dtype)) is cpu_ops
