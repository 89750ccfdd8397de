"""The networks for samples of any kinds: what is whose, subsets, padding, frames, statistics, saved states."""

import re

import pytest
import torch
from torch import Tensor, nn

import gmd
from gmd.data.manifest.inputs import Input
from gmd.data.padded import Padded
from gmd.data.pairs import Pairs
from gmd.errors import UserError
from gmd.models.classification.make import make_classifier, sharing_notes
from gmd.models.classification.network import ClassifierNetwork
from gmd.models.classification.pictures import PictureEncoders
from gmd.models.classification.words import Words
from gmd.models.multimodal import run_modalities
from gmd.models.strip_mlp import Block
from gmd.subsets import all_subsets
from helpers.classifier_cases import (
    HAVE,
    INPUTS,
    MODALITIES,
    OUTPUTS,
    PICTURES,
    VOCABULARY,
    WIDTH,
    alone,
    batch,
    every_network,
    every_picture_network,
    floats,
    make,
    network_of,
    noise,
    values_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def losses_of(network: ClassifierNetwork, outputs: Pairs) -> dict:
    """Subset -> a loss of the samples that have it."""
    losses = {}
    for subset in all_subsets(MODALITIES):
        fused, samples = network.fuse(outputs, subset)
        losses[subset] = (network.head(fused) - noise(len(samples), OUTPUTS)).square().mean()
    return losses


def own_names(network: ClassifierNetwork, modality: str) -> set[str]:
    """By their names, so that nothing is asked of what is tested."""
    place, m = (0 if modality in ("photo", "words") else 1), network.modalities.index(modality)
    group = "pictures" if modality in ("photo", "voice") else "sequences"
    parts = "stems|bodies|projections" if group == "pictures" else "inputs|encoders"
    patterns = [rf"{group}\.(stems|inputs)\.{place}\..*", rf"origins\.{m}"]
    if len(getattr(network, group).get_submodule(parts.split("|")[1])) > 1:
        patterns.append(rf"{group}\.({parts})\.{place}\..*")
    elif group == "pictures":  # the norms of a shared body, those in Strip-MLP's blocks too
        patterns.append(rf"pictures\.bodies\.0\.views\.{place}\..*(bn\d|BN|downsample\.1|norm|mlp\.1)\.(weight|bias)")
    else:
        patterns.append(rf"sequences\.encoders\.0\..*norm.*\.{place}")
    names = dict(network.named_parameters(remove_duplicate=False))
    return {name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns)}


@every_network
@every_picture_network
def test_private_parameters_of_an_absent_modality_get_no_gradient(network: str, pictures: str):
    """None, not zeros; and every other parameter gets one."""
    made = network_of(network, pictures)
    outputs = run_modalities(made, batch())
    named = dict(made.named_parameters(remove_duplicate=False))
    private = {m: {id(named[name]) for name in own_names(made, m)} for m in MODALITIES}
    assert all(private.values())
    assert not set.intersection(*private.values())
    for subset, loss in losses_of(made, outputs).items():
        grads = torch.autograd.grad(loss, list(made.parameters()), retain_graph=True, allow_unused=True)
        for (name, parameter), grad in zip(made.named_parameters(), grads, strict=True):
            unread = network == "ds" and not {"photo", "voice"} & {*subset} and "pictures" in name
            unread |= network == "ds" and not {"words", "numbers"} & {*subset} and "sequences" in name
            absent = any(id(parameter) in private[m] for m in MODALITIES if m not in subset)
            assert (grad is None) == (absent or unread), f"{name} for {subset}"


@every_network
@every_picture_network
def test_a_network_knows_what_belongs_to_each_modality(network: str, pictures: str):
    made = network_of(network, pictures)
    named = dict(made.named_parameters(remove_duplicate=False))
    for m in MODALITIES:
        expected = {id(named[name]) for name in own_names(made, m) if not name.startswith("origins")}
        assert {id(parameter) for parameter in made.private_parameters(m)} == expected


@every_network
def test_an_absent_modality_is_never_run(network: str):
    made, computed = network_of(network), []
    hook = made.register_forward_pre_hook(lambda _, inputs: computed.append(inputs[1]))
    run_modalities(made, alone(1))
    hook.remove()
    assert computed == [1, 2]


