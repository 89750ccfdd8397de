"""OGM-GE: its coefficients by hand, which parameters get noise, and how much."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

import gmd
from gmd.surgery import OGMGE, MeanGradient
from gmd.surgery._graph import leaves_of
from gmd.surgery.ogm_ge import modulation
from gmd.training.tasks.criteria import probability
from helpers.cggm_cases import NAMES, gradients, late_fusion, loss_of, outputs_of, sequences, shared, targets_of


def closeness(predictions, scores):
    return (predictions.squeeze(-1) - scores).abs().neg().exp().mean()


class Run:
    """A step of OGM-GE where the predictions of each modality are given, right up to an error."""

    def __init__(self, make=late_fusion, errors=(0.1, 1.0, 1.0), alpha=0.5, seed=0, make_surgeon=None, **options):
        self.network = make()
        self.errors = dict(zip(NAMES, errors, strict=True))
        optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
        surgeon = None if make_surgeon is None else make_surgeon(optimizer)
        generator = torch.Generator().manual_seed(seed)
        self.method = OGMGE(optimizer, alpha, closeness, generator, surgeon, **options)

    def forward(self, **options):
        inputs, scores = sequences(**options)
        outputs = outputs_of(self.network, inputs)
        targets = targets_of(outputs, scores)
        predictions = {m: (targets[m] + self.errors[m])[:, None] for m in outputs.values}
        return [loss_of(self.network, outputs, scores)], outputs.values, predictions, targets

    def backward(self, **options):
        self.network.zero_grad()
        return self.method.backward(*self.forward(**options))

    def plain(self, factors=None, **options):
        """Gradients without noise."""
        self.network.zero_grad()
        losses, outputs, _, _ = self.forward(**options)
        MeanGradient(self.method.optimizer).backward(losses, outputs, factors)
        return gradients(self.network)


def owner(name):
    """The modality that a parameter of the late fusion belongs to alone; None of the fusion and the head."""
    part, number = name.split(".")[:2]
    return NAMES[int(number)] if part in ("inputs", "encoders") else None


def test_coefficients_by_hand():
    scores = torch.tensor([0.8, 0.2, 0.5], dtype=torch.float64)
    expected = [1 - math.tanh(0.3 * 0.8 / 0.35), 1.0, 1.0]
    assert modulation(scores, 0.3).tolist() == pytest.approx(expected)
    scores = torch.tensor([0.8, 0.2, 0.8], dtype=torch.float64)
    expected = [1 - math.tanh(0.3 * 1.6), 1.0, 1 - math.tanh(0.3 * 1.6)]
    assert modulation(scores, 0.3).tolist() == pytest.approx(expected)


def test_two_modalities_are_the_papers_own_case():
    scores = torch.tensor([0.9, 0.6], dtype=torch.float64)
    assert modulation(scores, 0.1).tolist() == pytest.approx([1 - math.tanh(0.1 * 1.5), 1.0])


def test_a_lone_modality_is_not_slowed_down():
    assert modulation(torch.tensor([0.9], dtype=torch.float64), 0.5).tolist() == [1.0]


@example([0.992223293888294] * 3, 1.0)  # their mean is not quite that
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.floats(1e-3, 10))
def test_any_scores(values, alpha):
    factors = modulation(torch.tensor(values, dtype=torch.float64), alpha)
    assert factors.isfinite().all()
    assert ((factors >= 0) & (factors <= 1)).all()
    assert factors[values.index(min(values))] == 1, "the worst is never slowed down"


def test_the_modality_that_is_ahead_is_slowed_and_the_others_are_not():
    run = Run(errors=(0.1, 1.0, 1.0))
    report = run.backward()
    scores = [math.exp(-0.1), math.exp(-1.0), math.exp(-1.0)]
    factors = [1 - math.tanh(0.5 * scores[0] / scores[1]), 1.0, 1.0]
    assert report.modality["score"].tolist() == pytest.approx(scores)
    assert report.modality["factor"].tolist() == pytest.approx(factors)
    assert report.modality["gradient norm"].shape == (3,)
    got = gradients(run.network)
    plain = run.plain()
    lengths = {m: [] for m in NAMES}
    for name, gradient in plain.items():
        noise = got[name] - gradient * dict(zip(NAMES, factors, strict=True)).get(owner(name), 1.0)
        if owner(name) is None:
            assert torch.equal(got[name], gradient), "what is shared gets no noise, and no factor"
        elif gradient.norm() > 1e-9:  # not the bias of the keys, which has no say
            lengths[owner(name)].append(float(noise.norm() / gradient.std(correction=0) / gradient.numel() ** 0.5))
    for m, ratios in lengths.items():
        assert len(ratios) >= 10, m
        assert sum(ratios) / len(ratios) == pytest.approx(1.0, abs=0.2), "the deviation before the factor"


def test_the_noise_has_the_deviation_of_the_gradient_and_no_mean():
    run = Run()
    found = []
    plain = run.plain(torch.tensor([1 - math.tanh(0.5 * math.exp(0.9)), 1.0, 1.0], dtype=torch.float64))
    name = "inputs.0.linear.weight"
    for _ in range(300):
        run.backward()
        found.append(gradients(run.network)[name] - plain[name])
    found = torch.stack(found)
    deviation = run.plain()[name].std(correction=0)
    assert float(found.std() / deviation) == pytest.approx(1.0, abs=0.03)
    assert abs(float(found.mean() / deviation)) < 0.05


def test_shared_networks_get_noise_in_their_private_parts_only():
    run = Run(shared)
    report = run.backward()
    got, expected = gradients(run.network), None
    expected = run.plain(report.modality["factor"])
    private = {name for name in got if not torch.equal(got[name], expected[name])}
    assert {"inputs.0.linear.weight", "inputs.2.linear.weight"} <= private
    assert not {name for name in private if name.startswith("head")}
    named = dict(run.network.named_parameters())
    _, outputs, _, _ = run.forward()
    ways = Counter(id(leaf) for output in outputs.values() for leaf in leaves_of([output]))
    alone = {name for name, param in named.items() if ways[id(param)] == 1}
    assert private == {name for name in alone if expected[name].norm() > 0}
    assert any("encoder" in name and ways[id(param)] == 3 for name, param in named.items())


def test_leaves_are_those_that_are_reached_otherwise_than_through_the_stops():
    before, beside, behind, direct = (torch.ones(2, requires_grad=True) for _ in range(4))
    output = before * direct
    loss = (output * behind + beside + direct).sum()

    def ids(leaves):
        return sorted(map(id, leaves))

    assert ids(leaves_of([loss], [output])) == ids([beside, behind, direct])
    assert ids(leaves_of([output])) == ids([before, direct])
    assert ids(leaves_of([loss])) == ids([before, beside, behind, direct])


class Between(nn.Module):
    """Modalities a and c go through a layer that they share, and b through one of its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.ModuleDict({m: nn.Linear(3, 4) for m in NAMES})
        self.second = nn.ModuleDict({"ac": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
        self.head = nn.Linear(4, 1)


def noisy(method, network, modalities, seed=0):
    """Names of the modules whose gradients have noise after a batch of `modalities`."""
    found = []
    for surgeon in (method, method.surgeon):
        network.zero_grad()
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))
        outputs = {m: network.second["b" if m == "b" else "ac"](network.first[m](x)) for m in modalities}
        loss = network.head(sum(outputs.values())).square().mean()
        targets = dict.fromkeys(modalities, x[:, 0])
        equals = {m: x[:, :1] for m in modalities}  # as good as one another: no factors
        given = (equals, targets) if surgeon is method else ()
        surgeon.backward([loss], outputs, *given)
        found.append(gradients(network))
    got, plain = found
    names = {name for name, gradient in plain.items() if gradient is not None}
    return {name.rsplit(".", 1)[0] for name in names if not torch.equal(got[name], plain[name])}


