"""group_norm_relu among the rest of torch: autograd, torch.library, torch.compile, autocast, what is refused."""

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import gmd_kernels as gk
from gmd_kernels import reference, reference_norm
from gmd_kernels.norm_arguments import lying_plainly
from helpers.assertions import assert_within
from helpers.kernel_cases import LAYOUTS
from helpers.norm_cases import clear_gradient, exact_gradients, gradient_error, gradients, make_case, value_error

pytestmark = pytest.mark.usefixtures("one_thread")


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
    assert_within(gradient_error(case, found, grad))


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


class Recorded(TorchDispatchMode):
    """The ops that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        self.names.append(str(op))
        return op(*args, **(kwargs or {}))


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


def test_a_tensor_that_lies_otherwise_is_copied_once():
    """Also one that is dense, whose copy torch lays out as it is."""
    case = make_case("3d", torch.float32)
    for layout in LAYOUTS:
        x = LAYOUTS[layout](case.x)
        with Recorded() as recorded:
            lying_plainly(x)
        copies = [name for name in recorded.names if "clone" in name or "copy" in name]
        assert len(copies) <= 1, (layout, copies)


def test_autocast_leaves_types_alone():
    case = make_case("3d", torch.bfloat16, "channels_last")
    grad = clear_gradient(case)
    with torch.autocast("cpu", torch.bfloat16):
        y = gk.group_norm_relu(case.x, case.weight, case.bias, case.num_groups, case.rows)
        found = gradients(case, grad, gk.group_norm_relu)
    assert y.dtype is torch.bfloat16
    assert [g.dtype for g in found] == [torch.bfloat16, torch.float32, torch.float32]
    assert_within(value_error(case, y))
    assert_within(gradient_error(case, found, grad))


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


def of_argument(name: str):
    """-> group_norm_relu of one argument alone, and this argument."""
    x, weight, bias, rows, num_groups, _ = make_case("3d", torch.float32)
    arguments = {"x": x, "weight": weight, "bias": bias, "rows": rows}
    return lambda tensor: gk.group_norm_relu(**arguments | {name: tensor}, num_groups=num_groups), arguments[name]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # of torch's own, where it begins
@pytest.mark.parametrize("name", ["x", "weight", "bias"])
def test_forward_mode_is_refused(name: str):
    """A tangent that got lost would be a derivative of zero."""
    function, at = of_argument(name)
    refused = pytest.raises(NotImplementedError, match=r"group_norm_relu: .* backward passes alone, .* no tangents")
    for differentiate in (torch.func.jvp, lambda f, at, along: torch.func.jacfwd(f)(*at)):
        with refused:
            differentiate(function, (at,), (torch.ones_like(at),))
    for required in (False, True):
        leaf = at.clone().requires_grad_(required)
        with forward_ad.dual_level(), refused:
            function(forward_ad.make_dual(leaf, torch.ones_like(at)))
    with forward_ad.dual_level():
        assert torch.equal(function(at), function(at.clone())), "no tangents, no complaint"


@pytest.mark.parametrize("name", ["x", "weight", "bias"])
def test_gradients_of_torch_func_are_refused(name: str):
    function, at = of_argument(name)
    for differentiate in (torch.func.grad, torch.func.jacrev):
        with pytest.raises(NotImplementedError, match=r"group_norm_relu: no gradients by torch.func .*torch.autograd"):
            differentiate(lambda tensor: function(tensor).sum())(at)
        assert differentiate(lambda tensor: tensor.sum() + function(at).sum())(at).eq(1).all()


@pytest.mark.parametrize("wanted", [(0, 1, 2), (1, 2)])
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap takes one gradient after the other
def test_many_gradients_at_a_time(wanted: tuple[int, ...]):
    case = make_case("3d", torch.bfloat16, "channels_last")
    leaves = [tensor.clone().requires_grad_(i in wanted) for i, tensor in enumerate(case[:3])]
    y = gk.group_norm_relu(*leaves, case.num_groups, case.rows)
    grads = torch.stack([clear_gradient(case, seed) for seed in range(3)])
    leaves = [leaves[i] for i in wanted]
    each = [torch.autograd.grad(y, leaves, grad, retain_graph=True) for grad in grads]
    batched = torch.autograd.grad(y, leaves, grads, is_grads_batched=True, retain_graph=True)
    mapped = torch.func.vmap(lambda grad: torch.autograd.grad(y, leaves, grad, retain_graph=True))(grads)
    for results in (batched, mapped):
        assert all(torch.equal(a, torch.stack(b)) for a, b in zip(results, zip(*each, strict=True), strict=True))
