"""What the functions that users pass return: metrics, scores and criteria of any kind of number, or an error."""

import numpy as np
import pytest
import torch

import gmd
from helpers.assertions import assert_same_bits
from helpers.cggm_cases import Run, negative_error
from helpers.multimodal_cases import Multimodal, batches, losses_of

KINDS = {
    "float": float,
    "numpy's float64": np.float64,
    "numpy's float32": lambda value: np.float32(value),
    "an array of no dimension": lambda value: value.numpy(),
    "one element": lambda value: value[None],
    "float32": torch.Tensor.float,
}
WRONG = [
    (lambda *_: None, "NoneType"),
    (lambda *_: "0.5", "str"),
    (lambda *_: [0.5], "list"),
    (lambda *_: torch.zeros(2), r"a tensor of torch.float32, shape \[2\]"),
    (lambda *_: np.zeros(2), "ndarray"),
    (lambda *_: np.zeros(1), "ndarray"),
    (lambda *_: torch.zeros((), dtype=torch.complex64), "a tensor of torch.complex64"),
]


def ogm_ge(model, score):
    return gmd.OGMGE(torch.optim.SGD(model.parameters()), 0.1, score, torch.Generator().manual_seed(3))


def reported_by_ogm_ge(score):
    model = Multimodal()
    x, target = batches(1)[0]
    outputs = model(x)
    report = ogm_ge(model, score).backward(losses_of(outputs, target), outputs, outputs, dict.fromkeys(outputs, target))
    return report.modality["score"]


def closeness(predictions, targets):
    return 1 / (1 + (predictions - targets).double().square().mean())


@pytest.mark.parametrize("kind", KINDS)
def test_a_metric_returns_a_number_of_any_kind(kind):
    expected, run = Run(), Run()
    run.method.classifiers.metric = lambda *given: KINDS[kind](negative_error(*given))
    expected, got = (each.backward().modality["metric"] for each in (expected, run))
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_returns_a_number_of_any_kind(kind):
    got = reported_by_ogm_ge(lambda *given: KINDS[kind](closeness(*given)))
    torch.testing.assert_close(got, reported_by_ogm_ge(closeness), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("function", "got"), WRONG)
def test_what_is_no_number_is_named(function, got):
    run = Run()
    run.method.classifiers.metric = function
    before = run.state()
    with pytest.raises(TypeError, match=f"metric: expected it to return a number or a scalar tensor, got {got}"):
        run.backward()
    assert_same_bits(tensors_of(run.state()), tensors_of(before))
    with pytest.raises(TypeError, match=f"score: expected it to return a number or a scalar tensor, got {got}"):
        reported_by_ogm_ge(function)


@pytest.mark.parametrize(
    ("function", "error", "got"),
    [
        (lambda *_: 0.5, TypeError, "float"),
        (lambda *_: torch.zeros(()), ValueError, r"a tensor of torch.float32, shape \[\], without grad"),
        (lambda predictions, _: predictions, ValueError, r"a tensor of torch.float64, shape \[6, 1\]"),
    ],
)
def test_a_criterion_that_cannot_be_learnt_from_is_named(function, error, got):
    run = Run()
    run.method.classifiers.criterion = function
    with pytest.raises(error, match=f"criterion: expected it to return a scalar tensor.*, got {got}"):
        run.backward()


def tensors_of(state):
    if isinstance(state, dict):
        return [part for value in state.values() for part in tensors_of(value)]
    if isinstance(state, list):
        return [part for value in state for part in tensors_of(value)]
    return [state] if isinstance(state, torch.Tensor) else []