@pytest.mark.parametrize("batches", [[NAMES], [("b", "c")], [("c",)], [("c",), ("b", "a")]])
def test_what_another_modality_was_ever_seen_to_share_gets_no_noise_in_a_batch_without_that_one(batches):
    network = Between()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    method = OGMGE(optimizer, 0.5, closeness, torch.Generator().manual_seed(0))
    for batch in batches:
        noisy(method, network, batch)
    assert noisy(method, network, ("a", "b")) == {"first.a", "first.b", "second.b"}
    later = OGMGE(optimizer, 0.5, closeness, torch.Generator().manual_seed(0))
    later.load_state_dict(method.state_dict())
    assert noisy(later, network, ("a", "b")) == {"first.a", "first.b", "second.b"}, "nor after a resume"
    assert noisy(later, network, NAMES) == {"first.a", "first.b", "first.c", "second.b"}


def test_a_batch_that_is_refused_tells_nothing():
    """As a layer would be taken for a shared one by its wrong outputs."""
    network = Between()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    method = OGMGE(optimizer, 0.5, closeness, surgeon=gmd.GMD(optimizer))
    x = torch.randn(6, 3)
    hidden = network.first["a"](x)
    outputs = {"a": hidden, "b": network.second["b"](hidden)}
    given = dict.fromkeys(outputs, x[:, :1]), dict.fromkeys(outputs, x[:, 0])
    with pytest.raises(ValueError, match="computed from"):
        method.backward([network.head(outputs["b"]).sum()], outputs, *given)
    assert method.state_dict() == {"owners": {}}


