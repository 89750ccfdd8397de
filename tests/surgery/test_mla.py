"""MLA: one modality's turn, the projected gradient of the head; the traps of the published code by name."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

import gmd_kernels as gk
from gmd.surgery.mla import MLA

pytestmark = pytest.mark.usefixtures("one_thread")


class Branches(nn.Module):
    """An encoder for each of two modalities, and one head."""

    def __init__(self, d: int = 8, classes: int = 3):
        super().__init__()
        torch.manual_seed(0)
        self.encoders = nn.ModuleDict({m: nn.Sequential(nn.Linear(5, d), nn.LayerNorm(d)) for m in ("a", "b")})
        self.head = nn.Linear(d, classes)

    def forward(self, x: Tensor, modality: str) -> Tensor:
        return self.encoders[modality](x)


def batch(seed: int = 0, n: int = 6) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = {m: torch.randn(n, 5, generator=generator) + 1 for m in ("a", "b")}
    return inputs, torch.randint(3, (n,), generator=generator)


def turn(mla: MLA, network: Branches, modality: str, seed: int = 0, scale: float = 1.0):
    """One backward pass of one modality -> the report and the mean input."""
    inputs, targets = batch(seed)
    rows = network(inputs[modality], modality)
    loss = scale * nn.functional.cross_entropy(network.head(rows), targets)
    network.zero_grad()
    return mla.backward([loss], outputs={modality: rows}), rows.detach().mean(dim=0)


def plain_gradients(network: Branches, modality: str, seed: int = 0) -> dict[str, Tensor]:
    """Of the same turn without MLA."""
    inputs, targets = batch(seed)
    loss = nn.functional.cross_entropy(network.head(network(inputs[modality], modality)), targets)
    grads = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    names = [name for name, _ in network.named_parameters()]
    return {name: g for name, g in zip(names, grads, strict=True) if g is not None}


@pytest.fixture
def network() -> Branches:
    return Branches()


@pytest.fixture
def mla(network: Branches) -> MLA:
    return MLA(torch.optim.SGD(network.parameters(), lr=0.1), network.head, alpha=0.5)


# The traps of the published code


def test_the_modification_really_runs_and_changes_the_gradient(network: Branches, mla: MLA):
    """Published: it never runs, its test of the parameter's name cannot match."""
    plain = plain_gradients(network, "a")
    _, h = turn(mla, network, "a")
    projector = torch.linalg.inv(torch.eye(8).double() + torch.outer(h, h).double() / 0.5)
    assert torch.allclose(mla.projector.double(), projector, atol=1e-6)
    assert torch.allclose(network.head.weight.grad.double(), plain["head.weight"].double() @ projector, atol=1e-6)
    assert not torch.allclose(network.head.weight.grad, plain["head.weight"], rtol=0.1)


def test_h_k_is_a_scalar(network: Branches, mla: MLA):
    """Published: P is divided by an outer product, and shrinks to about I / sqrt(d) in one update."""
    turn(mla, network, "a")
    eigenvalues = torch.linalg.eigvalsh(mla.projector.double())
    assert torch.allclose(eigenvalues[1:], torch.ones(7).double(), atol=1e-6), "one direction alone is closed"
    assert eigenvalues[0] < 0.5


def test_the_projector_keeps_no_history(network: Branches, mla: MLA):
    """Published: P carries the graph of every batch so far."""
    for step in range(3):
        turn(mla, network, "ab"[step % 2], seed=step)
        assert not mla.projector.requires_grad
        assert mla.projector.grad_fn is None
        assert network.head.weight.grad.grad_fn is None


@pytest.mark.parametrize("d", [1, 3, 17, 512])
def test_any_width_of_the_head(d: int):
    """Published: 512, written into the code."""
    network = Branches(d)
    mla = MLA(torch.optim.SGD(network.parameters(), lr=0.1), network.head)
    report, _ = turn(mla, network, "a")
    assert mla.projector.shape == (d, d)
    assert mla.alpha == d
    assert report.finite


def test_the_gradient_is_replaced_and_not_added_to(network: Branches, mla: MLA):
    """A peer benchmark adds grad P to grad: along a closed direction the gradient has to vanish, not to stay."""
    mla.alpha = 1e-6
    plain = plain_gradients(network, "a")["head.weight"]
    _, h = turn(mla, network, "a")
    assert (plain @ h).norm() > 0.01
    assert (network.head.weight.grad @ h).norm() < 1e-5 * (plain @ h).norm()
    beside = plain - torch.outer(plain @ h, h) / h.square().sum()
    assert torch.allclose(network.head.weight.grad, beside, atol=1e-6)


