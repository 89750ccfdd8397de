"""Weightings in a training loop: their memory goes by the objectives' names, and their options are checked at once."""

import io
from functools import partial
from inspect import Parameter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gmd
import gmd_kernels as gk
from gmd.surgery import Weighting
from gmd.surgery._by_name import ByName
from gmd.surgery._weighting import in_loop
from helpers.multimodal_cases import Multimodal, batches

REQUIRED = {"constant": {"weights": {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}}, "krum": {"byzantine": 0}}
NAMES = ("a", "b", "c", "d")
SETS = [NAMES, ("b", "d"), ("d", "a", "b"), ("c",), NAMES[::-1], ("a", "c", "d")]


def gramian(step: int, size: int) -> torch.Tensor:
    rows = torch.randn(size, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    return rows @ rows.T


def weighting_of(name: str, **options) -> Weighting:
    takes = "generator" in Weighting(name, **REQUIRED.get(name, {}))._arguments
    generator = torch.Generator().manual_seed(7) if takes else None
    return Weighting(name, generator=generator, **REQUIRED.get(name, {}), **options)


def weights_of_steps(weighting, sets=SETS, first=0):
    found = []
    for step, names in enumerate(sets, first):
        losses = torch.arange(1.0, 1 + len(names))
        found.append(weighting(gramian(step, len(names)), names, losses))
    return found


def options_of(name):
    return gk.weightings.options_of(name)


# Every name


@pytest.mark.parametrize("name", gk.weightings.NAMES)
def test_every_weighting_works_as_objectives_come_and_go(name):
    sets = [names for names in SETS if len(names) > 2] if name == "krum" else SETS
    for weights, names in zip(weights_of_steps(weighting_of(name), sets), sets, strict=True):
        assert weights.shape == (len(names),)
        assert weights.dtype == torch.float64
        assert weights.isfinite().all()


@pytest.mark.parametrize("name", [name for name in gk.weightings.NAMES if name != "krum"])
@pytest.mark.parametrize("smooth", [0.0, 0.9])
def test_a_weighting_goes_on_from_its_state_as_if_it_had_not_stopped(name, smooth):
    expected = weights_of_steps(weighting_of(name, smooth=smooth))
    before, after = weighting_of(name, smooth=smooth), weighting_of(name, smooth=smooth)
    got = weights_of_steps(before, SETS[:3])
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after.load_state_dict(torch.load(file, weights_only=True))
    got += weights_of_steps(after, SETS[3:], first=3)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_the_state_is_a_copy():
    weighting = weighting_of("gradvac", smooth=0.5)
    weights_of_steps(weighting, SETS[:1])
    state = weighting.state_dict()
    kept, smoothed = state["kept"]["values"].clone(), state["smoothed"]["values"].clone()
    weights_of_steps(weighting)
    assert torch.equal(state["kept"]["values"], kept)
    assert torch.equal(state["smoothed"]["values"], smoothed)


@pytest.mark.parametrize("name", [name for name in gk.weightings.NAMES if name not in REQUIRED])
def test_with_one_set_of_objectives_it_is_the_function_itself(name):
    function, weighting = gk.weightings.named(name), weighting_of(name)
    arguments = {"losses": torch.arange(1.0, 5.0).double()} if "losses" in weighting._arguments else {}
    if "generator" in weighting._arguments:
        arguments["generator"] = torch.Generator().manual_seed(7)
    kept = {"cosines": torch.zeros(4, 4).double(), "state": torch.zeros(2, 4).double()}
    arguments |= {argument: value for argument, value in kept.items() if argument in weighting._arguments}
    for step, weights in enumerate(weights_of_steps(weighting, [NAMES] * 3)):
        assert torch.equal(weights, function(gramian(step, 4), **arguments))


def test_a_function_is_a_weighting_with_one_gramian_at_a_time():
    asked = []

    def halves(gram):
        asked.append(gram.shape)
        return torch.full_like(gram[0], 0.5)

    grams = torch.stack([gramian(0, 3), gramian(1, 3)])
    assert torch.equal(in_loop(halves)(grams, (0, 1, 2), torch.ones(3)), torch.full((2, 3), 0.5).double())
    assert asked == [(3, 3), (3, 3)]
    batched = partial(gk.weightings.cagrad, c=0.7)
    assert torch.equal(in_loop(batched)(grams, (0, 1, 2), torch.ones(3)), gk.weightings.cagrad(grams, c=0.7))


def test_groups_of_parameters_have_states_of_their_own():
    together = weighting_of("gradvac", smooth=0.5)
    singly = [weighting_of("gradvac", smooth=0.5) for _ in range(2)]
    for step, names in enumerate([("a", "b"), ("b", "a"), ("a", "b")]):  # two: the order of projections plays no part
        grams = torch.stack([gramian(step, 2), gramian(step + 10, 2)])
        weights = together(grams, names, torch.ones(2))
        for k, one in enumerate(singly):
            assert torch.allclose(weights[k], one(grams[k], names, torch.ones(2)), rtol=1e-12)
    with pytest.raises(
        ValueError, match=r"state: expected \[3\] numbers of each objective, got \[2\] of the steps before"
    ):
        together(gramian(0, 2).expand(3, 2, 2), ("a", "b"), torch.ones(2))


# By name


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True), max_size=6), st.booleans())
def test_what_is_kept_goes_by_the_name(sets, pairs):
    kept, expected = ByName(pairs=pairs, fill=-1.0), {}
    for step, names in enumerate(map(tuple, sets)):
        keys = [(a, b) for a in names for b in names] if pairs else list(names)
        shape = (2, len(names), len(names)) if pairs else (2, len(names))
        found = kept.take(names, (2,), torch.device("cpu")).reshape(2, -1)
        assert found[0].tolist() == [expected.get(key, -1.0) for key in keys]
        assert torch.equal(found[1], torch.where(found[0] == -1, -1, found[0] + 0.5))
        drawn = torch.arange(100.0 * step, 100.0 * step + len(keys), dtype=torch.float64)
        kept.put(names, torch.stack([drawn, drawn + 0.5]).reshape(shape))
        expected |= dict(zip(keys, drawn.tolist(), strict=True))


