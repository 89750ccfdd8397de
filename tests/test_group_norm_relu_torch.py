"""group_norm_relu among the rest of torch: autograd, torch.library, torch.compile, autocast, errors, backends."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from kernel_cases import LAYOUTS
from norm_cases import clear_gradient, exact_gradients, gradient_error, gradients, make_case, value_error
from torch._subclasses import FakeTensorMode
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint

import gmd_kernels as gk
from gmd_kernels import dispatch, reference, reference_norm

pytestmark = pytest.mark.usefixtures("one_thread")
GPU = SimpleNamespace(device=torch.device("cuda", 0))  # what dispatch looks at, of a tensor on one


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_gradcheck_of_the_reference(layout: str):
    x, weight, bias, rows, _, _ = make_case("3d", torch.float64, layout)
    x, weight, bias = (tensor.clone().requires_grad_() for tensor in (x[:, :4, :2, :2], weight[:, :4], bias[:, :4]))

    def plain(x, weight, bias):
        return reference_norm.group_norm_relu(x, weight, bias, rows, 2, 1e-5)[0]

    assert torch.autograd.gradcheck(plain, (x, weight, bias))


def test_the_backward_of_the_reference_is_that_of_autograd():
    case = make_case("2d-odd", torch.float64)
    grad = clear_gradient(case)
    found = gradients(
        case, grad, lambda x, w, b, groups, rows, eps: reference.group_norm_relu(x, w, b, rows, groups, eps)[0]
    )
    assert gradient_error(case, found, grad) <= 1


@pytest.mark.parametrize(
    ("dtype", "layout", "of_x", "of_weight"),
    [
        (torch.float32, "contiguous", True, True),
        (torch.bfloat16, "channels_last", True, True),
        (torch.float64, "every_second", True, False),
        (torch.bfloat16, "contiguous", False, True),
        (torch.float16, "channels_last", False, False),
    ],
    ids=str,
)
def test_opcheck(dtype: torch.dtype, layout: str, of_x: bool, of_weight: bool):
    x, weight, bias, rows, num_groups, eps = make_case("3d", dtype, layout)
    x.requires_grad_(of_x)
    weight.requires_grad_(of_weight)
    opcheck(torch.ops.gmd.group_norm_relu.default, (x, weight, bias, rows, num_groups, eps))


@pytest.mark.parametrize("needs_x", [False, True])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_opcheck_of_the_backward(layout: str, needs_x: bool):
    x, weight, bias, rows, num_groups, eps = make_case("3d", torch.bfloat16, layout)
    _, mean, rstd = torch.ops.gmd.group_norm_relu(x, weight, bias, rows, num_groups, eps)
    args = torch.ones_like(x), x, weight, bias, rows, mean, rstd, needs_x
    opcheck(torch.ops.gmd.group_norm_relu_backward.default, args)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "padded"])
def test_the_op_is_the_function(monkeypatch, backend: str, layout: str, dtype: torch.dtype):
    monkeypatch.setenv("GMD_BACKEND", backend)
    case = make_case("3d", dtype, layout)
    grad = clear_gradient(case)

    def op(x, weight, bias, num_groups, rows, eps):
        return torch.ops.gmd.group_norm_relu(x, weight, bias, rows, num_groups, eps)[0]

    ours = gradients(case, grad, gk.group_norm_relu)
    assert all(torch.equal(a, b) for a, b in zip(gradients(case, grad, op), ours, strict=True))


class Small(torch.nn.Module):
    """Two layers, with samples of different rows."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv3d(2, 8, 3, padding=1)
        self.weight = torch.nn.Parameter(torch.randn(3, 8))
        self.bias = torch.nn.Parameter(torch.randn(3, 8))

    def forward(self, x, rows):
        x = gk.group_norm_relu(self.conv(x), self.weight, self.bias, 4, rows)
        return gk.group_norm_relu(x + x.mean(), self.weight[:1], self.bias[:1], 2).sum()


@pytest.fixture
def compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_without_a_break_in_the_graph(dynamic: bool):
    """Through a backend that then runs torch's own kernels: the same bits as eager."""
    module, rows = Small(), torch.tensor([2, 0])
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for size in (4, 5):
        x = torch.randn(2, 2, size, 3, 4)
        results = []
        for run in (module, compiled):
            value = run(x, rows)
            results.append([value, *torch.autograd.grad(value, list(module.parameters()))])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.usefixtures("compiler")
def test_compiled_code_checks_rows():
    compiled = torch.compile(Small(), fullgraph=True, backend="aot_eager")
    with pytest.raises(ValueError, match=r"rows\[1\]: expected 0 to 2, got 3"):
        compiled(torch.randn(2, 2, 3, 3, 3), torch.tensor([0, 3]))