@every_network
@every_picture_network
def test_a_batch_whose_samples_miss_different_things_is_each_sample_alone(network: str, pictures: str):
    made = network_of(network, pictures)
    together = run_modalities(made, batch())
    everything, samples = made.fuse(together)
    assert samples == list(range(len(HAVE)))
    for sample, have in enumerate(HAVE):
        by_itself = run_modalities(made, alone(sample))
        expected, _ = made.fuse(by_itself)
        torch.testing.assert_close(everything[sample : sample + 1], expected, rtol=1e-9, atol=1e-9)
        for subset in all_subsets(have):
            fused, members = made.fuse(together, subset)
            expected, _ = made.fuse(by_itself, subset)
            torch.testing.assert_close(fused[members.index(sample)][None], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("network", ["branches", "ds"])
def test_fusion_by_the_mean(network: str):
    made = network_of(network)
    outputs = Pairs(2, {m: [0, 1] for m in MODALITIES}, {m: noise(2, WIDTH, seed=i) for i, m in enumerate(MODALITIES)})
    for subset in all_subsets(MODALITIES):
        expected = sum(outputs.values[m] for m in subset) / len(subset)
        torch.testing.assert_close(made.fuse(outputs, subset)[0], expected)


def test_late_fusion_tells_modalities_and_not_their_order():
    made, x, y = network_of("late"), noise(2, WIDTH), noise(2, WIDTH, seed=2)

    def fuse(values: dict[str, Tensor]) -> Tensor:
        return made.fuse(Pairs(2, {m: [0, 1] for m in values}, values))[0]

    fused = fuse({"photo": x, "words": y})
    torch.testing.assert_close(fuse({"words": y, "photo": x}), fused)
    assert not torch.allclose(fuse({"photo": y, "words": x}), fused, atol=1e-4)


@every_network
@pytest.mark.parametrize(("modality", "filling"), [("words", -1), ("words", 10**9), ("numbers", float("nan"))])
def test_padding_has_no_influence(network: str, modality: str, filling: float):
    made, given = network_of(network), values_of(modality, [0, 4, 2])
    longer = torch.cat([given.values, torch.zeros_like(given.values)], dim=1)
    mask = Padded(longer, given.lengths).mask
    mask = mask if longer.ndim == 2 else mask[..., None]
    longer = torch.where(mask, longer, torch.tensor(filling, dtype=longer.dtype))
    m, results = MODALITIES.index(modality), []
    for padded in (given, Padded(longer, given.lengths)):
        features = made(padded, m)
        grads = torch.autograd.grad(features.square().sum(), list(made.parameters()), allow_unused=True)
        results.append([features, *(grad for grad in grads if grad is not None)])
    for short, long in zip(*results, strict=True):
        torch.testing.assert_close(long, short, rtol=1e-9, atol=1e-9)


@every_picture_network
def test_features_of_frames_are_the_mean_of_theirs(pictures: str):
    frames = values_of("photo", [0, 1])
    made = network_of("branches", pictures)
    one = PictureEncoders(
        {"photo": Input("image", {"frames": 1, "height": 32, "width": 32})}, PICTURES[pictures], 12, False
    )
    one = one.double().eval()
    of_one = {name: made.pictures.state_dict()[name] for name in one.state_dict()}
    one.load_state_dict(of_one)
    expected = (one(frames[:, :1], 0) + one(frames[:, 1:], 0)) / 2
    torch.testing.assert_close(made(frames, 0), expected, rtol=1e-9, atol=1e-9)


# What is standardised


@every_network
@every_picture_network
def test_inputs_are_standardised_with_their_statistics(network: str, pictures: str):
    standardised, plain = network_of(network, pictures), make(network, PICTURES[pictures]).double().eval()
    state = standardised.state_dict()
    plain.load_state_dict(
        state | {name: value for name, value in plain.state_dict().items() if name.endswith((".mean", ".std"))}
    )
    photo, voice, numbers = (values_of(m, [0, 3]) for m in ("photo", "voice", "numbers"))
    mean, std = noise(3), noise(3).abs() + 0.5
    pairs = [
        (photo, (photo - mean[:, None, None]) / std[:, None, None], "photo"),
        (voice, (voice - noise(20)) / (noise(20).abs() + 0.5), "voice"),
        (numbers, numbers._replace(values=(numbers.values - mean) / std), "numbers"),
    ]
    for raw, standard, modality in pairs:
        m = MODALITIES.index(modality)
        torch.testing.assert_close(plain(standard, m), standardised(raw, m), rtol=1e-6, atol=1e-6)
        assert not torch.allclose(plain(raw, m), standardised(raw, m), rtol=1e-3)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({"words": (torch.zeros(3), torch.ones(3))}, "expected some of photo, voice, numbers, got words"),
        ({"scent": (torch.zeros(3), torch.ones(3))}, "expected some of photo, voice, numbers, got scent"),
        ({"voice": (torch.zeros(3), torch.ones(3))}, r"voice: expected a mean of 20 finite numbers, got shape \[3\]"),
        ({"photo": (torch.zeros(3), -torch.ones(3))}, "photo: expected standard deviations of at least 0, got -1"),
    ],
    ids=["text", "unknown", "shape", "negative"],
)
def test_statistics_that_are_none_raise_and_change_nothing(statistics: dict, message: str):
    made = make("branches")
    with pytest.raises(ValueError, match=message):
        made.set_input_statistics({"numbers": (torch.ones(3), torch.ones(3))} | statistics)
    assert not made.sequences.inputs[1].mean.any()


