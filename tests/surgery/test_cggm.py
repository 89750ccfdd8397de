"""CGGM: what reaches `.grad`, what the classifiers learn, and what a bad batch leaves behind."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import gmd
from gmd.data.padded import Padded
from gmd.data.pairs import Pairs
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.late_fusion import LateFusionTransformer
from gmd.subsets import all_subsets
from gmd.surgery import CGGM, MeanGradient
from gmd.surgery._direction_loss import gradient_losses
from gmd.training.tasks import criteria
from gmd.training.tasks.criteria import absolute_error
from helpers.cggm_cases import (
    CASES,
    FEATURES,
    NAMES,
    Run,
    gradients,
    late_fusion,
    loss_of,
    negative_error,
    outputs_of,
    sequences,
    shared,
    squared_error,
    targets_of,
)


def contributions(run, seed=0):
    """Of the loss: [M] gradients that come to the parameters by each output, and those behind the outputs."""
    inputs, targets = run.batch(seed)
    named = dict(run.network.named_parameters())
    outputs = outputs_of(run.network, inputs)
    values = list(outputs.values.values())
    detached = {m: value.detach().requires_grad_() for m, value in outputs.values.items()}
    outputs.values = detached
    loss = loss_of(run.network, outputs, targets, run.criterion)
    found = torch.autograd.grad(loss, [*detached.values(), *named.values()], allow_unused=True)
    behind = dict(zip(named, found[len(values) :], strict=True))
    before = [
        dict(zip(named, torch.autograd.grad(v, named.values(), g, retain_graph=True, allow_unused=True), strict=True))
        for v, g in zip(values, found, strict=False)
    ]
    return before, behind


def total(parts, factors):
    """The weighted sum, None where there is nothing."""
    terms = [factor * part for part, factor in zip(parts, factors, strict=True) if part is not None]
    return sum(terms) if terms else None


def assert_same(got, expected, rtol=1e-9):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert (got[name] is None) == (value is None), name
        if value is not None:
            assert (got[name] - value).norm() <= rtol * (value.norm() + 1e-6), name


@pytest.mark.parametrize("name", CASES)
def test_trap_every_parameter_before_an_output_is_scaled_whatever_its_name(name):
    """Published: the segmentation trainer scales parameters by names that its model does not have, 0 of 1331."""
    run = Run(name, lam=None, lr=0.01, rule="published")
    for seed in range(2):
        run.step(seed)
    before, behind = contributions(run, seed=5)
    report = run.backward(seed=5)
    factors = report.modality["factor"].tolist()
    assert max(factors) - min(factors) > 1e-3, "all the same: this test would show little"
    expected = {key: total([behind[key], *(part[key] for part in before)], [1.0, *factors]) for key in behind}
    assert_same(gradients(run.network), expected, rtol=1e-7)
    ways = [sum(part[key] is not None for part in before) for key in behind if behind[key] is None]
    assert all(ways), "every parameter that is not behind the outputs lies before one"
    assert (max(ways) == 3) == (name in ("shared", "unet")), "shared parameters are scaled by contribution"


def test_terms_and_factors_belong_to_the_modality_they_are_reported_for():
    """Whatever the order of the outputs."""
    found = []
    for order in (NAMES, ("c", "a", "b")):
        run = Run(rule="published")
        run.step(0)
        report = run.backward(1, order=order)
        terms = [
            dict(zip(order, report.modality[key].tolist(), strict=True)) for key in ("metric", "balance", "factor")
        ]
        found.append((terms, gradients(run.network)))
    assert found[0][0] == found[1][0]
    assert len(set(found[0][0][1].values())) == 3, "all the same: this test would show nothing"
    assert_same(found[1][1], found[0][1])


def test_without_rho_and_lam_it_is_the_plain_method():
    run = Run(rho=None, lam=None)
    report = run.backward()
    got = gradients(run.network)
    network = late_fusion()
    inputs, scores = sequences()
    plain = MeanGradient(torch.optim.SGD(network.parameters(), lr=0.1))
    expected = plain.backward([loss_of(network, outputs_of(network, inputs), scores)])
    assert all(torch.equal(got[name], value) for name, value in gradients(network).items())
    assert torch.equal(report.gram, expected.gram)
    assert torch.equal(report.losses, expected.losses)
    assert "factor" not in report.modality


@pytest.mark.parametrize("rho", [None, 1.3])
@pytest.mark.parametrize("name", CASES)
def test_the_direction_is_that_of_the_classifiers_as_they_were(name, rho):
    """Against the loss written out, with the classifiers' gradients and the terms as constants."""
    run = Run(name, rho=rho, lam=0.7)
    inputs, targets = run.batch(0)
    classifiers = deepcopy(run.method.classifiers)
    report = run.backward(0)
    got = gradients(run.network)
    outputs = outputs_of(run.network, inputs)
    guides = list(classifiers.judge(outputs.values, targets_of(outputs, targets)).gradients.values())
    loss = loss_of(run.network, outputs, targets, run.criterion)
    loss = loss + 0.7 * gradient_losses([loss], run.network.head, guides, report.modality["balance"])[0]
    run.optimizer.zero_grad()
    MeanGradient(run.optimizer).backward([loss], outputs.values, report.modality.get("factor"))
    assert_same(got, gradients(run.network))
    plain = Run(name, rho=rho, lam=None)
    plain.backward(0)
    moved = got["head.weight"] - gradients(plain.network)["head.weight"]
    assert moved.norm() > 1e-3 * got["head.weight"].norm()
    assert torch.equal(report.losses, plain.backward(0).losses), "the losses are the user's own"