def test_averages_of_an_absent_objective_stay_as_they_were():
    weighting = weighting_of("gradvac", beta=0.5)
    weighting(gramian(0, 4), NAMES, torch.ones(4))
    before = weighting._kept.take(NAMES, (), torch.device("cpu"))
    weighting(gramian(1, 2), ("d", "b"), torch.ones(2))
    after = weighting._kept.take(NAMES, (), torch.device("cpu"))
    changed = {(NAMES[i], NAMES[j]) for i, j in (before != after).nonzero().tolist()}
    assert changed <= {("b", "d"), ("d", "b")}
    assert changed


def test_a_number_for_each_objective_goes_by_the_name():
    weighting = Weighting("upgrad", preference={"a": 0.7, "b": 0.2, "c": 0.1})
    gram = gramian(0, 2)
    expected = gk.weightings.upgrad(gram, preference=torch.tensor([0.1, 0.7]))
    assert torch.allclose(weighting(gram, ("c", "a"), torch.ones(2)), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="weighting 'upgrad': preference: expected a number for 'd' too"):
        weighting(gram, ("c", "d"), torch.ones(2))
    listed = Weighting("upgrad", preference=[0.25, 0.75])
    expected = gk.weightings.upgrad(gram, preference=torch.tensor([0.25, 0.75]))
    assert torch.equal(listed(gram, (0, 1), torch.ones(2)), expected)


@pytest.mark.parametrize(
    ("primary", "names", "position"),
    [
        ("b", ("a", "b", "c"), 1),
        ("b", ("c", "b"), 1),
        ("b", ("a", "c"), 1),  # which lack it: the last
        (-1, ("a", "b", "c"), 2),
        (-3, ("a", "b", "c"), 0),
        (0, ("a", "b"), 0),
        (2, ("a", "b"), 1),
        (0, (2, 0, 1), 1),  # a name rather than a position
    ],
)
def test_the_primary_objective_is_found_by_name_or_position(primary, names, position):
    gram = gramian(1, len(names))
    expected = gk.weightings.pcd(gram, primary=position, state=torch.zeros(2, len(names)).double())
    got = Weighting("pcd", primary=primary)(gram, names, torch.ones(len(names)))
    assert torch.equal(got, expected)
    others = [k for k in range(len(names)) if k != position]
    assert all(not torch.equal(got, gk.weightings.pcd(gram, primary=k)) for k in others), "this would show nothing"


# Smoothing


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 0.99))
def test_smoothed_weights_are_the_moving_average_of_each_objective(seed, smooth):
    plain, smoothed = Weighting("imtl_g"), Weighting("imtl_g", smooth=smooth)
    expected = {}
    for step, names in enumerate(SETS, seed):
        gram = gramian(step, len(names))
        weights, got = plain(gram, names, torch.ones(len(names))), smoothed(gram, names, torch.ones(len(names)))
        for name, weight in zip(names, weights.tolist(), strict=True):
            before = expected.get(name, weight)
            expected[name] = smooth * before + (1 - smooth) * weight
        assert got.tolist() == pytest.approx([expected[name] for name in names], rel=1e-12)