def test_fake_tensors_lie_as_real_ones():
    for layout in LAYOUTS:
        case = make_case("3d", torch.bfloat16, layout)
        real = gk.group_norm_relu(case.x, case.weight, case.bias, case.num_groups, case.rows)
        with FakeTensorMode() as mode:
            fakes = [mode.from_tensor(tensor) for tensor in case[:4]]
            fake = gk.group_norm_relu(*fakes[:3], case.num_groups, fakes[3])
        assert (fake.shape, fake.dtype, fake.stride()) == (real.shape, real.dtype, real.stride())


def test_autocast_leaves_types_alone():
    case = make_case("3d", torch.bfloat16, "channels_last")
    grad = clear_gradient(case)
    with torch.autocast("cpu", torch.bfloat16):
        y = gk.group_norm_relu(case.x, case.weight, case.bias, case.num_groups, case.rows)
        found = gradients(case, grad, gk.group_norm_relu)
    assert y.dtype is torch.bfloat16
    assert [g.dtype for g in found] == [torch.bfloat16, torch.float32, torch.float32]
    assert value_error(case, y) <= 1
    assert gradient_error(case, found, grad) <= 1


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_gradients_of_some_arguments(wanted: tuple[int, ...]):
    case = make_case("3d", torch.float32)
    grad = clear_gradient(case)
    tensors = [t.clone().requires_grad_(i in wanted) for i, t in enumerate(case[:3])]
    y = gk.group_norm_relu(*tensors, case.num_groups, case.rows)
    y.backward(grad)
    for i, expected in enumerate(exact_gradients(case, grad)):
        assert (tensors[i].grad is not None) == (i in wanted)
        if i in wanted:
            assert torch.allclose(tensors[i].grad.double(), expected, atol=1e-4)


def test_without_gradients_nothing_is_kept():
    case = make_case("3d", torch.float32)
    kept = []
    x = case.x.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda kept: kept):
        with torch.no_grad():
            y = gk.group_norm_relu(x, case.weight, case.bias, case.num_groups, case.rows)
        assert not kept
        assert y.grad_fn is None
        gk.group_norm_relu(x.detach(), case.weight, case.bias, case.num_groups, case.rows)
        assert not kept
        y = gk.group_norm_relu(x, case.weight, case.bias, case.num_groups, case.rows)
    assert any(tensor is x for tensor in kept)
    assert not any(tensor is y for tensor in kept), "the mask is computed anew"


def test_inference_mode_and_checkpoints():
    case = make_case("3d", torch.float32)
    args = case.weight, case.bias, case.num_groups, case.rows
    with torch.inference_mode():
        inferred = gk.group_norm_relu(case.x, *args)
    x = case.x.clone().requires_grad_()
    y = checkpoint(gk.group_norm_relu, x, *args, use_reentrant=False)
    y.sum().backward()
    assert torch.equal(inferred, y)
    assert torch.equal(x.grad, gradients(case, torch.ones_like(y), gk.group_norm_relu)[0])