def test_a_channel_that_is_constant_becomes_0():
    made = make("branches")
    made.set_input_statistics({"photo": (torch.full((3,), 0.5), torch.zeros(3))})
    stem = made.pictures.stems[0]
    assert not stem(torch.full((1, 2, 3, 32, 32), 0.5)).any()


# What is shared


@every_picture_network
def test_running_statistics_belong_to_one_modality_each(pictures: str):
    made = make("ds", PICTURES[pictures])
    before = {name: value.clone() for name, value in made.state_dict().items() if "running" in name}
    assert {name.rpartition(".")[2] for name in before} == {"photo", "voice"}
    made(values_of("voice", [0, 1, 2]).float(), 1)
    after = made.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {name for name in before if name.endswith(".voice")}


@every_picture_network
def test_pictures_and_sound_share_all_but_first_layers_and_norms(pictures: str):
    shared, branches = make("ds", PICTURES[pictures]), make("branches", PICTURES[pictures])
    body = sum(parameter.numel() for parameter in branches.pictures.bodies[0].parameters())
    private = shared.pictures.bodies[0].private_parameters(0)
    together = sum(parameter.numel() for parameter in shared.pictures.bodies.parameters())
    assert together == body + sum(parameter.numel() for parameter in private)
    assert len(shared.pictures.projections) == 1
    assert len(branches.pictures.projections) == 2
    assert len(shared.sequences.encoders) == 1


def test_a_modality_alone_in_its_group_shares_nothing():
    inputs = {m: INPUTS[m] for m in ("photo", "words", "numbers")}
    made = make("ds", inputs=inputs)
    assert not made.pictures.shared
    assert made.sequences.shared
    assert sharing_notes(inputs) == (
        "photo has a network of its own: no other modality is image or audio",
        "words, numbers share one network, with first layers and norms of their own",
    )


@pytest.mark.parametrize("modalities", [("photo",), ("photo", "words"), ("voice", "numbers")], ids="-".join)
def test_sharing_where_nothing_can_be_shared_is_refused(modalities: tuple[str, ...]):
    inputs = {m: INPUTS[m] for m in modalities}
    with pytest.raises(UserError, match=rf"--network ds: no two modalities of {modalities[0]} \("):
        make_classifier(inputs, 2, "ds", "resnet18", 8, 1, 2, 0.0)


# Surroundings


@every_network
@every_picture_network
def test_a_saved_state_has_each_tensor_once_and_comes_back(network: str, pictures: str):
    saved = network_of(network, pictures)
    state = saved.state_dict()
    assert len({value.data_ptr() for value in state.values() if value.numel()}) == len(state)
    other = make(network, PICTURES[pictures]).double().eval()
    with torch.no_grad():
        other.head.weight.zero_()
    other.load_state_dict(state)
    expected = saved.fuse(run_modalities(saved, batch()))[0]
    found = other.fuse(run_modalities(other, batch()))[0]
    assert torch.equal(found, expected)
    assert torch.equal(other.head(found), saved.head(expected))


@every_network
@every_picture_network
def test_one_sample_can_be_trained_on(network: str, pictures: str):
    """Its pictures are a single pixel behind the last stage, of which torch's batch norm refuses a variance."""
    made = make(network, PICTURES[pictures])
    inputs = floats(batch([("photo",), ("voice", "words", "numbers")]))
    made.head(made.fuse(run_modalities(made, inputs))[0]).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())
    assert all(value.isfinite().all() for value in made.state_dict().values())