def test_smoothing_is_torchjds():
    aggregation = pytest.importorskip("torchjd.aggregation")
    theirs = aggregation.CRMOGMWeighting(aggregation.AlignedMTLWeighting(), alpha=0.8)
    ours = Weighting("aligned_mtl", smooth=0.8)
    for step in range(4):
        gram = gramian(step, 3)
        assert torch.allclose(ours(gram, (0, 1, 2), torch.ones(3)), theirs(gram), rtol=1e-9)


@pytest.mark.parametrize("name", ["mgda", "gradvac"])
@pytest.mark.parametrize("first", [True, False])
def test_weights_that_are_not_finite_change_nothing(name, first):
    bad = gramian(9, 4)
    bad[1, 1] = torch.inf
    spoilt, plain = weighting_of(name, smooth=0.9), weighting_of(name, smooth=0.9)
    if not first:
        assert torch.equal(*(one(gramian(0, 4), NAMES, torch.ones(4)) for one in (spoilt, plain)))
    assert spoilt(bad, NAMES, torch.ones(4)).isnan().any()
    spoilt.generator = plain.generator = None
    results = []
    for one in (spoilt, plain):
        torch.manual_seed(0)
        results.append(one(gramian(1, 4), NAMES, torch.ones(4)))
    assert torch.equal(*results)
    assert results[0].isfinite().all()


# Bad input


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("sgd", {}, ValueError, "weighting: expected one of mean, sum, .*, got 'sgd'"),
        (3, {}, TypeError, "weighting: expected a name or a function of a Gramian, got int"),
        ("cagrad", {"alpha": 1.0}, ValueError, "weighting 'cagrad': expected some of c, got alpha"),
        ("pcgrad", {"c": 1.0}, ValueError, "weighting 'pcgrad': expected no options, got c"),
        ("cagrad", {"c": "1"}, TypeError, "weighting 'cagrad': c: expected a number, got '1'"),
        ("cagrad", {"c": True}, TypeError, "weighting 'cagrad': c: expected a number, got True"),
        ("cagrad", {"c": -1}, ValueError, "weighting 'cagrad': c: expected a finite number of at least 0, got -1"),
        ("gradvac", {"beta": 0}, ValueError, "weighting 'gradvac': beta: expected above 0 and at most 1, got 0"),
        ("gradvac", {"cosines": 0}, ValueError, "weighting 'gradvac': expected some of beta, got cosines"),
        ("upgrad", {"preference": 1.0}, TypeError, "preference: expected a number for each objective or None, got 1.0"),
        ("constant", {}, ValueError, "weighting 'constant': expected weights, which has no default"),
        ("krum", {"byzantine": 1.5}, TypeError, "weighting 'krum': byzantine: expected a whole number, got 1.5"),
        ("krum", {"byzantine": -1}, ValueError, "weighting 'krum': byzantine: expected"),
        ("pcd", {"tau": 2.0}, ValueError, "weighting 'pcd': tau: expected a number from 0 to 1"),
        ("fairgrad", {"alpha": 0.0}, ValueError, "weighting 'fairgrad': alpha: expected"),
        ("db_mtl", {"losses": [1.0]}, ValueError, "weighting 'db_mtl': expected no options, got losses"),
        ("upgrad", {"preference": {"a": "b"}}, TypeError, "preference: expected a number for each objective or None"),
        ("upgrad", {"preference": [0.5, True]}, TypeError, "preference: expected a number for each objective or None"),
        ("pcgrad", {"generator": 3}, TypeError, r"generator: expected a torch\.Generator, got 3"),
        ("upgrad", {"smooth": 1.0}, ValueError, "smooth: expected at least 0 and below 1, got 1.0"),
        ("upgrad", {"smooth": "a"}, ValueError, "smooth: expected at least 0 and below 1, got 'a'"),
        ("upgrad", {"generator": torch.Generator()}, ValueError, "generator: weighting 'upgrad' takes none"),
        (gk.weightings.cagrad, {"c": 1.0}, ValueError, "weighting: a function: expected no options, got c"),
    ],
)
def test_bad_options_are_refused_at_once(name, options, error, message):
    with pytest.raises(error, match=message):
        in_loop(name, **options)


def test_a_refused_option_draws_no_random_number():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    Weighting("gradvac", beta=0.1)
    assert torch.equal(torch.rand(1), expected)


