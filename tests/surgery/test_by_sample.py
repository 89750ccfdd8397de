"""One pass for all objectives gives what a pass for each gives, or is not taken; and a broken promise is found out."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gmd.data.padded import pad
from gmd.data.pairs import Pairs
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.branch_network import BranchNetwork
from gmd.models.sequences.late_fusion import LateFusionTransformer
from gmd.models.sequences.shared_transformer import SharedTransformer
from gmd.surgery import GMD, Report
from gmd.training.objectives import subset_objectives
from gmd.training.tasks.criteria import absolute_error, cross_entropy

FEATURES = {"text": 5, "audio": 3, "vision": 4}
SAMPLES = 6
pytestmark = pytest.mark.usefixtures("one_thread")


def make_network(kind: type, outputs: int = 1, per_step: bool = False, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return kind(FEATURES, outputs, per_step, width=8, layers=2, heads=2, dropout=dropout)


def make_inputs(seed: int, missing: bool = True) -> Pairs:
    """Sequences of different lengths; every modality misses in some sample."""
    generator = torch.Generator().manual_seed(seed)
    samples = {m: [s for s in range(SAMPLES) if not missing or s % 4 != k] for k, m in enumerate(FEATURES)}
    lengths = torch.randint(1, 6, (SAMPLES,), generator=generator).tolist()
    values = {m: pad([torch.randn(lengths[s], FEATURES[m], generator=generator) for s in samples[m]]) for m in FEATURES}
    return Pairs(SAMPLES, samples, values)


def step(network: nn.Module, surgeon: GMD, inputs: Pairs, targets: Tensor, criterion: Callable) -> Report:
    """A backward pass after others, of which the first is the one that is checked. Fills `.grad`."""
    outputs = run_modalities(network, inputs)

    def predict(outputs: Pairs, subset: tuple[str, ...] | None) -> tuple[Tensor, list[int]]:
        fused, samples = network.fuse(outputs, subset)
        return network.head(fused), samples

    losses = subset_objectives(outputs, targets, criterion, predict)
    surgeon.optimizer.zero_grad()
    return surgeon.backward(list(losses.values()), outputs=outputs.values)


def both(network: nn.Module, inputs: Pairs, targets: Tensor, criterion: Callable, **options) -> tuple[Report, Report]:
    """The reports of whole passes and of those by sample. The gradients have to be equal, None in the same places."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    reports, gradients = [], []
    for by_sample in (False, True):
        surgeon = GMD(optimizer, by_sample=by_sample, **options)
        for _ in range(2):  # the second is not checked any more
            surgeon.generator = torch.Generator().manual_seed(0)
            torch.manual_seed(1)  # of the dropout
            report = step(network, surgeon, inputs, targets, criterion)
        reports.append(report)
        gradients.append([param.grad for param in network.parameters()])
    whole, sampled = gradients
    scale = torch.cat([g.flatten() for g in whole if g is not None]).norm()
    for ours, theirs in zip(sampled, whole, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            assert (ours - theirs).norm() <= 1e-5 * scale
    torch.testing.assert_close(reports[1].gram, reports[0].gram, rtol=1e-4, atol=1e-5 * float(reports[0].gram.max()))
    return tuple(reports)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", [SharedTransformer, BranchNetwork])
def test_a_score_takes_one_pass_for_each_modality(kind: type, dropout: float):
    """With sequences of different lengths, samples that miss a modality, and private parameters."""
    network = make_network(kind, dropout=dropout)
    whole, sampled = both(network, make_inputs(0), torch.randn(SAMPLES), absolute_error)
    assert whole.directions == (4, 4, 4)
    assert sampled.directions == (1, 1, 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.booleans())
def test_any_batch_gives_the_same(seed: int, missing: bool):
    targets = torch.randn(SAMPLES, generator=torch.Generator().manual_seed(seed))
    _, sampled = both(make_network(SharedTransformer), make_inputs(seed, missing), targets, absolute_error)
    assert sampled.directions == (1, 1, 1)


def test_two_classes_are_one_score():
    network = make_network(SharedTransformer, outputs=2)
    _, sampled = both(network, make_inputs(0), torch.tensor([0, 1, 1, 0, 1, 0]), cross_entropy)
    assert sampled.directions == (1, 1, 1)


@pytest.mark.parametrize("granularity", ["module", "tensor"])
def test_it_goes_with_every_granularity(granularity: str):
    """With squares: signs may cancel in a tensor, and what rounding leaves of its gradient has any direction."""
    network = make_network(SharedTransformer)
    options = {"granularity": granularity, "model": network}
    squared = lambda predictions, targets: (predictions[..., 0] - targets).square().mean()  # noqa: E731
    _, sampled = both(network, make_inputs(0), torch.randn(SAMPLES), squared, **options)
    assert sampled.directions == (1, 1, 1)


def test_three_classes_take_whole_passes():
    network = make_network(SharedTransformer, outputs=3)
    _, sampled = both(network, make_inputs(0), torch.tensor([0, 1, 2, 0, 1, 2]), cross_entropy)
    assert sampled.directions == (4, 4, 4)


def test_a_target_for_each_step_takes_whole_passes():
    """A sample has several rows then, each with multiples of its own."""
    inputs = make_inputs(0, missing=False)
    length = inputs.values["text"].values.shape[1]
    targets = torch.randn(SAMPLES, length).where(inputs.values["text"].mask, torch.nan)
    _, sampled = both(make_network(SharedTransformer, per_step=True), inputs, targets, absolute_error)
    assert sampled.directions == (4, 4, 4)


def test_a_fusion_that_is_no_mean_takes_whole_passes():
    _, sampled = both(make_network(LateFusionTransformer), make_inputs(0), torch.randn(SAMPLES), absolute_error)
    assert sampled.directions == (4, 4, 4)


class Toy(nn.Module):
    """Two modalities through one body; a mean, and a linear head."""

    modalities = ("left", "right")

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body, self.head = body, nn.Linear(4, 1)

    def forward(self, values: Tensor, modality: int) -> Tensor:
        return self.body(values)

    def fuse(self, outputs: Pairs, subset: tuple[str, ...]) -> tuple[Tensor, list[int]]:
        return outputs.fuse(subset)


class Tied(nn.Module):
    """One layer twice, its weight then once more by itself if asked to."""

    def __init__(self, beside: bool):
        super().__init__()
        self.layer, self.beside = nn.Linear(4, 4), beside

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(torch.tanh(self.layer(x)))
        return out * self.layer.weight.sum() if self.beside else out


class StepsFirst(nn.Module):
    """Keeps its batch behind the steps, as torch's transformers do by default."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x.transpose(0, 1).contiguous())).mean(dim=0)


class Biased(nn.Module):
    """A number of its own for each row, where a bias is the same for all."""

    def __init__(self):
        super().__init__()
        self.layer, self.offsets = nn.Linear(4, 4, bias=False), nn.Parameter(torch.randn(SAMPLES, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.offsets, x, self.layer.weight.t())


class Turned(nn.Module):
    """Weights that go into addmm as they are, or turned into another operation as well."""

    def __init__(self, beside: bool):
        super().__init__()
        self.weight, self.bias, self.beside = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.zeros(4)), beside

    def forward(self, x: Tensor) -> Tensor:
        if not self.beside:
            return torch.addmm(self.bias, x, self.weight)
        turned = self.weight.t()
        return torch.addmm(self.bias, x, turned) + (x @ turned).tanh()


def frozen() -> nn.Module:
    body = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    body[0].weight.requires_grad_(False)
    return body


def toy_case(shape: tuple[int, ...] = (SAMPLES, 4)) -> tuple[Pairs, Tensor]:
    torch.manual_seed(0)
    everybody = list(range(SAMPLES))
    values = {m: torch.randn(shape) for m in Toy.modalities}
    return Pairs(SAMPLES, dict.fromkeys(Toy.modalities, everybody), values), torch.randn(SAMPLES)


BODIES = {
    "a layer twice": (lambda: Tied(beside=False), 1),
    "a frozen weight": (frozen, 1),
    "a norm without an affine": (lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4, elementwise_affine=False)), 1),
    "a weight that is used otherwise too": (lambda: Tied(beside=True), 2),
    "a weight the other way round": (lambda: Turned(beside=False), 2),
    "a turned weight that is used otherwise too": (lambda: Turned(beside=True), 2),
    "a bias for each row": (Biased, 2),
    "a layer without bias": (lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False)), 2),
    "a parameter of another kind": (lambda: nn.Sequential(nn.Linear(4, 4), nn.PReLU()), 2),
}


@pytest.mark.parametrize("name", BODIES)
def test_layers_are_known_or_the_passes_are_whole(name: str):
    make, passes = BODIES[name]
    inputs, targets = toy_case()
    _, sampled = both(Toy(make()), inputs, targets, absolute_error)
    assert sampled.directions == (passes, passes)


@pytest.mark.parametrize("mixed", ["a batch norm", "another order"])
def test_samples_that_mix_are_found_out_before_anything_is_changed(mixed: str):
    body = StepsFirst() if mixed == "another order" else nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False))
    inputs, targets = toy_case((SAMPLES, 3, 4) if mixed == "another order" else (SAMPLES, 4))
    network = Toy(body)
    surgeon = GMD(torch.optim.SGD(network.parameters(), lr=0.1), by_sample=True)
    with pytest.raises(ValueError, match="expected row i of an output to come from sample i alone"):
        step(network, surgeon, inputs, targets, absolute_error)
    assert all(param.grad is None for param in network.parameters())


def test_what_mixes_is_found_out_when_it_is_first_used():
    """Not in a batch of one sample, where nothing mixes yet, nor in one that takes whole passes for other reasons."""
    network, (inputs, targets) = Toy(StepsFirst()), toy_case((SAMPLES, 3, 4))
    surgeon = GMD(torch.optim.SGD(network.parameters(), lr=0.1), by_sample=True)
    first = Pairs(1, {m: [0] for m in Toy.modalities}, {m: values[:1] for m, values in inputs.values.items()})
    assert step(network, surgeon, first, targets[:1], absolute_error).directions == (1, 1)
    losses = [network.body(values).square().sum() for values in inputs.values.values()]
    assert surgeon.backward(losses).finite
    with pytest.raises(ValueError, match="samples mix"):
        step(network, surgeon, inputs, targets, absolute_error)


def test_a_gradient_that_is_not_finite_shows_as_ever():
    network, (inputs, targets) = Toy(nn.Linear(4, 4)), toy_case()
    surgeon = GMD(torch.optim.SGD(network.parameters(), lr=0.1), by_sample=True)
    assert step(network, surgeon, inputs, targets, absolute_error).finite
    inputs.values["left"][2] = torch.inf
    assert not step(network, surgeon, inputs, targets, absolute_error).finite


def backed(
    inputs: Pairs, body: nn.Module, heads: list[tuple[nn.Module, float]], by_sample: bool
) -> tuple[Report, list[Tensor]]:
    """Objectives of heads and weights of their own -> the report, and the gradients of the body."""
    optimizer = torch.optim.SGD(body.parameters(), lr=0.1)
    surgeon = GMD(optimizer, generator=torch.Generator().manual_seed(0), by_sample=by_sample)
    optimizer.zero_grad()
    outputs = {m: body(values) for m, values in inputs.values.items()}
    losses = [weight * head(sum(outputs.values())).square().mean() for head, weight in heads]
    return surgeon.backward(losses, outputs=outputs), [param.grad for param in body.parameters()]


@pytest.mark.parametrize("weight", [1.0, 1e-6])
def test_an_objective_of_another_direction_takes_whole_passes_however_small_it_is(weight: float):
    """Beside two that are collinear; a norm over all three would not tell that the small one is replaced."""
    body, (inputs, _) = nn.Linear(4, 4), toy_case()
    one, other = nn.Linear(4, 1), nn.Linear(4, 1)
    heads = [(one, 1.0), (one, 2.0), (other, weight)]
    (whole, expected), (sampled, got) = (backed(inputs, body, heads, by_sample) for by_sample in (False, True))
    assert sampled.directions == whole.directions == (3, 3)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(got, expected, strict=True))
    assert sampled.gram[2, 2] == whole.gram[2, 2]
    assert backed(inputs, body, heads[:2], by_sample=True)[0].directions == (1, 1)


def test_an_objective_of_zeros_is_a_multiple_of_any():
    body, (inputs, _) = nn.Linear(4, 4), toy_case()
    one = nn.Linear(4, 1)
    report, _ = backed(inputs, body, [(one, 1.0), (one, 0.0), (one, 2.0)], by_sample=True)
    assert report.directions == (1, 1)
    assert report.gram[1, 1] == 0


def test_two_classes_of_which_some_are_certain_are_one_score():
    """There nothing but the rounding of a probability comes back, which has any direction."""
    network, targets = make_network(SharedTransformer, outputs=2), torch.tensor([0, 1, 1, 0, 1, 0])
    with torch.no_grad():
        network.head.bias[0] = 12.0
    _, sampled = both(network, make_inputs(0), targets, cross_entropy)
    assert sampled.directions == (1, 1, 1)


class _Scalars(TorchDispatchMode):
    """Counts how often the host reads a single number: on a GPU it would have to wait for it."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("by_sample", [False, True])
def test_the_host_waits_once_for_all_modalities_or_never(by_sample: bool, monkeypatch: pytest.MonkeyPatch):
    network, inputs, targets = make_network(SharedTransformer), make_inputs(0), torch.randn(SAMPLES)
    surgeon = GMD(torch.optim.SGD(network.parameters(), lr=0.1), by_sample=by_sample)
    step(network, surgeon, inputs, targets, absolute_error)  # compares the paths with whole passes
    lists, tolist = [], Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: lists.append(tensor) or tolist(tensor))
    with _Scalars() as scalars:
        step(network, surgeon, inputs, targets, absolute_error)
    assert (scalars.count, len(lists)) == (0, int(by_sample))