@every_network
@every_picture_network
def test_autocast_computes_in_bfloat16_about_the_same(network: str, pictures: str):
    made, inputs = make(network, PICTURES[pictures]).eval(), floats(batch())

    def predictions() -> Tensor:
        return made.head(made.fuse(run_modalities(made, inputs))[0])

    expected = predictions()
    with torch.autocast("cpu", torch.bfloat16):
        found = predictions()
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.1)
    found.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in made.parameters())


@every_network
def test_gmd_by_sample_is_gmd_by_whole_backward_passes(network: str):
    """Pictures, whose batch norms mix the samples, and looked up words are left out of it."""
    made = make(network).double()
    for module in made.modules():  # batch norms train, but nothing is left out at random
        if isinstance(module, nn.Dropout1d):
            module.p = 0.0
        elif isinstance(module, Block):
            module.drop_path = 0.0
    results = []
    for whole in (True, False):
        outputs = run_modalities(made, batch([MODALITIES] * 3))
        losses = list(losses_of(made, outputs).values())
        made.zero_grad()
        generator = torch.Generator().manual_seed(0)
        surgeon = gmd.GMD(torch.optim.SGD(made.parameters(), lr=0.1), generator=generator, by_sample=not whole)
        report = surgeon.backward(losses, outputs=None if whole else outputs.values)
        results.append([report.gram, *(p.grad for p in made.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-11)


@every_network
def test_networks_learn_what_one_modality_says(network: str):
    """The class of a sample is the brightness of its photo; all else is noise."""
    made, inputs = make(network), floats(batch([MODALITIES] * 8))
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    classes = torch.arange(8) % 2
    inputs.values["photo"] = 0.1 * inputs.values["photo"] + classes[:, None, None, None, None]
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(made.head(made.fuse(run_modalities(made, inputs))[0]), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@every_network
@every_picture_network
def test_a_network_without_values_tells_its_size(network: str, pictures: str):
    with torch.device("meta"):
        made = make(network, PICTURES[pictures])
    expected = sum(p.numel() for p in network_of(network, pictures).parameters())
    assert sum(p.numel() for p in made.parameters()) == expected


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 30}, "width: expected a multiple of the 4 heads, got 30"),
        ({"outputs": 0}, "outputs: expected at least 1, got 0"),
        ({"inputs": {}}, "inputs: expected at least one modality, got none"),
        ({"inputs": {"scent": Input("smell", {})}}, r"inputs\['scent'\]: expected one of image, audio, text, features"),
        (
            {"inputs": {"n": Input("features", {"features": 0})}},
            r"inputs\['n'\]: expected features of at least 1, got 0",
        ),
    ],
    ids=["width", "outputs", "none", "kind", "size"],
)
def test_sizes_that_do_not_fit_raise(change: dict, message: str):
    given = {"inputs": INPUTS, "outputs": 2, "width": 32} | change
    with pytest.raises(ValueError, match=message):
        make_classifier(network="branches", pictures="resnet18", layers=1, heads=4, dropout=0.1, **given)


@pytest.mark.parametrize(
    ("modality", "value", "message"),
    [
        ("photo", torch.zeros(1, 1, 3, 32, 32), r"photo: expected \[n, 2, 3, 32, 32\], got \[1, 1, 3, 32, 32\]"),
        ("voice", torch.zeros(2, 40, 20), r"voice: expected \[n, 1, 40, 20\], got \[2, 40, 20\]"),
        ("words", Padded(torch.zeros(1, 2), torch.tensor([2])), r"words: expected int64 \[n, L\], got torch.float32"),
        ("numbers", Padded(torch.zeros(1, 2), torch.tensor([2])), r"numbers: expected \[n, L, 3\], got \[1, 2\]"),
    ],
    ids=MODALITIES,
)
def test_values_of_another_shape_raise(modality: str, value: Tensor | Padded, message: str):
    with pytest.raises(ValueError, match=message):
        make("branches")(value, MODALITIES.index(modality))


def test_the_padding_has_no_vector():
    words = Words("words", VOCABULARY, 4)
    found = words(torch.tensor([[3, 5]]), torch.tensor([[True, False]]))
    assert torch.equal(found[0, 0], 2 * words.embedding.weight[3])
    assert not found[0, 1].any()


def test_words_are_of_the_size_of_the_positions_and_their_weights_small():
    """Vaswani et al., section 3.4; of weights around 1 a word that is seldom met learns next to nothing."""
    words = Words("words", 2000, 64)
    assert words.embedding.weight.std().item() == pytest.approx(1 / 8, rel=0.05)
    assert words(torch.arange(1, 2000)[None], None).std().item() == pytest.approx(1, rel=0.05)
