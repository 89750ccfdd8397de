"""The rules that weigh losses by their values, each against an independent rendering, over several steps."""

import io

import pytest
import torch
from torch import nn

import gmd
from gmd.surgery import MeanGradient
from gmd.surgery._scalarisations import RULES, Learnt
from helpers import every_cases

NAMES = ("a", "b", "c")
OPTIONS = {"dwa": {"steps": 2}}


class Problem:
    """Three losses of one small network, a batch for each step."""

    def __init__(self, dtype=torch.float64):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to(dtype)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)
        self.dtype = dtype

    def losses(self, step, names=NAMES):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step)).to(self.dtype)
        each = (self.model(x) - torch.tensor([1.0, 3.0, -0.5]).to(self.dtype)).square().mean(dim=0)
        return {name: each[NAMES.index(name)] for name in names}

    def params(self):
        return nn.utils.parameters_to_vector(self.model.parameters()).detach()


def surgeon_of(rule, optimizer, **options):
    given = {**OPTIONS.get(rule, {}), **options}
    return gmd.Scalarised(optimizer, rule, **given)


def trained(rule, steps=7, update=False, **options):
    """The parameters after each step."""
    problem = Problem()
    surgeon = surgeon_of(rule, problem.optimizer, **options)
    found = []
    for step in range(steps):
        problem.optimizer.zero_grad()
        report = surgeon.backward(problem.losses(step))
        total = torch.stack([p.grad.square().sum() for p in problem.model.parameters()]).sum()
        assert float(report.squared_norm) == pytest.approx(float(total))
        assert report.finite
        problem.optimizer.step()
        if update:
            surgeon.update(problem.losses(step))
        found.append(problem.params())
    return torch.stack(found)


def trained_by(loss_of, steps=7, after=lambda step, problem: None):
    """The same with an ordinary backward pass of loss_of(losses [3], step)."""
    problem, found = Problem(), []
    for step in range(steps):
        problem.optimizer.zero_grad()
        loss_of(torch.stack(list(problem.losses(step).values())), step).backward()
        problem.optimizer.step()
        after(step, problem)
        found.append(problem.params())
    return torch.stack(found)


def assert_alike(got, expected):
    assert torch.allclose(got, expected, rtol=1e-6, atol=1e-9)


# Each rule


def test_stch_is_the_smooth_maximum():
    preference, ideal = torch.tensor([0.2, 0.3, 0.5]).double(), torch.tensor([0.0, 0.1, -1.0]).double()
    named = {"preference": dict(zip(NAMES, preference.tolist(), strict=True))}
    named["ideal"] = dict(zip(NAMES, ideal.tolist(), strict=True))
    assert_alike(
        trained("stch", mu=0.3, **named),
        trained_by(lambda losses, _: 0.3 * (preference * (losses - ideal) / 0.3).exp().sum().log()),
    )
    assert_alike(trained("stch", mu=0.5), trained_by(lambda losses, _: 0.5 * (losses / 3 / 0.5).exp().sum().log()))


def test_stch_with_a_tiny_mu_is_the_maximum():
    assert_alike(trained("stch", mu=1e-300), trained_by(lambda losses, _: losses.max() / 3))


def test_gls_is_the_geometric_mean():
    assert_alike(trained("gls"), trained_by(lambda losses, _: losses.prod() ** (1 / 3)))


def test_rlw_draws_its_weights_from_the_generator():
    generator = torch.Generator().manual_seed(5)
    drawn = [torch.randn(3, generator=generator, dtype=torch.float64).softmax(dim=0) for _ in range(7)]
    got = trained("rlw", generator=torch.Generator().manual_seed(5))
    assert_alike(got, trained_by(lambda losses, step: losses @ drawn[step]))


def test_uw_learns_log_variances_beside_the_network():
    log_variances = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    adam = torch.optim.Adam([log_variances], lr=0.01)

    def step_of_adam(step, problem):
        adam.step()
        adam.zero_grad()

    def loss(losses, step):
        return (losses / (2 * log_variances.exp()) + log_variances / 2).sum()

    assert_alike(trained("uw", lr=0.01), trained_by(loss, after=step_of_adam))