def test_a_weighting_for_a_loop_stays_what_it_is():
    weighting = Weighting("mgda", smooth=0.5)
    assert in_loop(weighting) is weighting
    with pytest.raises(ValueError, match=r"weighting: a gmd\.Weighting: expected no options, got c"):
        in_loop(weighting, c=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weighting": "mgda"}, "weighting: expected the state of 'gradvac', got one of 'mgda'"),
        (
            {"kept": {"names": ["a"], "values": torch.zeros(2, 2).double()}},
            r"expected float64 \[..., 1, 1\], numbers of 1",
        ),
        ({"kept": {"names": ["a", "a"], "values": torch.zeros(2, 2).double()}}, r"expected float64 \[..., 1, 1\]"),
        (
            {"smoothed": {"names": ["a"], "values": torch.zeros(1)}},
            r"expected float64 \[..., 1\].*got torch.float32 \[1\]",
        ),
        ({"smoothed": {"names": ["a"], "values": None}}, "got NoneType"),
    ],
)
def test_a_state_of_something_else_changes_nothing(change, message):
    weighting = weighting_of("gradvac", smooth=0.5)
    weights_of_steps(weighting, SETS[:2])
    before = weighting.state_dict()
    with pytest.raises(ValueError, match=message):
        weighting.load_state_dict(before | change)
    after = weighting.state_dict()
    assert torch.equal(after["kept"]["values"], before["kept"]["values"])
    assert torch.equal(after["smoothed"]["values"], before["smoothed"]["values"])


def test_every_option_of_every_weighting_has_a_type_that_can_be_checked():
    for name in gk.weightings.NAMES:
        for option, parameter in options_of(name).items():
            assert parameter.annotation is not Parameter.empty, f"{name}: {option}"
            assert not isinstance(parameter.annotation, str), f"{name}: {option}"


# With a surgeon


class Surgery:
    """A network of three modalities, and a surgeon with a weighting, for losses of subsets that come and go."""

    def __init__(self, name, every=1, **options):
        self.model = Multimodal()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)
        self.surgeon = gmd.Surgeon(self.optimizer, weighting_of(name, **options), every=every)

    def steps(self, sets, first=0, given=False):
        found = []
        for step, (names, (x, target)) in enumerate(zip(sets, batches(len(sets), seed=first), strict=True), first):
            self.optimizer.zero_grad()
            outputs = self.model({m: value for m, value in x.items() if m in names})
            losses = {m: (output - (-1) ** step * target).square().mean() for m, output in outputs.items()}
            losses["all"] = (sum(outputs.values()) + target).square().mean()
            rows = [gradients(self.model, loss) for loss in losses.values()]
            report = self.surgeon.backward(losses, outputs=outputs if given else None)
            columns = zip(*rows, strict=True)
            expected = [sum(w * g for w, g in zip(report.weights.float(), c, strict=True)) for c in columns]
            for param, value in zip(self.model.parameters(), expected, strict=True):
                got = torch.zeros_like(value) if param.grad is None else param.grad
                assert torch.allclose(got, value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))
            self.optimizer.step()
            found.append([report.weights, *[p.detach().clone() for p in self.model.parameters()]])
        return found


def gradients(model, loss):
    params = list(model.parameters())
    found = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(params, found, strict=True)]


BATCHES = [("a", "b", "c"), ("b",), ("c", "a"), ("a", "b", "c"), ("b",), ("a", "b", "c"), ("c", "a")]


@pytest.mark.parametrize("every", [1, 3, "auto"])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    ("name", "options"), [("gradvac", {}), ("pcd", {"primary": "all", "smooth": 0.8}), ("db_mtl", {})]
)
def test_a_surgeon_combines_by_these_weights_and_goes_on_from_its_state(name, options, every, given):
    whole = Surgery(name, every, **options)
    expected = whole.steps(BATCHES[:3], given=given) + whole.steps(BATCHES[3:], first=3, given=given)
    first = Surgery(name, every, **options)
    got = first.steps(BATCHES[:3], given=given)
    file = io.BytesIO()
    torch.save((first.surgeon.state_dict(), first.model.state_dict()), file)
    file.seek(0)
    second = Surgery(name, every, **options)
    surgeon, model = torch.load(file, weights_only=True)
    second.surgeon.load_state_dict(surgeon)
    second.model.load_state_dict(model)
    got += second.steps(BATCHES[3:], first=3, given=given)
    for ours, theirs in zip(got, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("every", [1, 2])
def test_parts_of_a_batch_serve_a_weighting_with_a_memory(every):
    surgery = Surgery("gradvac", every)
    for x, target in batches(3):
        losses = lambda rows, x=x, target=target: {  # noqa: E731
            m: (output - target[rows]).square().mean()
            for m, output in surgery.model({m: value[rows] for m, value in x.items()}).items()
        }
        surgery.surgeon.backward(losses(slice(None)))
        report = surgery.surgeon.backward(losses(slice(None)), part=lambda losses=losses: (losses(slice(4)), None))
        assert report.weights.isfinite().all()
