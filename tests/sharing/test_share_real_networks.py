"""Tests of gmd.share on networks that people have: those of MONAI, and of timm where it is installed."""

import copy

import pytest
import torch
from monai.networks import nets
from torch import nn

import gmd
from gmd.sharing._norms import is_norm, lacks_affine
from helpers.shared_networks import MODALITIES

# name -> the network, the size of its input, its norms, and how many of these have no affine at first
NETWORKS = {
    "SegResNet": (lambda: nets.SegResNet(3, 8, 1, 3), 16, 25, 0),
    "SegResNet-instance": (lambda: nets.SegResNet(3, 8, 1, 3, norm="INSTANCE"), 16, 25, 25),
    "DynUNet": (lambda: nets.DynUNet(3, 1, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4, 8, 8, 8]), 16, 14, 0),
    "SwinUNETR": (lambda: nets.SwinUNETR(1, 3, feature_size=12), 64, 46, 26),
    "UNETR": (lambda: nets.UNETR(1, 3, (16,) * 3, 4, hidden_size=24, mlp_dim=24, num_heads=2), 16, 58, 21),
    "BasicUNet": (lambda: nets.BasicUNet(3, 1, 3, (4, 4, 8, 8, 8, 4)), 32, 18, 0),
    "VNet": (lambda: nets.VNet(3, 1, 3), 32, 24, 0),
    "AttentionUnet": (lambda: nets.AttentionUnet(3, 1, 3, (4, 8, 8), (2, 2)), 16, None, None),
    "UNet": (lambda: nets.UNet(3, 1, 3, (4, 8, 8), (2, 2), num_res_units=2), 16, None, None),
}
SLOW = ("SegResNet", "SegResNet-instance", "SwinUNETR", "BasicUNet", "VNet")


def check(network: nn.Module, x: torch.Tensor) -> gmd.Shared:
    """Checks that every modality computes what the network did, and that gradients go where they belong."""
    network.eval()
    with torch.no_grad():
        expected = network(x)
    shared = gmd.share(network, MODALITIES)
    with torch.no_grad():
        for modality in MODALITIES:
            torch.testing.assert_close(shared(x, modality), expected, rtol=1e-5, atol=1e-5)
    shared(x, "t2").square().mean().backward()
    assert any(p.grad is not None for p in shared.private_parameters("t2"))
    assert all(p.grad is None for m in ("t1", "flair") for p in shared.private_parameters(m))
    again = gmd.share(network_like(shared), MODALITIES).eval()
    again.load_state_dict(shared.state_dict())
    return shared


def network_like(shared: gmd.Shared) -> nn.Module:
    """Returns a plain network of the same structure."""
    return copy.deepcopy(shared.views[0])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NETWORKS]
)
def test_monais_networks(name):
    if name in ("SwinUNETR", "UNETR"):
        pytest.importorskip("einops", reason="MONAI's transformers need einops")
    make, size, norms, without = NETWORKS[name]
    torch.manual_seed(0)
    network = make()
    if norms is not None:
        found = [module for module in network.modules() if is_norm(module)]
        assert (len(found), sum(map(lacks_affine, found))) == (norms, without)
    shared = check(network, torch.randn(1, 1, size, size, size))
    if without is not None:
        assert shared.added_affines == without


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "norms"),
    [("resnet18", 20), ("efficientnet_b0", 49), ("convnext_atto", None), ("vit_tiny_patch16_224", 25)],
)
def test_timms_networks(name, norms):
    timm = pytest.importorskip("timm", reason="timm comes with the extra nnunet", exc_type=ImportError)
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3)
    if norms is not None:
        assert sum(map(is_norm, network.modules())) == norms
    check(network, torch.randn(2, 3, 224, 224))
