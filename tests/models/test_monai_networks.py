"""MONAI's networks by name: what they take, how large they are, how they begin, and what their modalities share."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gmd.models.segmentation.architectures import ARCHITECTURES, levels_of_dynunet
from gmd.models.segmentation.monai_networks import MAKERS, make_monai_network
from gmd.models.segmentation.shared_network import SharedSegmentation
from gmd.models.segmentation.trial import output_of
from gmd.models.unet3d import PRIOR_LOGIT, UNet3d

NARROW = 1 / 16
MODALITIES = ("flair", "t1", "t1ce")
REGIONS = ("WT", "TC")

# real passes of the larger two take seconds
RUN = [pytest.param(name, marks=[pytest.mark.slow] * (name in ("swinunetr", "vnet"))) for name in MAKERS]

pytestmark = pytest.mark.usefixtures("one_thread")


def made(name: str, patch: tuple[int, int, int] | None = None, width: float = NARROW) -> tuple[nn.Module, str]:
    needs = ARCHITECTURES[name].needs
    if needs is not None:
        pytest.importorskip(needs, reason=f"{name} needs {needs}")
    torch.manual_seed(0)
    return make_monai_network(name, len(REGIONS), patch or smallest(name), width)


def smallest(name: str) -> tuple[int, int, int]:
    return ARCHITECTURES[name].nearest((16, 16, 16))


def shared(name: str) -> SharedSegmentation:
    network, last = made(name)
    stride = ARCHITECTURES[name].stride(smallest(name))
    return SharedSegmentation(network, MODALITIES, REGIONS, stride, last)


def fails(call: Callable[[], object]) -> bool:
    try:
        call()
    except Exception:
        return True
    return False


def test_every_name_has_what_is_known_of_it():
    assert set(MAKERS) | {"unet"} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("training", [True, False])
def test_logits_come_of_the_size_of_the_patch_and_of_the_last_layer(name: str, training: bool):
    patch = smallest(name)
    network, last = made(name)
    output, found = output_of(network, patch, training)
    assert output.shape == (1, len(REGIONS), *patch)
    assert found == last


@pytest.mark.parametrize("name", RUN)
def test_patches_that_are_refused_are_those_that_the_network_cannot_take(name: str):
    """On torch's meta device, in training, where batch and instance norm want more than a voxel."""
    architecture, stride = ARCHITECTURES[name], ARCHITECTURES[name].stride((32, 32, 32))
    for patch in [(stride,) * 3, (stride, stride, 2 * stride), (3 * stride, 2 * stride, stride)]:
        refused = architecture.nearest(patch) != patch
        assert refused == fails(lambda patch=patch: output_of(made(name, patch)[0], patch, training=True)), patch
    assert architecture.nearest((45, 33, 64)) == architecture.nearest(architecture.nearest((45, 33, 64)))


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("dynunet", "basicunet")])
def test_sides_have_to_be_multiples_of_the_stride(name: str):
    """DynUNet has as many levels as the patch allows; BasicUNet pads whatever is odd, and has a stride all the same."""
    stride = ARCHITECTURES[name].stride((32, 32, 32))
    odd = (2 * stride, 2 * stride, 2 * stride + stride // 2)
    assert ARCHITECTURES[name].nearest(odd) != odd
    assert fails(lambda: output_of(made(name, odd)[0], odd, training=True))


@pytest.mark.parametrize(
    ("side", "levels", "stride"),
    [(16, 3, 4), (32, 4, 8), (40, 4, 8), (64, 5, 16), (96, 5, 16), (128, 6, 32), (256, 6, 32)],
)
def test_dynunet_has_the_levels_that_nnunet_plans(side: int, levels: int, stride: int):
    patch = (side, side, side + stride)
    assert levels_of_dynunet(patch) == levels
    assert ARCHITECTURES["dynunet"].stride(patch) == stride
    assert ARCHITECTURES["dynunet"].nearest(patch) == patch
    output, _ = output_of(made("dynunet", patch)[0], patch, training=True)
    assert output.shape[2:] == patch


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_published_size_is_about_what_is_believed_of_it(name: str):
    """So that a configuration of somebody else's cannot ask for more than its checkpoint may take."""
    patch = (128, 128, 128)
    network = UNet3d(MODALITIES, REGIONS, 1.0) if name == "unet" else made(name, patch, width=1.0)[0]
    size = sum(parameter.numel() for parameter in network.parameters())
    assert size == pytest.approx(ARCHITECTURES[name].size(1.0), rel=0.02)


@pytest.mark.parametrize("name", MAKERS)
def test_it_begins_with_the_regions_share_of_the_voxels(name: str):
    network, last = made(name)
    head = network.get_submodule(last)
    assert head.bias.tolist() == [PRIOR_LOGIT] * len(REGIONS)
    head.reset_parameters()  # as cggm's classifiers do
    assert head.bias.tolist() == [PRIOR_LOGIT] * len(REGIONS)


@pytest.mark.parametrize("name", RUN)
def test_modalities_share_all_but_their_norms(name: str):
    network = shared(name)
    volumes = torch.randn(2, 1, *smallest(name))
    network(volumes[:1], 1).square().mean().backward()
    with_gradient = {id(parameter) for parameter in network.parameters() if parameter.grad is not None}
    for index, modality in enumerate(MODALITIES):
        private = {id(parameter) for parameter in network.shared.private_parameters(modality)}
        assert private
        assert bool(private & with_gradient) == (index == 1)
    assert with_gradient & {id(parameter) for parameter in network.shared.shared_parameters()}


@pytest.mark.parametrize("name", ["segresnet", "dynunet"])
def test_pairs_of_several_modalities_are_each_computed_alone(name: str):
    network = shared(name).double()
    with torch.no_grad():
        for index, modality in enumerate(MODALITIES):
            for parameter in network.shared.private_parameters(modality):
                parameter += 0.1 * index
        volumes = torch.randn(3, 1, *smallest(name), dtype=torch.float64)
        together = network(volumes, [2, 0, 2])
        alone = torch.cat([network(volumes[i : i + 1], m) for i, m in enumerate([2, 0, 2])])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(together, network(volumes, 0), atol=1e-3)
    with pytest.raises(ValueError, match="modality: expected 3 indices, one for each pair, got 2"):
        network(volumes, [0, 1])


@pytest.mark.parametrize("name", RUN)
def test_the_head_makes_the_logits_of_the_features(name: str):
    network = shared(name).eval()
    volumes = torch.randn(2, 1, *smallest(name))
    with torch.no_grad():
        features = network.features(volumes, [1, 0])
        assert torch.allclose(network.head(features), network(volumes, [1, 0]), atol=1e-5)


def test_the_head_stands_once_in_the_state_dict():
    network = shared("segresnet")
    assert not any(name.startswith("head") for name in network.state_dict())
    assert sum(parameter is network.head.weight for parameter in network.parameters()) == 1


def test_a_network_without_a_last_convolution_has_no_features():
    network = SharedSegmentation(made("segresnet")[0], MODALITIES, REGIONS, stride=8, last=None)
    with pytest.raises(ValueError, match="features: expected a network whose last layer is a convolution"):
        network.features(torch.randn(1, 1, 16, 16, 16), 0)


def test_a_trial_changes_nothing():
    """Not the running statistics of batch norm, nor torch's random numbers, of which VNet's dropout draws."""
    network, _ = made("vnet", width=0.5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    output_of(network, (32, 32, 32), training=True)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


class AsksForValues(nn.Module):
    """Looks at its input, which torch's meta device has no values of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 1)
        self.norm = nn.BatchNorm3d(2)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        return self.conv(volumes) if volumes.sum().item() > 0 else self.norm(self.conv(volumes))


def test_a_network_that_asks_for_values_is_tried_on_zeros():
    network = AsksForValues()
    output, last = output_of(network, (4, 5, 6), training=True)
    assert output.shape == (1, 2, 4, 5, 6)
    assert output.device.type == "cpu"
    assert last is None
    assert network.norm.num_batches_tracked == 0