@pytest.mark.parametrize("traced", [False, True])
def test_differentiating_twice_is_refused(traced: bool):
    x, weight, bias, rows, num_groups, eps = make_case("3d", torch.float32)
    x.requires_grad_()
    if traced:
        y = torch.ops.gmd.group_norm_relu(x, weight, bias, rows, num_groups, eps)[0]
    else:
        y = gk.group_norm_relu(x, weight, bias, num_groups, rows)
    with pytest.raises(RuntimeError, match=r"group_norm_relu: differentiable once, .* without create_graph=True"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


# Errors

X, TABLE, ROWS = torch.zeros(2, 4, 3), torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, r"x: expected float32, .* \[n, C, \*spatial\], got list"),
        ({"x": X.int()}, TypeError, r"x: expected float32, .*, got \[2, 4, 3\] torch.int32 on cpu"),
        ({"x": torch.zeros(4)}, TypeError, r"x: expected .*, got \[4\] torch.float32"),
        ({"x": X.to_sparse()}, TypeError, r"x: expected .*, got \[2, 4, 3\] .*sparse_coo"),
        ({"num_groups": 3}, ValueError, r"num_groups: expected a divisor of 4 channels, got 3"),
        ({"num_groups": 0}, ValueError, r"num_groups: expected a divisor of 4 channels, got 0"),
        ({"num_groups": 2.0}, ValueError, r"num_groups: expected a divisor of 4 channels, got 2.0"),
        ({"weight": TABLE.double()}, TypeError, r"weight: expected torch.float32 or x's torch.float32, got .*float64"),
        ({"weight": None}, TypeError, r"weight: expected .*, got NoneType"),
        ({"weight": TABLE[0]}, ValueError, r"weight: expected \[R, C\] = \[R, 4\] on cpu as x, got \[4\]"),
        ({"weight": TABLE.to("meta")}, ValueError, r"weight: expected .* on cpu as x, got .* on meta"),
        ({"bias": TABLE[:, 1:]}, ValueError, r"bias: expected \[R, C\] = \[R, 4\] on cpu as x, got \[3, 3\]"),
        ({"bias": TABLE[1:]}, ValueError, r"bias: expected \[3, 4\] as weight, got \[2, 4\]"),
        ({"bias": TABLE.half()}, TypeError, r"bias: expected torch.float32 or x's torch.float32, got .*float16"),
        ({"rows": None}, ValueError, r"rows: expected \[n\] = \[2\] int64 where weight has 3 rows, got None"),
        ({"rows": [0, 1]}, ValueError, r"rows: expected int64 \[n\] = \[2\], got list"),
        ({"rows": ROWS.int()}, ValueError, r"rows: expected int64 \[n\] = \[2\], got \[2\] torch.int32"),
        ({"rows": ROWS[:1]}, ValueError, r"rows: expected int64 \[n\] = \[2\], got \[1\]"),
        ({"rows": ROWS.to("meta")}, ValueError, r"rows: expected on cpu as x, got \[2\] torch.int64 on meta"),
        ({"rows": torch.tensor([0, 3])}, ValueError, r"rows\[1\]: expected 0 to 2, got 3"),
        ({"rows": torch.tensor([-1, 0])}, ValueError, r"rows\[0\]: expected 0 to 2, got -1"),
        ({"eps": -1.0}, ValueError, r"eps: expected a number of at least 0, got -1.0"),
        ({"eps": torch.nan}, ValueError, r"eps: expected a number of at least 0, got nan"),
        ({"eps": "1e-5"}, ValueError, r"eps: expected a number of at least 0, got '1e-5'"),
    ],
)
def test_errors_name_the_argument(change: dict, error: type[Exception], message: str):
    arguments = {"x": X, "weight": TABLE, "bias": TABLE, "num_groups": 2, "rows": ROWS} | change
    with pytest.raises(error, match=message):
        gk.group_norm_relu(**arguments)


def test_the_op_checks_what_it_is_given():
    with pytest.raises(ValueError, match=r"rows\[1\]: expected 0 to 2, got 3"):
        torch.ops.gmd.group_norm_relu(X, TABLE, TABLE, torch.tensor([0, 3]), 2, 1e-5)
    with pytest.raises(ValueError, match=r"num_groups: expected a divisor of 4 channels, got 3"):
        torch.ops.gmd.group_norm_relu(X, TABLE, TABLE, ROWS, 3, 1e-5)


# Backends


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    """A machine with a GPU that Triton serves, as far as dispatch can see."""
    triton = SimpleNamespace(why_not=lambda device: None)
    there = gk.Backend(True, "is there")
    for name in ("cuda", "triton"):
        monkeypatch.setitem(dispatch._KERNELS, name, dispatch._KERNELS[name]._replace(find=lambda: there))
    monkeypatch.setattr(dispatch, "_load", {"gmd_kernels.triton_ops": triton, reference.__name__: reference}.get)
    dispatch._why_not_gpu.cache_clear()
    yield triton
    dispatch._why_not_gpu.cache_clear()


@pytest.mark.parametrize("forced", [None, "cuda", "triton"])
def test_on_a_gpu_triton_serves_without_a_word(gpu, monkeypatch: pytest.MonkeyPatch, forced: str | None):
    """There is no kernel in CUDA C++; who asks for CUDA means the gradients' kernels."""
    if forced:
        monkeypatch.setenv("GMD_BACKEND", forced)
    else:
        monkeypatch.delenv("GMD_BACKEND", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dispatch.choose_for_norm(GPU) is gpu


@pytest.mark.parametrize("forced", [None, "cuda"])
def test_without_triton_the_reference_serves_and_says_so(gpu, monkeypatch: pytest.MonkeyPatch, forced: str | None):
    gpu.why_not = lambda device: "it is too old"
    if forced:
        monkeypatch.setenv("GMD_BACKEND", forced)
    else:
        monkeypatch.delenv("GMD_BACKEND", raising=False)
    with pytest.warns(gk.FallbackWarning, match="goes through the slow PyTorch reference: it is too old"):
        assert dispatch.choose_for_norm(GPU) is reference


def test_forced_backends_that_do_not_serve_the_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GMD_BACKEND", "cuda")
    with pytest.raises(RuntimeError, match="GMD_BACKEND=cuda cannot serve this call: the CUDA kernels are"):
        gk.group_norm_relu(X, TABLE, TABLE, 2, ROWS)
    monkeypatch.setenv("GMD_BACKEND", "reference")
    assert dispatch.choose_for_norm(GPU) is reference
