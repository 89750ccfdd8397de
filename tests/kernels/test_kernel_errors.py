"""Bad input to the kernels: the message names the argument, what came and what was expected; nothing is written."""

from collections.abc import Callable

import pytest
import torch

import gmd_kernels as gk

ones, TWO = torch.ones, torch.ones(2)
META = torch.ones(2, device="meta")
BUFFER = torch.full((64,), 7.0)  # nobody may write into it


@pytest.fixture(autouse=True)
def untouched(backend):
    """Every test, on every backend: what `out` was before, it is afterwards."""
    yield
    assert torch.equal(BUFFER, torch.full((64,), 7.0)), "something was written before the error"


BAD_GRADIENTS = {
    "no objectives": ([], ValueError, r"grads: expected 1 to 64 objectives, got 0"),
    "65 objectives": ([[TWO]] * 65, ValueError, r"grads: expected 1 to 64 objectives, got 65"),
    "None": (None, TypeError, r"grads: expected a sequence of sequences, got NoneType"),
    "one tensor": (ones(2, 3), TypeError, r"grads: expected a sequence of sequences, got \[2, 3\] torch.float32"),
    "a generator": ((row for row in [[TWO]]), TypeError, r"grads: expected a sequence of sequences, got generator"),
    "a dictionary": ({"a": [TWO]}, TypeError, r"grads: expected a sequence of sequences, got dict"),
    "a row that is a tensor": ([TWO], TypeError, r"grads\[0\]: expected a sequence of tensors or None, got \[2\] "),
    "a row of None": ([[TWO], None], TypeError, r"grads\[1\]: expected a sequence of tensors or None, got NoneType"),
    "a generator row": ([[TWO], iter([TWO])], TypeError, r"grads\[1\]: expected a sequence .*, got list_iterator"),
    "short row": ([[TWO], []], ValueError, r"grads\[1\]: expected 1 parameters as in grads\[0\], got 0"),
    "long row": ([[TWO], [TWO, None]], ValueError, r"grads\[1\]: expected 1 parameters as in grads\[0\], got 2"),
    "no tensor": ([["g"]], TypeError, r"grads\[0\]\[0\]: expected a tensor or None, got str"),
    "a number": ([[TWO, TWO], [TWO, 1.0]], TypeError, r"grads\[1\]\[1\]: expected a tensor or None, got float"),
    "shapes": ([[TWO], [ones(3)]], ValueError, r"grads\[1\]\[0\]: expected \[2\] .*, got \[3\] torch.float32"),
    "transposed": ([[ones(2, 3)], [ones(3, 2)]], ValueError, r"grads\[1\]\[0\]: expected \[2, 3\] .*, got \[3, 2\]"),
    "one more dimension": (
        [[None, TWO], [TWO, ones(1, 2)]],
        ValueError,
        r"grads\[1\]\[1\]: expected \[2\] .* \[1, 2\]",
    ),
    "no elements": ([[ones(0)], [ones(0, 2)]], ValueError, r"grads\[1\]\[0\]: expected \[0\] .*, got \[0, 2\]"),
    "types": ([[None], [TWO], [TWO.double()]], ValueError, r"grads\[2\]\[0\]: expected .*float32.*, got .*float64"),
    "integers": ([[TWO.long()]], TypeError, r"grads\[0\]\[0\]: .* of a floating type, got \[2\] torch.int64"),
    "booleans": ([[TWO], [TWO > 0]], TypeError, r"grads\[1\]\[0\]: .* of a floating type, got \[2\] torch.bool"),
    "complex": ([[TWO.cfloat()]], TypeError, r"grads\[0\]\[0\]: .* of a floating type, got \[2\] torch.complex64"),
    "sparse": ([[TWO.to_sparse()]], TypeError, r"grads\[0\]\[0\]: expected a dense tensor .*sparse_coo"),
    "layouts": ([[TWO], [TWO.to_sparse()]], TypeError, r"grads\[1\]\[0\]: expected a dense tensor .*sparse_coo"),
    "mkldnn": ([[ones(2, 2).to_mkldnn()]], TypeError, r"grads\[0\]\[0\]: expected a dense tensor .*_mkldnn"),
    "devices": ([[TWO], [META]], ValueError, r"grads\[1\]\[0\]: expected on cpu, .*got \[2\] torch.float32 on meta"),
    "devices of parameters": ([[META, TWO]], ValueError, r"grads\[0\]\[1\]: expected on meta, .*on cpu, strided"),
}