# What it does


def test_everything_but_the_heads_weight_gets_its_gradient_as_it_is(network: Branches, mla: MLA):
    plain = plain_gradients(network, "b")
    turn(mla, network, "b")
    for name, p in network.named_parameters():
        if name not in plain:
            assert p.grad is None
        elif name != "head.weight":
            assert torch.equal(p.grad, plain[name])


def test_what_the_head_says_to_the_modality_before_stays(network: Branches, mla: MLA):
    """The purpose: b's turn leaves the logits of a's mean input as they are, up to alpha."""
    mla.alpha = 1e-4
    _, h = turn(mla, network, "a")
    turn(mla, network, "b", seed=1)
    moved = network.head.weight.grad @ h
    assert moved.norm() < 1e-3 * (plain_gradients(network, "b", seed=1)["head.weight"] @ h).norm()


def test_the_report(network: Branches, mla: MLA):
    """The Gramian is that of the gradient as it is applied."""
    report, _ = turn(mla, network, "a")
    applied = sum(p.grad.double().square().sum() for p in network.parameters() if p.grad is not None)
    assert report.gram.shape == (1, 1)
    assert torch.allclose(report.gram[0, 0], applied)
    assert report.losses.shape == (1,)
    assert not report.losses.requires_grad
    assert report.finite
    assert report.modality == {}