def test_dwa_weighs_by_the_ratio_of_epochs():
    epochs = []

    def loss(losses, step):
        if step % 2 == 0:
            epochs.append([])
        epochs[-1].append(losses.detach())
        if len(epochs) < 3:
            return losses.sum()
        means = [torch.stack(epoch).mean(dim=0) for epoch in epochs[:-1]]
        return losses @ (3 * (means[-1] / means[-2] / 1.5).softmax(dim=0))

    assert_alike(trained("dwa", temperature=1.5), trained_by(loss))


class Famo:
    """As in the paper's algorithm, in torch's own words."""

    def __init__(self, **options):
        self.xi = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.adam = torch.optim.Adam([self.xi], **options)
        self.before = None

    def loss(self, losses, step=None):
        shares = self.xi.softmax(dim=0).detach()
        self.before = losses.detach()
        return (shares * (losses + 1e-8).log()).sum() / (shares / (losses + 1e-8)).sum().detach()

    def follow(self, after):
        fallen = (self.before + 1e-8).log() - (after.detach() + 1e-8).log()
        self.xi.grad = torch.autograd.grad(self.xi.softmax(dim=0), self.xi, fallen)[0]
        self.adam.step()


def test_famo_follows_from_the_same_batch_after_the_step():
    famo = Famo(lr=0.1, weight_decay=0.01)

    def after(step, problem):
        famo.follow(torch.stack(list(problem.losses(step).values())))

    assert_alike(trained("famo", update=True, lr=0.1, weight_decay=0.01), trained_by(famo.loss, after=after))


def test_famo_follows_from_the_next_step_otherwise():
    famo = Famo(lr=0.025, weight_decay=1e-3)

    def loss(losses, step):
        if step:
            famo.follow(losses)
        return famo.loss(losses)

    assert_alike(trained("famo"), trained_by(loss))


@pytest.mark.parametrize("rule", ["stch", "famo", "dwa", "uw", "gls"])
def test_the_losses_are_torchjds(rule):
    """Where TorchJD has the rule: of the first step, at equal state."""
    scalarization = pytest.importorskip("torchjd.scalarization")
    theirs = {
        "stch": lambda: scalarization.STCH(mu=0.1),
        "famo": lambda: scalarization.FAMO(3),
        "dwa": scalarization.DWA,
        "uw": lambda: scalarization.UW(3),
        "gls": scalarization.GeometricMean,
    }[rule]()
    assert_alike(trained(rule, steps=1), trained_by(lambda losses, _: theirs(losses), steps=1))


