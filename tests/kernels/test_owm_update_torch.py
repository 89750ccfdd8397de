"""owm_update_ among the rest of torch: torch.library, torch.compile, what is refused, and which backend serves it."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.library import opcheck

import gmd_kernels as gk
from gmd_kernels import dispatch, owm_update, reference
from helpers.kernel_cases import BACKENDS
from helpers.owm_cases import TYPES, make_case

pytestmark = pytest.mark.usefixtures("one_thread")

GPU = SimpleNamespace(device=torch.device("cuda", 0))  # what dispatch looks at, of a tensor on one
EYE, GRAD, INPUT = torch.eye(4), torch.ones(3, 4), torch.ones(4)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("types", TYPES)
def test_opcheck(types: str):
    opcheck(torch.ops.gmd.owm_update_.default, tuple(make_case(17, types=types)))


def test_schema():
    expected = "gmd::owm_update_(Tensor(a!) projector, Tensor(b!) weight_grad, Tensor mean_input, float alpha) -> ()"
    assert str(torch.ops.gmd.owm_update_.default._schema) == expected


@pytest.fixture
def compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_without_a_break_in_the_graph(dynamic: bool):
    """What is written in place is so behind the compiled call too, and in what follows in the graph."""

    def step(projector, grad, h):
        gk.owm_update_(projector, grad, 2 * h, 0.5)
        return grad.sum() + projector.trace()

    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for d in (5, 17):
        eager, traced = make_case(d), make_case(d)
        values = step(*eager[:3]), compiled(*traced[:3])
        assert all(torch.equal(a, b) for a, b in zip((values[0], *eager[:2]), (values[1], *traced[:2]), strict=True))


def test_fake_tensors():
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(tensor) for tensor in make_case(5)[:3]]
        assert gk.owm_update_(*fakes, 1.0) is None
        with pytest.raises(ValueError, match=r"mean_input: expected \[5\]"):
            gk.owm_update_(*fakes[:2], fakes[2][1:], 1.0)


def test_a_mean_input_that_requires_grad_is_taken_as_it_is():
    """P keeps autograd history, in the published code."""
    case, detached = make_case(5), make_case(5)
    with torch.enable_grad():
        gk.owm_update_(*case[:2], case.mean_input.requires_grad_(), case.alpha)
    gk.owm_update_(*detached)
    assert torch.equal(case.projector, detached.projector)
    assert not case.projector.requires_grad
    assert case.projector.grad_fn is None
    assert case.weight_grad.grad_fn is None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"projector": [1.0]}, TypeError, r"projector: expected float32 or float64 \[d, d\], got list"),
        ({"projector": EYE.half()}, TypeError, r"projector: expected float32 or float64 .*, got .*float16"),
        ({"projector": EYE.to_sparse()}, TypeError, r"projector: expected .*, got \[4, 4\] .*sparse_coo"),
        ({"projector": EYE[:3]}, ValueError, r"projector: expected \[d, d\] .*, got \[3, 4\]"),
        ({"projector": torch.eye(0)}, ValueError, r"projector: expected \[d, d\] with d of at least 1, got \[0, 0\]"),
        ({"projector": torch.eye(8)[::2, ::2]}, ValueError, r"projector: expected contiguous memory, got strides \(16"),
        ({"projector": EYE.clone().requires_grad_()}, ValueError, r"projector: expected .* requires no grad"),
        ({"weight_grad": None}, TypeError, r"weight_grad: expected dense float32, bfloat16, float16 .*, got NoneType"),
        ({"weight_grad": GRAD.double()}, TypeError, r"weight_grad: expected dense float32, .*, got .*float64"),
        ({"weight_grad": GRAD.to_sparse()}, TypeError, r"weight_grad: expected dense .*, got .*sparse_coo"),
        ({"projector": EYE.double()}, TypeError, r"weight_grad: expected dense float64 beside .*, got .*float32"),
        (
            {"weight_grad": GRAD[0]},
            ValueError,
            r"weight_grad: expected \[C, 4\], C >= 1, on projector's cpu, got \[4\]",
        ),
        ({"weight_grad": GRAD[:, 1:]}, ValueError, r"weight_grad: expected \[C, 4\], .*, got \[3, 3\]"),
        ({"weight_grad": GRAD[:0]}, ValueError, r"weight_grad: expected \[C, 4\], .*, got \[0, 4\]"),
        ({"weight_grad": GRAD.to("meta")}, ValueError, r"weight_grad: expected .* on projector's cpu, got .* on meta"),
        ({"weight_grad": GRAD.clone().requires_grad_()}, ValueError, r"weight_grad: expected .* requires no grad"),
        ({"weight_grad": torch.ones(4).expand(3, 4)}, ValueError, r"weight_grad: overlaps itself, \[3, 4\]"),
        ({"mean_input": INPUT.double()}, TypeError, r"mean_input: expected dense float32, .*, got .*float64"),
        ({"mean_input": INPUT.int()}, TypeError, r"mean_input: expected dense float32, .*, got .*int32"),
        ({"mean_input": INPUT[1:]}, ValueError, r"mean_input: expected \[4\] on projector's cpu, got \[3\]"),
        ({"mean_input": INPUT[None]}, ValueError, r"mean_input: expected \[4\] .*, got \[1, 4\]"),
        (
            {"mean_input": INPUT.to("meta")},
            ValueError,
            r"mean_input: expected \[4\] on projector's cpu, got .* on meta",
        ),
        ({"alpha": 0.0}, ValueError, r"alpha: expected a finite number above 0, got 0.0"),
        ({"alpha": -1}, ValueError, r"alpha: expected a finite number above 0, got -1"),
        ({"alpha": torch.inf}, ValueError, r"alpha: expected a finite number above 0, got inf"),
        ({"alpha": torch.nan}, ValueError, r"alpha: expected a finite number above 0, got nan"),
        ({"alpha": True}, ValueError, r"alpha: expected a finite number above 0, got True"),
        ({"alpha": "1"}, ValueError, r"alpha: expected a finite number above 0, got '1'"),
    ],
)
def test_errors_name_the_argument(change: dict, error: type[Exception], message: str):
    """Before anything is written."""
    arguments = {"projector": EYE, "weight_grad": GRAD, "mean_input": INPUT, "alpha": 1.0} | change
    with pytest.raises(error, match=message):
        gk.owm_update_(**arguments)
    assert torch.equal(EYE, torch.eye(4))
    assert torch.equal(GRAD, torch.ones(3, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda p: (p, p[:2], INPUT), "weight_grad shares its memory with projector"),
        (lambda p: (p, GRAD.clone(), p[1]), "mean_input shares its memory with projector"),
        (lambda p: (p, (g := GRAD.clone()), g[2]), "mean_input shares its memory with weight_grad"),
    ],
)
def test_what_is_written_shares_no_memory(arguments, message: str):
    with pytest.raises(ValueError, match=message):
        gk.owm_update_(*arguments(torch.eye(4)), 1.0)


@pytest.mark.parametrize("types", ["float32", "float64", "bfloat16", "float16", "strided", "int alpha"])
def test_what_is_usual_is_not_looked_at_in_python(monkeypatch: pytest.MonkeyPatch, types: str):
    """Which takes a third as long as the update; what is unusual comes to the same."""
    case = make_case(17, types=types if types in TYPES else "float32", alpha=2.0)
    expected = make_case(17, types=types if types in TYPES else "float32", alpha=2.0)
    case = case._replace(mean_input=case.mean_input.to(case.projector.dtype))
    torch.ops.gmd.owm_update_(*expected)
    looks = []
    monkeypatch.setattr(owm_update, "check", lambda *arguments: looks.append(arguments))
    if types == "strided":
        case = case._replace(weight_grad=case.weight_grad.T.contiguous().T)
    if types == "int alpha":
        case = case._replace(alpha=2)
    gk.owm_update_(*case)
    assert len(looks) == (types not in TYPES)
    assert torch.equal(case.projector, expected.projector)
    assert torch.equal(case.weight_grad, expected.weight_grad)


def test_the_op_checks_what_it_is_given():
    with pytest.raises(ValueError, match=r"mean_input: expected \[4\]"):
        torch.ops.gmd.owm_update_(EYE, GRAD, INPUT[1:], 1.0)


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
        assert dispatch.choose_for_owm(GPU) is gpu


def test_without_a_kernel_the_warning_is_for_the_line_that_called(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GMD_BACKEND", raising=False)
    missing = dispatch._KERNELS["cpu"]._replace(find=lambda: gk.Backend(False, "not built"))
    monkeypatch.setitem(dispatch._KERNELS, "cpu", missing)
    with pytest.warns(gk.FallbackWarning, match="slow PyTorch reference: .* not built") as warned:
        gk.owm_update_(EYE.clone(), GRAD.clone(), INPUT, 1.0)
    assert [warning.filename for warning in warned] == [__file__]


def test_each_backend_has_it():
    assert all(hasattr(dispatch._load(dispatch._KERNELS[name].module), "owm_update_") for name in BACKENDS)
