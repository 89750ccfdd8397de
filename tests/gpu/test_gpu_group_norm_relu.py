"""The fused norm on a GPU: values, the life of a training step, sizes that the interpreter cannot reach."""

import warnings

import pytest
import torch
from test_gpu_streams import captured, no_waiting
from torch.library import opcheck

import gmd_kernels as gk
from helpers.gpu_cases import KERNELS, ON_CPU, home, on_each, same_bits
from helpers.kernel_cases import LAYOUTS
from helpers.norm_oracle import EPS, Case, backward_errors, forward_error, make_case, passes_the_nan, with_nan

# What a network has: its levels, samples that share rows, a row nobody takes; and sizes that divide nothing.
SHAPES = {
    "level 0": ((1, 16, 32, 32, 32), 8, [1], 4),
    "level 3": ((4, 128, 4, 4, 4), 8, [3, 0, 0, 1], 4),
    "a wide one": ((2, 512, 5, 3), 8, [0, 1], 2),
    "odd": ((3, 5, 7, 11, 13), 5, [2, 0, 2], 4),
    "one voxel": ((7, 24), 8, [k % 2 for k in range(7)], 2),
    "a line": ((2, 6, 50_001, 1), 2, [0, 0], 1),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

place = on_each(ON_CPU, *KERNELS)
gpu = on_each(*KERNELS)


@pytest.fixture(autouse=True)
def poisoned():
    """What nobody writes is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def there(case, place):
    """Leaves on the device, in their layouts: x, weight, bias; and rows, gradient."""
    leaves = [t.detach().to(place.device).requires_grad_() for t in (case.x, case.weight, case.bias)]
    return leaves, case.rows.to(place.device), case.grad.to(place.device)


def run(case, place):
    """-> y, and dx, dweight, dbias"""
    (x, weight, bias), rows, grad = there(case, place)
    y = gk.group_norm_relu(x, weight, bias, case.groups, rows, EPS)
    return y.detach(), torch.autograd.grad(y, (x, weight, bias), grad)


def check(case, y, grads):
    assert y.dtype == grads[0].dtype == case.x.dtype
    assert forward_error(case, home(y)) <= 1
    assert max(backward_errors(case, *home(grads))) <= 1


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_values(place, name, dtype, last):
    case = make_case(*SHAPES[name], dtype, last)
    y, grads = run(case, place)
    check(case, y, grads)
    assert y.stride() == grads[0].stride() == case.x.stride()
    again, grads_again = run(case, place)
    assert torch.equal(y, again)
    assert same_bits(grads, grads_again)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_values_far_from_zero(place, last):
    case = make_case((1, 16, 24, 24, 24), 8, [0], 1, torch.float32, last, middle=1000.0)
    check(case, *run(case, place))


@pytest.mark.parametrize("layout", ["permuted", "every_second", "padded", "offset"])
def test_other_strides(place, layout):
    case = make_case((2, 16, 9, 8), 8, [1, 0], 2)
    expected = run(case, place)
    case.x, case.grad = LAYOUTS[layout](case.x), LAYOUTS[layout](case.grad)
    leaves = [t.detach() for t in (case.x, case.grad)]
    x, grad = (LAYOUTS[layout](t.contiguous().to(place.device)) for t in leaves)
    (_, weight, bias), rows, _ = there(case, place)
    x.requires_grad_()
    y = gk.group_norm_relu(x, weight, bias, case.groups, rows, EPS)
    assert torch.equal(y, expected[0])
    assert same_bits(torch.autograd.grad(y, (x, weight, bias), grad), expected[1])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_comes_out_as_nan(place, bad):
    case = make_case((2, 16, 9, 8, 8), 8, [0, 0], 1, torch.bfloat16, True)
    case.x[1, 3, 4, 0, 0] = bad
    y, (dx, _, _) = run(case, place)
    for result in (y, dx):
        assert result[1, 2:4].isnan().all()
        assert result[0].isfinite().all()
        assert result[1, 4:].isfinite().all()


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("which", ["x", "weight", "bias"])
def test_the_gradient_passes_a_nan(place, which, last):
    """As through torch's ReLU, so that a loss of NaN leaves no finite gradients."""
    case = with_nan(make_case((2, 16, 9, 8, 8), 8, [1, 0], 2, torch.float32, last), which)
    _, grads = run(case, place)
    assert passes_the_nan(case, *home(grads))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_inside_autocast(place, dtype):
    """x comes in 16 bits from a convolution; tables stay float32, and so do their gradients."""
    conv = torch.nn.Conv3d(3, 16, 3, padding=1).to(place.device)
    volumes = torch.randn(2, 3, 8, 8, 8, device=place.device).to(memory_format=torch.channels_last_3d)
    weight, bias = (torch.ones(2, 16, device=place.device, requires_grad=True) for _ in range(2))
    with torch.autocast(place.device, dtype):
        x = conv(volumes)
        y = gk.group_norm_relu(x, weight, bias, 8)
    assert x.dtype == y.dtype == dtype
    y.float().sum().backward()
    assert weight.grad.dtype == conv.weight.grad.dtype == torch.float32
    x = x.detach()
    case = Case(home(x), weight.detach().cpu(), bias.detach().cpu(), torch.arange(2), 8, torch.ones(x.shape))
    assert forward_error(case, home(y.detach())) <= 1


def test_through_torch_compile(place):
    """Between what it fuses, in one graph."""
    case = make_case(*SHAPES["level 3"], torch.float32, True)
    (x, weight, bias), rows, grad = there(case, place)

    def function(x, weight, bias):
        return gk.group_norm_relu(2 * x, weight, bias, case.groups, rows).sin()

    torch.compiler.reset()
    y = torch.compile(function, fullgraph=True, backend="aot_eager")(x, weight, bias)
    expected = function(x, weight, bias)
    assert torch.equal(y, expected)
    grads, others = (torch.autograd.grad(result, (x, weight, bias), grad) for result in (y, expected))
    assert same_bits(grads, others)
    torch.compiler.reset()


def test_through_inductor(gpu, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.use_deterministic_algorithms(False)
    case = make_case(*SHAPES["level 3"], torch.bfloat16, True)
    (x, weight, bias), rows, grad = there(case, gpu)

    def function(x, weight, bias):
        return gk.group_norm_relu(2 * x, weight, bias, case.groups, rows) + 1

    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Inductor says of its own parts and of this GPU
        y = torch.compile(function, fullgraph=True)(x, weight, bias)
        grads = torch.autograd.grad(y, (x, weight, bias), grad)
    expected = function(x, weight, bias)
    for one, two in zip((y, *grads), (expected, *torch.autograd.grad(expected, (x, weight, bias), grad)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-2, atol=1e-2 * float(two.abs().max()))
    torch.compiler.reset()


def test_opcheck(place):
    case = make_case((2, 16, 3, 4, 5), 8, [1, 0], 3, torch.float32, True)
    (x, weight, bias), rows, _ = there(case, place)
    torch.use_deterministic_algorithms(False)
    opcheck(torch.ops.gmd.group_norm_relu.default, (x, weight, bias, rows, case.groups, EPS))


def test_nothing_waits_for_the_device(place):
    cases = [make_case(*SHAPES["level 0"], dtype, last) for dtype in DTYPES[:2] for last in (False, True)]
    prepared = [(there(case, place), case.groups) for case in cases]

    def once():
        for (leaves, rows, grad), groups in prepared:
            y = gk.group_norm_relu(*leaves, groups, rows, EPS)
            torch.autograd.grad(y, leaves, grad)

    once()
    with no_waiting(place):
        once()


def test_a_graph_of_both_ways_follows_its_inputs(gpu):
    """The values of x and of the rows are read at each replay."""
    case, other = (make_case((3, 16, 16, 16, 16), 8, rows, 4, last=True) for rows in ([0, 2, 2], [3, 1, 0]))
    other.x.mul_(-1.5)
    (x, weight, bias), rows, grad = there(case, gpu)

    def both():
        y = gk.group_norm_relu(x, weight, bias, case.groups, rows, EPS)
        return (y.detach(), *torch.autograd.grad(y, (x, weight, bias), grad))

    graph, results = captured(both)
    for values in (other, case):
        with torch.no_grad():
            x.copy_(values.x)
        rows.copy_(values.rows)
        for t in results:
            t.fill_(torch.nan)
        graph.replay()
        assert same_bits(results, both())


@pytest.mark.parametrize(("samples", "voxels"), [(65, 2**21), (1, 2**27 + 7)], ids=["many samples", "a large one"])
def test_more_than_two_to_the_31_elements(gpu, samples, voxels):
    """bfloat16, channels last, zero but for the last 1000 voxels: what comes of those is known from them alone."""
    free, _ = torch.cuda.mem_get_info()
    if free < 20e9:
        pytest.skip(f"needs 20 GB of memory on the GPU, {free / 1e9:.0f} are free")
    torch.use_deterministic_algorithms(False)  # or 17 GB would be filled before they are written
    x, grad = (torch.zeros(samples, voxels, 1, 2, 8, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    x[-1, -1000:].normal_()
    grad[-1, -1000:] = 1
    assert x.numel() > 2**31
    tail, size = x[-1, -1000:, 0].double(), 8 * voxels  # [1000, groups, channels of a group]
    mean = tail.sum(dim=(0, 2), keepdim=True) / size
    rstd = (tail.square().sum(dim=(0, 2), keepdim=True) / size - mean**2 + EPS).rsqrt()
    normal = (tail - mean) * rstd
    on = (normal > 0).double()
    offset, slope = ((t.sum(dim=(0, 2), keepdim=True) / size) for t in (on, on * normal))
    x, grad = (t.flatten(3).movedim(-1, 1) for t in (x, grad))
    weight, bias = (torch.full((1, 16), value, device="cuda", requires_grad=True) for value in (1.0, 0.0))
    x.requires_grad_()
    y = gk.group_norm_relu(x, weight, bias, 2)
    results = y.detach(), *torch.autograd.grad(y, (x, weight, bias), grad)
    expected = normal * on, rstd * (on - offset - normal * slope), (on * normal).sum(dim=0), on.sum(dim=0)
    for result, right in zip(results, expected, strict=True):
        result = result[-1, :, -1000:, 0].T if result.ndim == 4 else result
        torch.testing.assert_close(result.double().reshape(right.shape), right, rtol=2**-8, atol=1e-4)