def test_gradients_add_up(network: Branches, mla: MLA):
    """As Tensor.backward has it; what was there before is not projected again."""
    other = copy.deepcopy(network)
    second = MLA(torch.optim.SGD(other.parameters(), lr=0.1), other.head, alpha=0.5)
    turn(second, other, "a")
    first = {name: p.grad.clone() for name, p in other.named_parameters() if p.grad is not None}
    turn(second, other, "b", seed=1)
    for modality, seed in (("a", 0), ("b", 1)):
        inputs, targets = batch(seed)
        rows = network(inputs[modality], modality)
        mla.backward([nn.functional.cross_entropy(network.head(rows), targets)], outputs={modality: rows})
    assert torch.equal(mla.projector, second.projector)
    for name, p in network.named_parameters():
        then = other.get_parameter(name).grad
        parts = [g for g in (first.get(name), then) if g is not None]
        assert torch.allclose(p.grad, sum(parts[1:], start=parts[0]), atol=1e-7), name


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_rows_of_any_shape(seed: int, steps: int):
    """[n, d], or [n, L, d] of a sequence: the mean is over all rows."""
    network = Branches()
    mla = MLA(torch.optim.SGD(network.parameters(), lr=0.1), network.head, alpha=2.0)
    rows = torch.randn(4, steps, 8, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    mla.backward([network.head(rows).square().mean()], outputs={"a": rows})
    expected, grad = torch.eye(8), torch.zeros(1, 8)
    gk.owm_update_(expected, grad, rows.detach().reshape(-1, 8).mean(dim=0), 2.0)
    assert torch.equal(mla.projector, expected)


def test_resume_bit_for_bit(network: Branches, mla: MLA):
    def train(network, mla, seeds):
        for seed in seeds:
            for m in ("a", "b"):
                turn(mla, network, m, seed=seed)
                mla.optimizer.step()

    train(network, mla, range(3))
    state, weights = copy.deepcopy(mla.state_dict()), copy.deepcopy(network.state_dict())
    train(network, mla, range(3, 6))
    later = Branches()
    later.load_state_dict(weights)
    resumed = MLA(torch.optim.SGD(later.parameters(), lr=0.1), later.head, alpha=0.5)
    resumed.load_state_dict(state)
    train(later, resumed, range(3, 6))
    assert torch.equal(resumed.projector, mla.projector)
    assert all(torch.equal(a, b) for a, b in zip(later.parameters(), network.parameters(), strict=True))


def test_the_state_is_a_copy(network: Branches, mla: MLA):
    state = mla.state_dict()
    turn(mla, network, "a")
    assert torch.equal(state["projector"], torch.eye(8))


# What is not finite


@pytest.mark.parametrize("scale", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_leaves_the_projector(network: Branches, mla: MLA, scale: float):
    turn(mla, network, "a")
    before = mla.projector.clone()
    report, _ = turn(mla, network, "b", scale=scale)
    assert torch.equal(mla.projector, before)
    assert not report.finite
    assert network.head.weight.grad.isnan().all()


def test_an_encoder_whose_gradient_is_not_finite_leaves_the_projector(network: Branches, mla: MLA):
    """Whose step is skipped as well: the head must not remember it."""
    rows = network(batch()[0]["a"], "a")
    rows.register_hook(lambda grad: grad * torch.inf)
    report = mla.backward([network.head(rows).square().mean()], outputs={"a": rows})
    assert torch.equal(mla.projector, torch.eye(8))
    assert not report.finite
    assert network.head.weight.grad.isnan().all()


def test_with_a_scaler(network: Branches):
    """`.grad` comes out unscaled; an overflow makes the scaler skip the step, and the projector stays."""
    plain = copy.deepcopy(network)
    scaler = GradScaler("cpu", init_scale=2.0**10)
    mla = MLA(torch.optim.SGD(network.parameters(), lr=0.1), network.head, alpha=0.5, scaler=scaler)
    turn(mla, network, "a")
    turn(MLA(torch.optim.SGD(plain.parameters(), lr=0.1), plain.head, alpha=0.5), plain, "a")
    for p, q in zip(network.parameters(), plain.parameters(), strict=True):
        assert p.grad is None or torch.allclose(p.grad, q.grad, atol=1e-7)
    scaler.step(mla.optimizer)
    scaler.update()
    before, projector = copy.deepcopy(network.state_dict()), mla.projector.clone()
    scaler.update(2.0**127)
    turn(mla, network, "b", scale=1e6)
    scaler.step(mla.optimizer)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(mla.projector, projector)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_types_of_the_head(dtype: torch.dtype):
    head = nn.Linear(8, 3).to(dtype)
    mla = MLA(torch.optim.SGD(head.parameters(), lr=0.1), head)
    rows = torch.randn(5, 8, dtype=dtype, requires_grad=True)
    report = mla.backward([head(rows).square().mean()], outputs={"a": rows})
    assert mla.projector.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    assert head.weight.grad.dtype is dtype
    assert report.finite


# Bad arguments


def test_what_it_is_made_of(network: Branches):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"head: expected an nn.Linear, got LayerNorm"):
        MLA(optimizer, nn.LayerNorm(8))
    with pytest.raises(ValueError, match=r"head: expected one whose weight is a parameter of the optimizer"):
        MLA(optimizer, nn.Linear(8, 3))
    for alpha in (0.0, -1.0, torch.inf, torch.nan):
        with pytest.raises(ValueError, match=r"alpha: expected a finite number above 0"):
            MLA(optimizer, network.head, alpha)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda loss, rows: ([], {"a": rows}), r"losses: expected at least one objective"),
        (lambda loss, rows: ([loss, loss], {"a": rows}), r"losses: expected one, of the modality .*, got 2"),
        (lambda loss, rows: ([loss], {}), r"outputs: expected those of the one modality .*, got \[\]"),
        (lambda loss, rows: ([loss], {"a": rows, "b": rows}), r"outputs: expected .*, got \['a', 'b'\]"),
        (lambda loss, rows: ([loss], [rows]), r"outputs: expected those of the one modality .*, got list"),
        (lambda loss, rows: ([loss], {"a": rows[:, 1:]}), r"outputs\['a'\]: expected \[..., 8\], .*, got \[6, 7\]"),
        (lambda loss, rows: ([loss], {"a": rows[:0]}), r"outputs\['a'\]: expected \[..., 8\], .*, got \[0, 8\]"),
        (lambda loss, rows: ([loss], {"a": rows.detach()}), r"outputs\['a'\] does not require grad"),
        (lambda loss, rows: ([rows.sum()], {"a": rows}), r"losses: expected one that was computed through the head"),
    ],
)
def test_bad_arguments(network: Branches, mla: MLA, call, message: str):
    """The projector stays as it is, and so do the gradients, of an encoder too."""
    rows = network(batch()[0]["a"], "a")
    losses, outputs = call(network.head(rows).square().mean(), rows)
    network.head.weight.grad = torch.ones_like(network.head.weight)
    with pytest.raises(ValueError, match=message):
        mla.backward(losses, outputs=outputs)
    assert torch.equal(mla.projector, torch.eye(8))
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert gradients.keys() == {"head.weight"}
    assert torch.equal(gradients["head.weight"], torch.ones(3, 8))