@pytest.mark.parametrize(("grads", "error", "message"), BAD_GRADIENTS.values(), ids=BAD_GRADIENTS)
def test_bad_gradients(grads, error, message):
    out = [BUFFER[:2]]
    for call in (
        lambda: gk.gram(grads),
        lambda: gk.gram(grads, [0]),
        lambda: gk.combine(grads, ones(2), out=out),
        lambda: gk.surgery(grads, out=out),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors():
    nested = torch.nested.nested_tensor([ones(2), ones(3)])
    with pytest.raises(TypeError, match=r"grads\[0\]\[0\]: expected a dense tensor, got a nested one"):
        gk.gram([[nested]])


# Weights

T, P, SHAPE = 2, 3, (2, 3)
GRADS = [[ones(SHAPE) for _ in range(P)] for _ in range(T)]
SHAPES_OF_WEIGHTS = r"weights: expected \[T\] = \[2\] or \[P, T\] = \[3, 2\], got "


def given() -> list[torch.Tensor]:
    """Results, one for each parameter."""
    return [BUFFER[8 * p : 8 * p + 6].view(SHAPE) for p in range(P)]


BAD_WEIGHTS = {
    "length": (ones(3), SHAPES_OF_WEIGHTS + r"\[3\]"),
    "one number": (ones(()), SHAPES_OF_WEIGHTS + r"\[\]"),
    "transposed": (ones(2, 3), SHAPES_OF_WEIGHTS + r"\[2, 3\]"),
    "one row": (ones(1, 2), SHAPES_OF_WEIGHTS + r"\[1, 2\]"),
    "three dimensions": (ones(1, 3, 2), SHAPES_OF_WEIGHTS + r"\[1, 3, 2\]"),
    "a list": ([1.0, 1.0], SHAPES_OF_WEIGHTS + "list"),
    "None": (None, SHAPES_OF_WEIGHTS + "NoneType"),
    "integers": (TWO.int(), r"weights: expected floating, dense, on cpu, got \[2\] torch.int32"),
    "booleans": (TWO > 0, r"weights: expected floating, dense, on cpu, got \[2\] torch.bool"),
    "complex": (TWO.cdouble(), r"weights: expected floating, dense, on cpu, got \[2\] torch.complex128"),
    "sparse": (TWO.to_sparse(), r"weights: expected floating, dense, on cpu, got .* sparse_coo"),
    "device": (META, r"weights: expected floating, dense, on cpu, got \[2\] torch.float32 on meta"),
}


@pytest.mark.parametrize(("weights", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_bad_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        gk.combine(GRADS, weights, out=given())
    with pytest.raises(ValueError, match=message):
        gk.surgery(GRADS, lambda gram: weights, out=given())


def test_bad_weights_of_groups():
    with pytest.raises(ValueError, match=SHAPES_OF_WEIGHTS + r"\[3, 3\]"):
        gk.surgery(GRADS, lambda gram: ones(3), groups=[0, 1, 0], out=given())


# Results

SHARES = r"shares its memory with "
BAD_OUT = {
    "too few": (lambda: given()[:2], r"out: expected 3 tensors, one for each parameter, got 2"),
    "too many": (lambda: [*given(), None], r"out: expected 3 tensors, one for each parameter, got 4"),
    "shape": (lambda: [*given()[:2], BUFFER[:6]], r"out\[2\]: expected \[2, 3\] torch.float32 .*got \[6\]"),
    "type": (lambda: [*given()[:2], ones(SHAPE).half()], r"out\[2\]: expected .*float32 .*got .*float16"),
    "device": (lambda: [*given()[:2], ones(SHAPE, device="meta")], r"out\[2\]: expected .* on cpu, .* on meta"),
    "layout": (lambda: [*given()[:2], ones(SHAPE).to_sparse()], r"out\[2\]: expected .* strided, got .* sparse_coo"),
    "no tensor": (lambda: [*given()[:2], 1.0], r"out\[2\]: expected \[2, 3\] .*, got float"),
    "requires grad": (lambda: [*given()[:2], ones(SHAPE, requires_grad=True)], r"out\[2\]: .*neither requires grad"),
    "result of a graph": (lambda: [*given()[:2], ones(SHAPE, requires_grad=True) * 1], r"out\[2\]: .*requires grad"),
    "negated": (lambda: [*given()[:2], torch._neg_view(ones(SHAPE))], r"out\[2\]: .*nor is lazily negated"),
    "expanded": (lambda: [*given()[:2], BUFFER[60:63].expand(SHAPE)], r"out\[2\]: overlaps itself"),
    "overlapping rows": (
        lambda: [*given()[:2], BUFFER[32:].as_strided(SHAPE, (1, 1))],
        r"out\[2\]: overlaps itself, \[2, 3\] with strides \(1, 1\)",
    ),
    "twice the same": (lambda: [given()[0], None, given()[0]], r"out\[2\] " + SHARES + r"out\[0\]"),
    "overlapping": (
        lambda: [BUFFER[5:11].view(SHAPE), BUFFER[:6].view(SHAPE), None],
        r"out\[1\] " + SHARES + r"out\[0\]",
    ),
}


@pytest.mark.parametrize(("make_out", "message"), BAD_OUT.values(), ids=BAD_OUT)
def test_bad_results(make_out, message):
    for call in (
        lambda out: gk.combine(GRADS, TWO, out=out),
        lambda out: gk.surgery(GRADS, out=out),
        lambda out: gk.surgery(GRADS, groups=[0, 1, 0], out=out),
    ):
        with pytest.raises(ValueError, match=message):
            call(make_out())


@pytest.mark.parametrize("out", [3, torch.ones(3, 2, 3), (g for g in GRADS[0])], ids=["int", "tensor", "generator"])
def test_results_that_are_no_sequence(out):
    with pytest.raises(
        TypeError, match=r"out: expected a sequence of tensors or None, got (int|\[3, 2, 3\]|generator)"
    ):
        gk.combine(GRADS, TWO, out=out)


GRADIENTS_OF = SHARES + "gradients of parameter "
OVER_GRADIENTS = {
    "of another parameter": (lambda a, b: [[a, b]], lambda a, b: [b, None], r"out\[0\] " + GRADIENTS_OF + "1"),
    "exchanged": (lambda a, b: [[a, b]], lambda a, b: [b, a], GRADIENTS_OF),
    "of another objective": (
        lambda a, b: [[b, None], [b, a]],
        lambda a, b: [a, None],
        r"out\[0\] " + GRADIENTS_OF + "1",
    ),
    "shifted": (lambda a, b: [[BUFFER[1:10].view(3, 3), b]], lambda a, b: [a, None], r"out\[0\] " + GRADIENTS_OF + "0"),
    "its transpose": (
        lambda a, b: [[b, b], [a.mT, b]],
        lambda a, b: [a, None],
        r"out\[0\] " + SHARES + r"grads\[1\]\[0\], whose strides are others",
    ),
    "behind one that is negated": (
        lambda a, b: [[b, torch._neg_view(a)]],
        lambda a, b: [a, None],
        r"out\[0\] " + GRADIENTS_OF + "1",
    ),
}


@pytest.mark.parametrize(("make_grads", "make_out", "message"), OVER_GRADIENTS.values(), ids=OVER_GRADIENTS)
def test_results_in_the_place_of_gradients_that_are_still_needed(make_grads, make_out, message):
    a, b = BUFFER[:9].view(3, 3), BUFFER[9:18].view(3, 3)
    grads = make_grads(a, b)
    with pytest.raises(ValueError, match=message):
        gk.combine(grads, ones(len(grads)), out=make_out(a, b))


# Groups

BAD_GROUPS = {
    "too few": ([0, 0], ValueError, r"groups: expected 3 ints, one for each parameter, got 2"),
    "too many": ([0, 0, 0, 0], ValueError, r"groups: expected 3 ints, one for each parameter, got 4"),
    "negative": ([0, -1, 0], ValueError, r"groups\[1\]: expected an int from 0 to 2, got -1"),
    "too large": ([0, 0, 3], ValueError, r"groups\[2\]: expected an int from 0 to 2, got 3"),
    "beyond 64 bits": ([2**70, 0, 0], ValueError, r"groups\[0\]: expected an int from 0 to 2, got 118"),
    "a float": ([0.0, 0, 0], ValueError, r"groups\[0\]: expected an int from 0 to 2, got 0\.0"),
    "a bool": ([0, True, 0], ValueError, r"groups\[1\]: expected an int from 0 to 2, got True"),
    "None": ([0, None, 0], ValueError, r"groups\[1\]: expected an int from 0 to 2, got None"),
    "letters": ("abc", ValueError, r"groups\[0\]: expected an int from 0 to 2, got 'a'"),
    "one int": (1, TypeError, r"groups: expected a sequence of ints, got int"),
    "a tensor": (torch.zeros(3).long(), TypeError, r"groups: expected a sequence of ints, got Tensor"),
}


@pytest.mark.parametrize(("groups", "error", "message"), BAD_GROUPS.values(), ids=BAD_GROUPS)
def test_bad_groups(groups, error, message):
    with pytest.raises(error, match=message):
        gk.gram(GRADS, groups)
    with pytest.raises(error, match=message):
        gk.surgery(GRADS, groups=groups, out=given())


# Orders, Gramians, and what else there is

EYE, ORDER = torch.eye(3).double(), gk.projection_order(3)
pcgrad: Callable = gk.pcgrad_weights
OTHER_CALLS = {
    "float32": (lambda: pcgrad(EYE.float(), ORDER), r"gram: expected float64 \[T, T\], got torch.float32 \[3, 3\]"),
    "not square": (lambda: pcgrad(EYE[:2], ORDER), r"gram: expected float64 \[T, T\], got torch.float64 \[2, 3\]"),
    "a vector": (lambda: pcgrad(EYE[0], ORDER), r"gram: expected float64 \[T, T\], got torch.float64 \[3\]"),
    "a list": (lambda: pcgrad([[1.0]], ORDER), r"gram: expected float64 \[T, T\], got list"),
    "sparse": (lambda: pcgrad(EYE.to_sparse(), ORDER), r"gram: expected float64 \[T, T\], got .*torch.sparse_coo"),
    "65": (lambda: pcgrad(torch.eye(65).double(), ORDER), r"gram: expected 1 to 64 objectives, got 65"),
    "0": (lambda: pcgrad(EYE[:0, :0], ORDER), r"gram: expected 1 to 64 objectives, got 0"),
    "order of 4": (lambda: pcgrad(EYE, gk.projection_order(4)), r"order: expected int64 \[3, 2\], got .* \[4, 3\]"),
    "one for all": (lambda: pcgrad(EYE.expand(2, 3, 3), ORDER), r"order: expected int64 \[2, 3, 2\], got .* \[3, 2\]"),
    "int32": (lambda: pcgrad(EYE, ORDER.int()), r"order: expected int64 \[3, 2\], got torch.int32 \[3, 2\]"),
    "order is a list": (lambda: pcgrad(EYE, ORDER.tolist()), r"order: expected int64 \[3, 2\], got list"),
    "on meta": (lambda: pcgrad(EYE, ORDER.to("meta")), r"order: expected on the Gramian's device cpu, got meta"),
    "twice": (
        lambda: pcgrad(EYE, torch.tensor([[1, 2], [0, 0], [0, 1]])),
        r"order\[1\]: expected a permutation of \[0, 2\], got \[0, 0\]",
    ),
    "itself": (
        lambda: pcgrad(EYE, torch.tensor([[1, 2], [0, 2], [0, 2]])),
        r"order\[2\]: expected a permutation of \[0, 1\], got \[0, 2\]",
    ),
    "beyond": (
        lambda: pcgrad(EYE, torch.tensor([[1, 3], [0, 2], [0, 1]])),
        r"order\[0\]: expected a permutation of \[1, 2\], got \[1, 3\]",
    ),
    "below": (
        lambda: pcgrad(EYE, torch.tensor([[-1, 2], [0, 2], [0, 1]])),
        r"order\[0\]: expected a permutation of \[1, 2\], got \[-1, 2\]",
    ),
    "in the second": (
        lambda: pcgrad(EYE.expand(2, 3, 3), torch.stack([ORDER, ORDER.new_zeros(3, 2)])),
        r"order\[1\]\[0\]: expected a permutation of \[1, 2\], got \[0, 0\]",
    ),
    "no objectives": (lambda: gk.projection_order(0), r"num_objectives: expected 1 to 64, got 0"),
    "too many objectives": (lambda: gk.projection_order(65), r"num_objectives: expected 1 to 64, got 65"),
    "reduction": (lambda: gk.surgery(GRADS, reduction="max", out=given()), r"reduction: .*'mean' or 'sum', got 'max'"),
    "reduction and weighting": (
        lambda: gk.surgery(GRADS, gk.weightings.mean, reduction="sum", out=given()),
        r"reduction and generator belong to GMD",
    ),
    "generator and weighting": (
        lambda: gk.surgery(GRADS, gk.weightings.mean, generator=torch.Generator(), out=given()),
        r"reduction and generator belong to GMD",
    ),
}


@pytest.mark.parametrize(("call", "message"), OTHER_CALLS.values(), ids=OTHER_CALLS)
def test_other_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