def test_learning_by_adam_is_torchs():
    theirs = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    adam = torch.optim.Adam([theirs], lr=0.1, weight_decay=0.2)
    ours = Learnt(0.1, 0.2)
    for step in range(5):
        theirs.grad = torch.randn(3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        adam.step()
        ours.step(NAMES, theirs.grad, torch.ones(3, dtype=torch.bool))
        assert torch.allclose(ours.values(NAMES, torch.device("cpu")), theirs.detach(), rtol=1e-12)


# In a loop


def run_of(surgeon, problem, sets, first=0):
    found = []
    for step, names in enumerate(sets, first):
        problem.optimizer.zero_grad()
        report = surgeon.backward(problem.losses(step, names))
        assert report.weights.shape == (len(names),)
        assert report.finite
        problem.optimizer.step()
        found.append(problem.params())
    return found


SETS = [NAMES, ("b",), ("c", "a"), NAMES[::-1], ("b", "a"), NAMES, NAMES]


@pytest.mark.parametrize("rule", RULES)
def test_it_goes_on_from_its_state_as_if_it_had_not_stopped_while_objectives_come_and_go(rule):
    options = {"generator": torch.Generator().manual_seed(3)} if rule == "rlw" else {}
    problem = Problem()
    expected = run_of(surgeon_of(rule, problem.optimizer, **options), problem, SETS)
    options = {"generator": torch.Generator().manual_seed(3)} if rule == "rlw" else {}
    problem = Problem()
    before = surgeon_of(rule, problem.optimizer, **options)
    got = run_of(before, problem, SETS[:3])
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    options = {"generator": torch.Generator()} if rule == "rlw" else {}
    after = surgeon_of(rule, problem.optimizer, **options)
    after.load_state_dict(torch.load(file, weights_only=True))
    got += run_of(after, problem, SETS[3:], first=3)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("rule", ["uw", "famo", "dwa"])
def test_an_absent_objective_keeps_what_was_learnt_of_it(rule):
    problem = Problem()
    surgeon = surgeon_of(rule, problem.optimizer)
    run_of(surgeon, problem, [NAMES] * 4)
    kept = {"uw": "_log_variances", "famo": "_logits", "dwa": "_means"}[rule]
    numbers = lambda: getattr(surgeon._rule, kept)  # noqa: E731
    read = lambda: getattr(numbers(), "_kept", numbers())  # noqa: E731
    before = dict(zip(read().names, read().values.T.tolist(), strict=True))
    run_of(surgeon, problem, [("a", "c")] * 2, first=4)
    after = dict(zip(read().names, read().values.T.tolist(), strict=True))
    assert before["b"] == after["b"]
    assert before["a"] != after["a"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_losses_that_are_not_finite_show_and_teach_nothing(rule, bad):
    states = []
    for spoilt in (False, True):
        problem = Problem()
        surgeon = surgeon_of(rule, problem.optimizer)
        run_of(surgeon, problem, [NAMES] * 2)
        if spoilt:
            losses = problem.losses(2)
            losses["b"] = losses["b"] * bad
            problem.optimizer.zero_grad()
            assert not surgeon.backward(losses).finite
        states.append(surgeon.state_dict()["state"])
    plain, spoilt = states
    if rule == "dwa":
        plain, spoilt = plain["means"], spoilt["means"]
    assert str(plain) == str(spoilt)


def test_outputs_and_factors_are_those_of_the_mean_with_the_weights_it_has():
    factors = torch.tensor([0.5, 2.0], dtype=torch.float64)
    grads = []
    for scalarised in (True, False):
        torch.manual_seed(0)
        encoders, head = nn.ModuleList(nn.Linear(3, 4) for _ in range(2)).double(), nn.Linear(4, 1).double()
        optimizer = torch.optim.SGD([*encoders.parameters(), *head.parameters()], lr=0.1)
        outputs = [encoder(torch.full((2, 3), k + 1.0).double()) for k, encoder in enumerate(encoders)]
        losses = [(head(outputs[0]) - 1).square().mean(), (head(sum(outputs)) + 1).square().mean()]
        if scalarised:
            report = gmd.Scalarised(optimizer, "gls").backward(losses, outputs=outputs, factors=factors)
        else:
            losses = [2 * w * loss for w, loss in zip(report.weights, losses, strict=True)]
            expected = MeanGradient(optimizer).backward(losses, outputs=outputs, factors=factors)
            assert torch.allclose(report.modality["gradient norm"], expected.modality["gradient norm"])
        grads.append([p.grad for group in optimizer.param_groups for p in group["params"]])
    assert all(torch.allclose(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_passes_add_up_and_a_scaler_leaves_without_a_trace(rule):
    found = []
    for scaled in (False, True):
        problem = Problem(torch.float32)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        options = {"generator": torch.Generator().manual_seed(3)} if rule == "rlw" else {}
        surgeon = surgeon_of(rule, problem.optimizer, scaler=scaler if scaled else None, **options)
        for step in range(4):
            problem.optimizer.zero_grad()
            surgeon.backward(problem.losses(step))
            surgeon.backward(problem.losses(step + 10))
            if scaled:
                scaler.step(problem.optimizer)
                scaler.update()
            else:
                problem.optimizer.step()
        found.append(problem.params())
    assert torch.allclose(*found, rtol=1e-5, atol=1e-6)


def test_an_overflow_is_skipped():
    problem = Problem(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    surgeon = gmd.Scalarised(problem.optimizer, "stch", scaler=scaler)
    before = problem.params()
    surgeon.backward({name: loss * torch.inf for name, loss in problem.losses(0).items()})
    scaler.step(problem.optimizer)
    scaler.update()
    assert torch.equal(problem.params(), before)
    assert scaler.get_scale() == 2.0**9


# Bad input


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        ("gls", 0.0, r"losses\['b'\]: rule 'gls' takes losses that are positive, as the geometric mean .*; got 0"),
        ("gls", -1.0, "takes losses that are positive"),
        ("famo", -1.0, "takes losses that are not negative, as its logarithm is taken; got -1"),
        ("uw", -2.0, "takes losses that are not negative, as its variance would be fitted"),
        ("dwa", -2.0, "takes losses that are not negative, as the rate at which it falls is a ratio"),
    ],
)
def test_a_loss_that_a_rule_cannot_take_changes_nothing(rule, value, message):
    problem = Problem()
    surgeon = surgeon_of(rule, problem.optimizer)
    state = str(surgeon.state_dict())
    losses = problem.losses(0)
    losses["b"] = losses["b"] * 0 + value
    with pytest.raises(ValueError, match=message):
        surgeon.backward(losses)
    assert all(p.grad is None for p in problem.model.parameters())
    assert str(surgeon.state_dict()) == state


@pytest.mark.parametrize(("rule", "value"), [("gls", 0.0), ("famo", -1.0), ("uw", -1.0), ("dwa", -1.0)])
def test_where_values_cannot_be_read_such_a_loss_makes_the_weights_nan(rule, value, monkeypatch):
    """As on a GPU, where a look at them would wait."""
    monkeypatch.setattr(gmd.Scalarised, "_check_values", lambda *_: None)
    problem = Problem()
    surgeon = surgeon_of(rule, problem.optimizer)
    losses = problem.losses(0)
    losses["b"] = losses["b"] * 0 + value
    report = surgeon.backward(losses)
    assert report.weights.isnan().all()
    assert not report.finite
    problem.optimizer.zero_grad()
    assert surgeon.backward(problem.losses(1)).finite, "it has learnt from that"


@pytest.mark.parametrize("rule", ["stch", "rlw", "famo", "uw", "dwa"])
def test_losses_of_zero_are_taken_where_they_can_be(rule):
    problem = Problem()
    surgeon = surgeon_of(rule, problem.optimizer)
    for step in range(6):
        losses = problem.losses(step)
        losses["b"] = losses["b"] * 0
        assert surgeon.backward(losses).finite


@pytest.mark.parametrize(
    ("rule", "options", "error", "message"),
    [
        ("sum", {}, ValueError, "rule: expected one of stch, famo, dwa, uw, rlw, gls, got 'sum'"),
        ("stch", {"nu": 1.0}, ValueError, "rule 'stch': expected some of mu, preference, ideal, got nu"),
        ("stch", {"mu": 0.0}, ValueError, "rule 'stch': mu: expected a finite number above 0, got 0.0"),
        ("stch", {"mu": "1"}, TypeError, "rule 'stch': mu: expected a number, got '1'"),
        ("stch", {"preference": {"a": -1.0}}, ValueError, "preference: expected numbers of at least 0"),
        ("stch", {"preference": 0.5}, TypeError, "preference: expected a dict or None, got 0.5"),
        ("gls", {"mu": 0.0}, ValueError, "rule 'gls': expected no options, got mu"),
        ("dwa", {}, ValueError, "rule 'dwa': expected steps, which has no default"),
        ("dwa", {"steps": 0}, ValueError, "rule 'dwa': steps: expected at least 1, got 0"),
        ("dwa", {"steps": 2.5}, TypeError, "rule 'dwa': steps: expected a whole number, got 2.5"),
        ("famo", {"lr": -1.0}, ValueError, "rule 'famo': lr: expected a finite number above 0, got -1.0"),
        ("famo", {"weight_decay": -1.0}, ValueError, "weight_decay: expected at least 0, got -1.0"),
        ("uw", {"lr": float("nan")}, ValueError, "rule 'uw': lr: expected a finite number above 0, got nan"),
    ],
)
def test_bad_options_are_refused_at_once(rule, options, error, message):
    with pytest.raises(error, match=message):
        gmd.Scalarised(Problem().optimizer, rule, **options)


def test_lists_and_dicts_do_not_mix():
    problem = Problem()
    surgeon = surgeon_of("uw", problem.optimizer)
    surgeon.backward(list(problem.losses(0).values()))
    with pytest.raises(ValueError, match="losses: expected a list, as in the calls before, got a dict"):
        surgeon.backward(problem.losses(0))


def test_a_preference_that_lacks_an_objective_is_told():
    problem = Problem()
    surgeon = surgeon_of("stch", problem.optimizer, preference={"a": 1.0, "b": 1.0})
    with pytest.raises(ValueError, match="preference: expected a number for 'c' too, got 'a', 'b'"):
        surgeon.backward(problem.losses(0))


def test_an_update_is_famos_alone():
    problem = Problem()
    with pytest.raises(ValueError, match="update: expected with rule 'famo' alone, got it with 'uw'"):
        surgeon_of("uw", problem.optimizer).update(problem.losses(0))


def test_the_state_of_another_rule_is_refused():
    problem = Problem()
    state = surgeon_of("uw", problem.optimizer).state_dict()
    with pytest.raises(ValueError, match="rule: expected the state of 'famo', got one of 'uw'"):
        surgeon_of("famo", problem.optimizer).load_state_dict(state)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_losses_after_the_step_may_come_without_gradients(mode):
    found = []
    for context in (mode, torch.enable_grad):
        problem = Problem()
        surgeon = surgeon_of("famo", problem.optimizer)
        for step in range(3):
            problem.optimizer.zero_grad()
            surgeon.backward(problem.losses(step))
            problem.optimizer.step()
            with context():
                surgeon.update(problem.losses(step))
        found.append(problem.params())
    assert torch.equal(*found)


@pytest.mark.parametrize(("rule", "options"), [("famo", {}), ("dwa", {"steps": 2}), ("uw", {})])
class TestMemory:
    """What a rule remembers."""

    def surgeon(self, rule, options):
        network, optimizer = every_cases.problem()
        surgeon = gmd.Scalarised(optimizer, rule, **options)
        for step in range(3):
            surgeon.backward(every_cases.losses_of(network, *every_cases.batch(step))[0])
        return network, surgeon

    def test_a_call_that_fails_is_not_remembered(self, rule, options):
        network, surgeon = self.surgeon(rule, options)
        before = repr(surgeon.state_dict())

        def stop(_):
            raise KeyboardInterrupt

        network.shared.weight.register_post_accumulate_grad_hook(stop)
        with pytest.raises(KeyboardInterrupt):
            surgeon.backward(every_cases.losses_of(network, *every_cases.batch(3))[0])
        assert repr(surgeon.state_dict()) == before

    @pytest.mark.parametrize("damage", ["a part is missing", "numbers are missing"])
    def test_a_state_that_is_none_is_refused_and_changes_nothing(self, rule, options, damage):
        _, surgeon = self.surgeon(rule, options)
        before, state = repr(surgeon.state_dict()), surgeon.state_dict()
        if damage == "a part is missing":
            state["state"].pop(list(state["state"])[-1])
        else:
            of_names = state["state"] if rule == "uw" else state["state"][{"famo": "logits", "dwa": "means"}[rule]]
            of_names["values"] = of_names["values"][:1]
        with pytest.raises(ValueError, match=r"lacks|numbers of each objective, got \[1\]"):
            surgeon.load_state_dict(state)
        assert repr(surgeon.state_dict()) == before