def test_the_generator_decides():
    one, again, other = (Run(seed=seed) for seed in (3, 3, 4))
    for run in (one, again, other):
        run.backward()
    first, second, third = (gradients(run.network) for run in (one, again, other))
    assert all(torch.equal(gradient, second[name]) for name, gradient in first.items())
    assert not torch.equal(first["inputs.0.linear.weight"], third["inputs.0.linear.weight"])


def test_a_batch_without_a_modality():
    run = Run(errors=(1.0, 1.0, 1.0))
    run.backward()
    report = run.backward(absent=("a",))
    assert report.modality["factor"].tolist() == [1.0, 1.0]
    got, expected = gradients(run.network), run.plain(absent=("a",))
    for name, gradient in expected.items():
        assert (gradient is None) == (got[name] is None)
        if gradient is not None:
            assert torch.equal(got[name], gradient) == (owner(name) is None or gradient.norm() == 0), name


@pytest.mark.parametrize("make", [late_fusion, shared])
@pytest.mark.parametrize("before", [0, 1])
def test_a_batch_of_one_modality_gets_no_noise(make, before):
    """There all that it goes through would seem its own, the encoder that all share too; and nothing is to balance."""
    run = Run(make)
    for _ in range(before):
        run.backward()
    report = run.backward(absent=("b", "c"))
    assert report.modality["factor"].tolist() == [1.0]
    got, expected = gradients(run.network), run.plain(absent=("b", "c"))
    for name, gradient in expected.items():
        assert got[name] is gradient or torch.equal(got[name], gradient), name


def test_with_gmd():
    run = Run(make_surgeon=lambda optimizer: gmd.GMD(optimizer))
    report = run.backward()
    factors = report.modality["factor"]
    assert report.directions == (1, 1, 1)
    expected = run.plain(factors)
    run.backward()
    assert torch.allclose(gradients(run.network)["head.weight"], expected["head.weight"])


def test_a_bad_batch_shows():
    run = Run()
    losses, outputs, predictions, targets = run.forward()
    assert not run.method.backward([losses[0] * torch.nan], outputs, predictions, targets).finite


def test_the_score_of_classes_is_the_mean_probability_of_the_right_one():
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)]])
    assert float(probability(logits, torch.tensor([0, 1]))) == pytest.approx((0.5 + 0.75) / 2)


def test_bad_options_and_input_are_refused():
    network = late_fusion()
    one, other = (torch.optim.SGD(network.parameters(), lr=0.1) for _ in range(2))
    for alpha in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="alpha: expected a number above 0"):
            OGMGE(one, alpha, closeness)
    with pytest.raises(ValueError, match="surgeon: expected one of the same optimizer"):
        OGMGE(one, 0.1, closeness, surgeon=MeanGradient(other))
    run = Run()
    losses, outputs, predictions, targets = run.forward()
    for given_predictions, given_targets, message in [
        ({"a": predictions["a"]}, targets, "predictions: expected those of 'b' too, got 'a'"),
        (predictions, targets | {"b": targets["b"][:2]}, r"targets\['b'\]: expected 6 rows"),
    ]:
        with pytest.raises(ValueError, match=message):
            run.method.backward(losses, outputs, given_predictions, given_targets)
        assert all(p.grad is None for p in run.network.parameters())


def test_the_state_is_in_the_optimizers_order():
    """The graph's is another in every process, and checkpoints of the same training would differ."""
    run = Run()
    run.backward()
    owners = list(run.method.state_dict()["owners"])
    assert len(owners) > 20
    assert owners == sorted(owners)