def test_the_rows_may_be_fused_once_more(network: Branches, mla: MLA):
    """Then the loss did not come from them, but through the head all the same."""
    inputs, targets = batch()
    rows = network(inputs["a"], "a")
    loss = nn.functional.cross_entropy(network.head(1 * rows), targets)
    again = copy.deepcopy(network)
    mla.backward([loss], outputs={"a": 1 * rows})
    turn(MLA(torch.optim.SGD(again.parameters(), lr=0.1), again.head, alpha=0.5), again, "a")
    assert torch.equal(network.head.weight.grad, again.head.weight.grad)


def test_a_state_of_another_head(mla: MLA):
    with pytest.raises(ValueError, match=r"projector: expected torch.float32 \[8, 8\] .*, got torch.float32 \[4, 4\]"):
        mla.load_state_dict({"projector": torch.eye(4)})


class _SendsNothingBack(torch.autograd.Function):
    """A linear layer whose author has forgotten the weight's gradient."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, gradient):
        return gradient @ ctx.saved_tensors[0], None


def test_a_head_whose_weight_gets_no_gradient_is_told_of(network):
    mla = MLA(torch.optim.SGD(network.parameters(), lr=0.1), network.head)
    inputs, targets = batch()
    rows = network(inputs["a"], "a")
    loss = nn.functional.cross_entropy(_SendsNothingBack.apply(rows, network.head.weight), targets)
    with pytest.raises(ValueError, match=r"losses: expected a gradient of the head's weight from the loss, got none"):
        mla.backward([loss], outputs={"a": rows})
    assert torch.equal(mla.projector, torch.eye(8))


class _Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise OverflowError("in the backward pass")


def test_a_backward_pass_that_fails_leaves_everything_as_it_was(network: Branches, mla: MLA):
    """The encoder's layer fails, after the head has had its gradient."""
    turn(mla, network, "a")
    before = [None if param.grad is None else param.grad.clone() for param in network.parameters()]
    projector = mla.projector.clone()
    inputs, targets = batch(1)
    rows = _Fails.apply(network(inputs["a"], "a"))
    with pytest.raises(OverflowError, match="in the backward pass"):
        mla.backward([nn.functional.cross_entropy(network.head(rows), targets)], outputs={"a": rows})
    assert torch.equal(mla.projector, projector)
    for param, value in zip(network.parameters(), before, strict=True):
        assert (param.grad is None) == (value is None)
        assert value is None or torch.equal(param.grad, value)


def test_gradients_that_are_one_tensor_are_projected_by_themselves():
    """autograd gives the head's weight and another parameter the same tensor, of which only one is to change."""
    torch.manual_seed(0)
    head, other = nn.Linear(4, 4, bias=False), nn.Parameter(torch.zeros(4, 4))
    method = MLA(torch.optim.SGD([head.weight, other], lr=0.1), head)
    for _ in range(2):
        head.zero_grad()
        other.grad = None
        rows = torch.randn(3, 4, requires_grad=True)
        loss = (rows @ (head.weight + other)).square().mean()
        [expected] = torch.autograd.grad(loss, [other], retain_graph=True)
        method.backward([loss], outputs={"a": rows})
        torch.testing.assert_close(other.grad, expected)
        assert not torch.allclose(head.weight.grad, expected)


def test_a_scaler_and_gradients_that_add_up(network: Branches):
    """Turns before one step, with a scaler as without."""
    grads = []
    for scaler in (None, GradScaler("cpu", init_scale=2.0**10)):
        model = copy.deepcopy(network)
        method = MLA(torch.optim.SGD(model.parameters(), lr=0.1), model.head, scaler=scaler)
        for seed in range(2):
            inputs, targets = batch(seed)
            rows = model(inputs["a"], "a")
            method.backward([nn.functional.cross_entropy(model.head(rows), targets)], outputs={"a": rows})
        grads.append([param.grad for param in model.parameters() if param.grad is not None])
    for plain, scaled in zip(*grads, strict=True):
        torch.testing.assert_close(scaled, plain, rtol=1e-6, atol=1e-8)
