"""owm_update_ against float64 on the same rounded inputs: values, types, memory, what is not finite, threads."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import gmd_kernels as gk
from gmd_kernels import cpu_ops, dispatch
from helpers.assertions import assert_same_bits, assert_within
from helpers.kernel_cases import BACKENDS, LAYOUTS
from helpers.owm_cases import SIZES, TYPES, Case, errors, make_case

pytestmark = pytest.mark.usefixtures("one_thread")
each_size = pytest.mark.parametrize("d", SIZES)
each_type = pytest.mark.parametrize("types", TYPES)


def update(case: Case) -> Case:
    case = case.clone()
    gk.owm_update_(*case)
    return case


def assert_same(a: Case, b: Case) -> None:
    assert_same_bits(a[:2], b[:2], "projector and gradient")


@pytest.mark.usefixtures("backend")
@each_type
@each_size
def test_values(d: int, types: str):
    case = make_case(d, types=types)
    found = update(case)
    assert [tensor.dtype for tensor in found[:2]] == list(TYPES[types][:2])
    assert_within(*errors(case, found))
    assert torch.equal(found.projector, found.projector.T)
    assert max(errors(case, case)) > 100, "the update does nothing: this test shows nothing"


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("classes", [1, 2, 5, 6, 7, 11, 12, 13, 25, 101])
@pytest.mark.parametrize("d", [33, 129])
def test_any_number_of_classes(d: int, classes: int):
    """Around as many rows as the registers have room for, 6 and 12, with columns left over."""
    case = make_case(d, classes)
    assert_within(*errors(case, update(case)))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("alpha", [1e-6, 1, 1e6])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e25])
def test_any_scale(scale: float, alpha: float):
    """A product of two of k's entries would overflow in float32 at the last one."""
    case = make_case(64, alpha=alpha)
    case.mean_input.mul_(scale)
    found = update(case)
    assert_within(*errors(case, found))
    assert found.projector.isfinite().all()


@pytest.mark.usefixtures("backend")
def test_nothing_along_the_input_is_as_no_update():
    """h.k = 0, and below 0 by rounding: a projector that has lost a direction does not lose it again and again."""
    case = make_case(17)
    case.mean_input.zero_()
    assert torch.equal(update(case).projector, case.projector)
    for left in (0.0, -0.01):  # far more than rounding leaves, so that a step would show
        lost = case._replace(projector=torch.eye(17), mean_input=torch.eye(17)[3])
        lost.projector[3, 3] = left
        found = update(lost)
        assert torch.equal(found.projector, lost.projector)
        assert torch.allclose(found.weight_grad[:, 3], left * case.weight_grad[:, 3])


# Memory


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", ["permuted", "every_second", "offset", "padded", "negated"])
def test_any_strides(name: str):
    case = make_case(33)
    expected = update(case)
    grad, h = LAYOUTS[name](case.weight_grad), LAYOUTS[name](case.mean_input)
    around = grad if grad._base is None else grad._base.clone()
    gk.owm_update_(case.projector, grad, h, case.alpha)
    assert_same(case._replace(weight_grad=grad), expected)
    if grad._base is not None and name != "permuted":
        beside = around.isnan()
        assert torch.equal(grad._base.isnan(), beside), "something beside the gradient was written"


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_lazily_negated_gradient_of_a_smaller_type(dtype: torch.dtype):
    """A bug: torch's copy_ from float32 into a lazily negated float16 tensor flips the sign (torch 2.13)."""
    case = make_case(33)
    case = case._replace(weight_grad=case.weight_grad.to(dtype))
    expected, grad = update(case), LAYOUTS["negated"](case.weight_grad)
    assert grad.is_neg()
    gk.owm_update_(case.projector, grad, case.mean_input, case.alpha)
    assert_same(case._replace(weight_grad=grad), expected)


@pytest.mark.usefixtures("backend")
def test_a_lazily_negated_gradient_inside_a_dispatch_mode():
    """A bug: without a kernel for the key Negative, torch resolved the gradient and handed None on."""
    case = make_case(33)
    expected, grad = update(case), LAYOUTS["negated"](case.weight_grad)
    with FlopCounterMode(display=False):
        gk.owm_update_(case.projector, grad, case.mean_input, case.alpha)
    assert_same(case._replace(weight_grad=grad), expected)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("d", [5, 129])
def test_every_element_is_written_and_none_beside(monkeypatch: pytest.MonkeyPatch, d: int):
    """New memory is filled with NaN, and what lies around the projector keeps its values."""
    case = make_case(d)
    memory = torch.full((d * d + 64,), 7.0)
    case = case._replace(projector=memory[32:-32].view(d, d).copy_(case.projector))
    before = case.clone()
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        gk.owm_update_(*case)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_within(*errors(before, case))
    assert memory[:32].eq(7).all()
    assert memory[-32:].eq(7).all()


@pytest.mark.usefixtures("backend")
def test_the_mean_input_stays():
    case = make_case(17)
    assert torch.equal(update(case).mean_input, case.mean_input)


@pytest.mark.usefixtures("backend")
def test_autograd_is_told_of_what_is_written():
    case = make_case(5)
    needed = torch.ones(5, 5, requires_grad=True)
    for tensor in case[:2]:
        used = (needed[: len(tensor)] * tensor).sum() if tensor.shape[0] <= 5 else (needed @ tensor.T).sum()
        gk.owm_update_(*case)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            used.backward()


@pytest.mark.usefixtures("backend")
def test_inference_mode():
    case = make_case(5)
    expected = update(case)
    with torch.inference_mode():
        assert_same(update(case), expected)


# What is not finite


@pytest.mark.usefixtures("backend")
@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce")  # of numpy, in Triton's interpreter
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("which", ["projector", "weight_grad", "mean_input"])
@pytest.mark.parametrize("d", [5, 64])
def test_a_bad_step_leaves_the_projector_and_shows_in_the_gradient(d: int, which: str, value: float):
    case = make_case(d)
    getattr(case, which)[(1,) * getattr(case, which).ndim] = value
    found = update(case)
    assert torch.equal(found.projector.view(torch.int32), case.projector.view(torch.int32))
    assert found.weight_grad.isnan().all()


@pytest.mark.usefixtures("backend")
def test_an_overflow_is_a_bad_step():
    """Of h.k, in float64 here; and of the gradient's type after it, where all the rest was finite."""
    case = make_case(5, types="float64")
    case.mean_input.fill_(1e300)
    found = update(case)
    assert torch.equal(found.projector, case.projector)
    assert found.weight_grad.isnan().all()


@pytest.mark.usefixtures("backend")
def test_after_a_bad_step_all_goes_on():
    case = make_case(33)
    bad = case.clone()
    bad.mean_input[0] = torch.nan
    gk.owm_update_(*bad)
    assert_same(update(bad._replace(weight_grad=case.weight_grad, mean_input=case.mean_input)), update(case))


# Threads, instruction sets, who serves it


@each_type
@pytest.mark.parametrize(("d", "classes"), [(129, 13), (512, 10)])
def test_same_bits_for_any_number_of_threads(d: int, classes: int, types: str):
    case, results = make_case(d, classes, types), []
    for threads in (1, 1, 2, 3):
        torch.set_num_threads(threads)
        results.append(update(update(case)))
    torch.set_num_threads(1)
    for other in results[1:]:
        assert_same(other, results[0])


def test_the_cpu_is_served_by_cpp(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("GMD_BACKEND", raising=False)
    assert dispatch.choose_for_owm(torch.eye(3)) is cpu_ops
    assert "cpu" in BACKENDS
