"""Any network made fast for a lone CPU sample: what changes, what stays, and who sees torch's own convolutions."""

import copy
import pickle

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations, parametrize
from torch.profiler import profile
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from gmd.models.conv import Conv3d, quick_lone_samples

SHAPE = (1, 2, 12, 12, 12)
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")

pytestmark = pytest.mark.usefixtures("one_thread")


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Conv3d(2, 8, kernel_size=3, padding=1)
    second = nn.Conv3d(8, 4, kernel_size=3, stride=2, bias=False)
    return nn.Sequential(first, nn.ReLU(), second, nn.Conv3d(4, 2, kernel_size=1))


@pytest.fixture
def networks() -> tuple[nn.Sequential, nn.Sequential]:
    """Returns a network as it comes, and one with the same weights made fast."""
    plain = make_network()
    quick = copy.deepcopy(plain)
    assert quick_lone_samples(quick) == 3
    return plain, quick


@pytest.fixture
def x() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


def assert_close(a: Tensor, b: Tensor) -> None:
    assert a.shape == b.shape
    assert (a - b).norm().item() <= 2e-6 * b.norm().item()


def test_every_convolution_of_torchs_own_class_becomes_fast_and_no_other_module():
    class Subclass(nn.Conv3d):
        pass

    others = [nn.Conv2d(2, 2, 3), nn.ConvTranspose3d(2, 2, 3), Subclass(2, 2, 3), nn.LazyConv3d(2, 3), nn.Linear(2, 2)]
    parametrized = parametrizations.weight_norm(nn.Conv3d(2, 2, 3))
    classes = [type(module) for module in (*others, parametrized)]
    plain = nn.Conv3d(2, 2, 3)
    shared = nn.Sequential(nn.Sequential(plain), plain)
    assert quick_lone_samples(nn.ModuleList([*others, parametrized, shared])) == 1
    assert type(plain) is Conv3d
    assert [type(module) for module in (*others, parametrized)] == classes
    assert quick_lone_samples(shared) == 0
    assert quick_lone_samples(alone := nn.Conv3d(2, 2, 3)) == 1
    assert type(alone) is Conv3d


@needs_onednn
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d], ids=str)
@pytest.mark.parametrize(
    "make",
    [
        lambda: SegResNet(
            init_filters=8, in_channels=1, out_channels=3, blocks_down=(1, 1), blocks_up=(1,), act="gelu"
        ),
        lambda: DynUNet(3, 1, 3, [3] * 3, [1, 2, 2], [2] * 2, filters=[4, 8, 16], act_name="gelu"),
    ],
    ids=["SegResNet", "DynUNet"],
)
def test_monais_networks_compute_what_they_computed_without_torchs_slow_path(make, memory_format: torch.memory_format):
    torch.manual_seed(0)  # and gelu instead of ReLU, whose bend some voxel lies within rounding of
    plain = make().to(memory_format=memory_format)
    quick = copy.deepcopy(plain)
    convolutions = sum(isinstance(module, nn.Conv3d) for module in plain.modules())
    # DynUNet has its levels in two places of its tree, once for scripting
    assert quick_lone_samples(quick) == convolutions > 5
    exact = copy.deepcopy(plain).double()
    volumes = torch.randn(1, 1, 16, 16, 16).to(memory_format=memory_format)
    found, slow = [], []
    for network, given in ((quick, volumes), (plain, volumes), (exact, volumes.double())):
        with profile() as profiled:
            network(given).square().mean().backward()
        found.append(torch.cat([p.grad.flatten().double() for p in network.parameters() if p.grad is not None]))
        slow.append(sum(event.name == "aten::slow_conv3d_forward" for event in profiled.events()))
    # products of matrices, of contiguous volumes, are left to it
    pointwise = [module for module in quick.modules() if isinstance(module, Conv3d) and module.kernel_size == (1, 1, 1)]
    assert slow[0] <= len(pointwise) < slow[1]
    for gradient in found[:2]:
        assert (gradient - found[2]).norm().item() <= 1e-5 * found[2].norm().item()