def test_report():
    run = Run()
    run.step(0)
    classifiers = deepcopy(run.method.classifiers)
    report = run.backward(1, order=("c", "a", "b"))
    inputs, scores = run.batch(1)
    outputs = outputs_of(run.network, inputs).values
    expected = [float(negative_error(classifiers.models[m](outputs[m]), scores).detach()) for m in ("c", "a", "b")]
    modality = report.modality
    assert modality.keys() == {"gradient norm", "metric", "balance", "factor"}
    assert all(value.shape == (3,) and value.dtype == torch.float64 for value in modality.values())
    assert modality["metric"].tolist() == pytest.approx(expected), "of the classifiers before they learn"
    assert torch.allclose(modality["factor"], 1.3 * modality["balance"])
    assert float(modality["balance"].sum()) == pytest.approx(2.0)
    assert not any(value.requires_grad for value in modality.values())


def _gmd(optimizer, **options):
    return gmd.GMD(optimizer, generator=torch.Generator().manual_seed(4), **options)


@pytest.mark.parametrize("tol", [0.0, 1e-7])
def test_with_gmd_each_objective_gets_its_own_direction_and_private_stays_private(tol):
    """Against GMD on the guided losses without outputs; and the passes are still those of the subsets."""
    network, subsets = shared(), all_subsets(NAMES)
    optimizer = torch.optim.SGD(network.named_parameters(), lr=0.1)
    cggm = CGGM(
        optimizer,
        network.head,
        squared_error,
        negative_error,
        NAMES,
        rho=None,
        lam=0.5,
        surgeon=_gmd(optimizer, tol=tol),
    )
    classifiers = deepcopy(cggm.classifiers)
    inputs, scores = sequences()
    outputs = outputs_of(network, inputs)
    targets = targets_of(outputs, scores)

    def losses():
        return [(-1) ** k * loss_of(network, outputs, scores, subset=subset) for k, subset in enumerate(subsets)]

    report = cggm.backward(losses(), outputs.values, targets)
    got = gradients(network)
    network.zero_grad()
    outputs = outputs_of(network, inputs)
    guides = list(classifiers.judge(outputs.values, targets).gradients.values())
    plain = losses()
    terms = gradient_losses(plain, network.head, guides, report.modality["balance"])
    expected = _gmd(optimizer).backward([loss + 0.5 * term for loss, term in zip(plain, terms, strict=True)])
    assert expected.conflicts > 0, "no conflict: this test would show nothing"
    assert_same(got, gradients(network), rtol=1e-5)
    assert torch.allclose(report.gram, expected.gram, rtol=1e-6)
    assert len(report.gram) == 7
    if tol == 0:
        assert report.directions == (4, 4, 4)


def test_gmd_gets_the_factors():
    run = Run("shared", _gmd, lam=None)
    before, behind = contributions(run)
    report = run.backward()  # one objective: no conflicts, and the factors are all there is
    factors = report.modality["factor"].tolist()
    expected = {name: total([behind[name], *(part[name] for part in before)], [1.0, *factors]) for name in behind}
    assert_same(gradients(run.network), expected, rtol=1e-6)


def test_samples_that_lack_modalities_are_left_out_of_theirs():
    run = Run()
    inputs, scores = sequences()
    inputs.samples = {"a": [0, 1, 2, 3, 4, 5], "b": [1, 4], "c": [0, 5]}
    inputs.values = {m: inputs.values[m][samples] for m, samples in inputs.samples.items()}
    outputs = outputs_of(run.network, inputs)
    models = deepcopy(run.method.classifiers.models)
    expected = negative_error(models["b"](outputs.values["b"]), scores[[1, 4]])
    report = run.method.backward([loss_of(run.network, outputs, scores)], outputs.values, targets_of(outputs, scores))
    assert float(report.modality["metric"][1]) == pytest.approx(float(expected.detach()))
    assert all(p.grad.isfinite().all() for p in run.network.parameters())


