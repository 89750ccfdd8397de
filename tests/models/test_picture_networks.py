"""The networks for pictures against those that they are: torchvision's ResNet-18, and Strip-MLP whole."""

from pathlib import Path

import pytest
import torch
from torch import nn

from gmd.config import TrainClassify
from gmd.errors import UserError
from gmd.models.classification.picture_networks import PICTURE_NETWORKS, StripBody, picture_network, side_of
from gmd.models.lone_batch_norm import LoneBatchNorm2d, allow_lone_values
from gmd.models.strip_mlp import VARIANTS, StripMLP, Variant

pytestmark = pytest.mark.usefixtures("one_thread")


def size_of(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def resnet() -> tuple[nn.Conv2d, nn.Module]:
    made = picture_network("resnet18")
    return made.stem(3), made.body(64)


def test_resnet18_has_the_published_size():
    """11,689,512 with the last layer, of 1000 classes (He et al., CVPR 2016)."""
    assert size_of(*resnet()) + 512 * 1000 + 1000 == 11_689_512


@pytest.mark.parametrize("training", [False, True], ids=["evaluating", "training"])
@pytest.mark.parametrize("size", [(64, 64), (100, 40)], ids=["64 x 64", "100 x 40"])
def test_resnet18_is_torchvisions(size: tuple[int, int], training: bool):
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    torch.manual_seed(0)
    theirs = models.resnet18().double()
    theirs.fc = nn.Identity()
    for norm in (module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.normal_(norm.weight, 1, 0.1)
        nn.init.normal_(norm.running_mean, 0, 0.1)
    stem, body = resnet()
    ours = nn.ModuleDict({"stem": stem, "body": body}).double()
    state = theirs.state_dict()
    ours["stem"].load_state_dict({"weight": state.pop("conv1.weight")})
    ours["body"].load_state_dict(state)
    pictures = torch.randn(3, 3, *size, dtype=torch.float64)
    theirs.train(training)
    ours.train(training)
    torch.testing.assert_close(ours["body"](ours["stem"](pictures)), theirs(pictures), rtol=1e-9, atol=1e-9)
    after = theirs.state_dict()
    for name, value in ours["body"].state_dict().items():
        torch.testing.assert_close(value, after[name], rtol=1e-9, atol=1e-9)


def test_resnet18_starts_as_torchvisions_does():
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    theirs, (stem, body) = models.resnet18(), resnet()
    ours = {"conv1.weight": stem.weight} | dict(body.named_parameters())
    for name, value in theirs.named_parameters():
        if not name.startswith("fc"):
            assert ours[name].std().item() == pytest.approx(value.std().item(), rel=0.1), name


def test_strip_mlp_is_itself_in_two_parts():
    torch.manual_seed(0)
    variant = Variant(16, (1, 2, 1, 1))
    whole = StripMLP(64, 5, *variant).double().eval()
    body, state = StripBody(64, variant).double().eval(), whole.state_dict()
    body.load_state_dict({name: value for name, value in state.items() if not name.startswith(("patch_embed", "head"))})
    pictures = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    assert torch.equal(body(whole.patch_embed(whole.laid_out(pictures))), whole.features(pictures))


@pytest.mark.parametrize("name", VARIANTS)
def test_published_sizes_of_strip_mlp(name: str):
    made = PICTURE_NETWORKS[f"strip-mlp-{name}"]
    with torch.device("meta"):
        whole, head = StripMLP(64, 10, *VARIANTS[name]), nn.Linear(made.features, 10)
        assert size_of(made.stem(3), made.body(64), head) == size_of(whole)


@pytest.mark.parametrize("name", PICTURE_NETWORKS)
def test_the_size_of_a_network_is_known_without_making_it(name: str):
    made = PICTURE_NETWORKS[name]
    with torch.device("meta"):
        assert size_of(made.stem(3), made.body(224)) == pytest.approx(made.parameters, rel=0.15)


def test_strip_mlp_of_ones_own_size():
    made = picture_network("strip-mlp:32:1-1-2-1")
    stem = made.stem(1)
    assert stem.weight.shape == (32, 1, 4, 4)
    assert made.body(32)(stem(torch.zeros(2, 1, 32, 32))).shape == (2, made.features)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "resnet50",
            r"--pictures: got resnet50, expected one of resnet18, strip-mlp-light, .* or strip-mlp:WIDTH:DEPTHS",
        ),
        ("strip-mlp:32:1-1-1", r"--pictures: got strip-mlp:32:1-1-1, expected one of"),
        ("strip-mlp:7:1-1-1-1", "--pictures strip-mlp:7:1-1-1-1: width: expected an even number"),
        ("strip-mlp:0:1-1-1-1", "--pictures strip-mlp:0:1-1-1-1: width: expected an even number"),
        ("x" * 200, r"got x{80}\.\.\., expected"),
    ],
    ids=["another", "three stages", "odd", "zero", "long"],
)
def test_names_of_no_network_are_refused(name: str, message: str):
    with pytest.raises(UserError, match=message):
        picture_network(name)


@pytest.mark.parametrize(
    ("height", "width", "side"), [(1, 1, 32), (32, 32, 32), (33, 32, 64), (64, 64, 64), (300, 64, 160), (224, 224, 224)]
)
def test_squares_have_as_many_pixels_as_the_picture(height: int, width: int, side: int):
    assert side_of(height, width) == side


# Batch norm of a single value


def test_torchs_batch_norm_refuses_a_single_value():
    """Were it not so, LoneBatchNorm2d would not be needed."""
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))


def test_a_single_value_is_normalised_by_the_running_statistics():
    torch.manual_seed(0)
    norm = LoneBatchNorm2d(3)
    norm(torch.randn(4, 3, 2, 2))
    x, before = torch.randn(1, 3, 1, 1), {name: value.clone() for name, value in norm.state_dict().items()}
    expected = (x.flatten() - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(norm(x).flatten(), expected)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    torch.testing.assert_close(norm.eval()(x).flatten(), expected)


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (1, 3, 2, 1)], ids=["two samples", "two pixels"])
def test_several_values_are_normalised_as_by_torch(shape: tuple[int, ...]):
    ours, theirs = LoneBatchNorm2d(3), nn.BatchNorm2d(3)
    x = torch.randn(shape)
    assert torch.equal(ours(x), theirs(x))
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_a_network_is_made_to_allow_single_values():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3), nn.SyncBatchNorm(3)))
    allow_lone_values(network)
    assert [type(module) for module in network.modules()][1:] == [
        LoneBatchNorm2d,
        nn.Sequential,
        LoneBatchNorm2d,
        nn.SyncBatchNorm,
    ]


def test_the_command_takes_these_names_and_no_others():
    TrainClassify(Path("manifest.csv"), pictures="strip-mlp:32:1-1-1-1").check_values()
    with pytest.raises(UserError, match="--pictures: got resnet50, expected one of resnet18"):
        TrainClassify(Path("manifest.csv"), pictures="resnet50").check_values()