def test_parameters_buffers_hooks_and_names_stay(networks: tuple[nn.Module, nn.Module], x: Tensor):
    plain, quick = networks
    called = []
    network = make_network()
    network[0].register_forward_hook(lambda *_: called.append(1))
    parameters = list(network.parameters())
    quick_lone_samples(network)
    assert all(a is b for a, b in zip(network.parameters(), parameters, strict=True))
    network(x)
    assert called == [1]
    assert str(quick) == str(plain)
    assert list(quick.state_dict()) == list(plain.state_dict())
    quick.load_state_dict(plain.state_dict())
    plain.load_state_dict(quick.state_dict())


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))], ids=["copy", "pickle"]
)
def test_copies_are_as_fast(networks: tuple[nn.Module, nn.Module], x: Tensor, copied):
    quick = copied(networks[1])
    assert type(quick[0]) is Conv3d
    assert torch.equal(quick(x), networks[1](x))


def test_weights_may_be_parametrized_afterwards(networks: tuple[nn.Module, nn.Module], x: Tensor):
    plain, quick = networks
    parametrizations.weight_norm(quick[0])
    y = quick(x)
    assert_close(y, plain(x))
    y.sum().backward()
    assert quick[0].parametrizations.weight.original0.grad is not None
    parametrize.remove_parametrizations(quick[0], "weight")
    assert type(quick[0]) is Conv3d


def test_monais_tensors_stay_so(networks: tuple[nn.Module, nn.Module], x: Tensor):
    plain, quick = networks
    y = quick(MetaTensor(x.clone()))
    assert isinstance(y, MetaTensor)
    assert_close(y.as_tensor(), plain(x))


def test_without_gradients_and_checkpointed(networks: tuple[nn.Module, nn.Module], x: Tensor):
    plain, quick = networks
    expected = plain(x)
    with torch.inference_mode():
        assert_close(quick(x), expected)
    y = checkpoint(quick, x, use_reentrant=False)
    y.square().sum().backward()
    expected.square().sum().backward()
    for a, b in zip(quick.parameters(), plain.parameters(), strict=True):
        assert_close(a.grad, b.grad)


def test_a_sample_without_a_batch_and_a_batch_without_a_sample(networks: tuple[nn.Module, nn.Module], x: Tensor):
    plain, quick = networks
    assert_close(quick(x[0]), plain(x[0]))
    assert quick(x[:0]).shape == plain(x[:0]).shape


@pytest.mark.parametrize("wrong", ["channels", "type"])
def test_errors_are_torchs(networks: tuple[nn.Module, nn.Module], x: Tensor, wrong: str):
    given = x[:, :1] if wrong == "channels" else x.double()
    messages = []
    for network in networks:
        with pytest.raises(RuntimeError) as error:
            network(given)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


# Who looks on sees torch's own


def test_transforms_of_torch_func(networks: tuple[nn.Module, nn.Module], x: Tensor):
    for transformed in (grad, lambda f: vmap(grad(f), in_dims=(None, 0))):
        found = []
        for network in networks:
            parameters = {name: p.detach() for name, p in network.named_parameters()}

            def loss(values: dict[str, Tensor], x: Tensor, network: nn.Module = network) -> Tensor:
                return functional_call(network, values, (x,)).square().sum()

            given = x if transformed is grad else torch.stack([x, 2 * x])
            found.append(transformed(loss)(parameters, given))
        for name, value in found[0].items():
            assert_close(found[1][name], value)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated:DeprecationWarning")  # by torch's own
def test_forward_mode(networks: tuple[nn.Module, nn.Module], x: Tensor):
    with forward_ad.dual_level():
        tangents = [forward_ad.unpack_dual(network(forward_ad.make_dual(x, x + 1))).tangent for network in networks]
    assert_close(*tangents)


def test_a_counter_of_operations_counts_as_ever(networks: tuple[nn.Module, nn.Module], x: Tensor):
    counts = []
    for network in networks:
        with FlopCounterMode(display=False) as counter:
            network(x).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_fake_tensors(networks: tuple[nn.Module, nn.Module], x: Tensor):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        y = networks[1](mode.from_tensor(x))
    assert y.shape == networks[0](x).shape


def test_exported_traced_and_compiled(networks: tuple[nn.Module, nn.Module], x: Tensor):
    plain, quick = networks
    exported = torch.export.export(quick, (x,))
    assert sum("aten.conv3d" in str(node.target) for node in exported.graph.nodes) == 3
    assert torch.equal(torch.compile(quick, backend="aot_eager", fullgraph=True)(x), plain(x))