def test_padded_steps_have_no_say():
    """Targets for every step, sequences of two lengths: whatever they are padded to, the gradients are the same."""
    draw = torch.Generator().manual_seed(1)
    lengths = [3, 5]
    steps = {m: [torch.randn(n, f, generator=draw, dtype=torch.float64) for n in lengths] for m, f in FEATURES.items()}
    scores = [torch.randn(n, generator=draw, dtype=torch.float64) for n in lengths]
    found = []
    for longest in (5, 8):
        torch.manual_seed(0)
        network = LateFusionTransformer(FEATURES, 1, per_step=True, width=8, layers=1, heads=2, dropout=0.0).double()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        cggm = CGGM(optimizer, network.head, absolute_error, criteria.negative_error, NAMES, lam=0.5)
        values = {m: Padded(_padded(each, longest, 0.0), torch.tensor(lengths)) for m, each in steps.items()}
        targets = _padded(scores, longest, torch.nan)
        outputs = outputs_of(network, Pairs(2, {m: [0, 1] for m in NAMES}, values))
        loss = loss_of(network, outputs, targets, absolute_error)
        report = cggm.backward([loss], outputs.values, targets_of(outputs, targets))
        found.append((gradients(network), report.modality["metric"]))
    assert_same(found[1][0], found[0][0])
    assert torch.allclose(found[1][1], found[0][1])


def _padded(sequences, longest, filling):
    return torch.stack([torch.cat([s, s.new_full((longest - len(s), *s.shape[1:]), filling)]) for s in sequences])


@pytest.mark.parametrize("direction", ["gradient", "weights"])
@pytest.mark.parametrize("make_surgeon", [None, gmd.GMD])
def test_a_backward_pass_outside_of_autocast(make_surgeon, direction):
    """Outputs and losses are bf16's then; the classifiers compute in their own type, and all goes its way."""
    network = late_fusion().float()
    inputs, scores = sequences()
    inputs.values = {m: values.float() for m, values in inputs.values.items()}
    found = []
    for autocast in (False, True):
        torch.manual_seed(7)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        surgeon = None if make_surgeon is None else make_surgeon(optimizer)
        cggm = CGGM(optimizer, network.head, squared_error, negative_error, NAMES, direction=direction, surgeon=surgeon)
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            outputs = run_modalities(network, inputs)
            outputs.values = {m: value.bfloat16() if autocast else value for m, value in outputs.values.items()}
            loss = loss_of(network, outputs, scores.float())
        targets = {m: target.float() for m, target in targets_of(outputs, scores).items()}
        report = cggm.backward([loss], outputs.values, targets)
        assert report.finite
        found.append((gradients(network), report.modality))
    (exact, expected), (rounded, modality) = found
    assert_same(rounded, exact, rtol=0.1)
    assert torch.allclose(modality["metric"], expected["metric"], rtol=0.02)
    assert all(value.dtype == torch.float64 for value in modality.values())


def test_the_scaler_leaves_without_a_trace():
    got = {}
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=1024.0)):
        run = Run(make_surgeon=partial(MeanGradient, scaler=scaler))
        run.backward()
        got[scaler is None] = gradients(run.network)
    assert_same(got[False], got[True])


class _NoReading(TorchDispatchMode):
    """Raises where the host reads a value: on a GPU it would have to wait for it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "the host reads a tensor"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("direction", ["gradient", "weights"])
@pytest.mark.parametrize("rule", ["smooth", "published"])
def test_trap_nothing_is_read_on_the_host_and_numpy_sees_nothing(monkeypatch, rule, direction):
    """Published: numpy on CUDA scalars, so that the segmentation trainer cannot start on a GPU."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("numpy got a tensor")

    run = Run(rule=rule, direction=direction)
    run.step(0)
    given = run.forward(1)
    for name in ("numpy", "__array__", "tolist"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    with _NoReading():
        run.method.backward(*given)


def test_training_brings_the_loss_down_with_everything_on():
    run = Run()
    first = float(run.step().losses)
    for _ in range(60):
        report = run.step()
    assert float(report.losses) < 0.5 * first


def test_the_paths_of_the_modalities_may_be_compiled():
    """What is gone through twice, the head and the criterion, is behind them."""
    x = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        network = nn.ModuleDict({"path": nn.Linear(5, 4), "head": nn.Linear(4, 1)}).double()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        cggm = CGGM(optimizer, network["head"], squared_error, negative_error, NAMES)
        path = torch.compile(network["path"], backend="aot_eager") if compiled else network["path"]
        outputs = {m: path(values) for m, values in zip(NAMES, x, strict=True)}
        assert (outputs["a"].grad_fn.name() == "CompiledFunctionBackward") == compiled
        loss = squared_error(network["head"](sum(outputs.values())), x[0, :, 0])
        cggm.backward([loss], outputs, dict.fromkeys(NAMES, x[0, :, 0]))
        found.append(gradients(network))
    torch.compiler.reset()
    assert_same(found[1], found[0])
