"""What sharing a network by `gmd.share` costs, and what a lone sample gains from `quick_lone_samples`, on the CPU.

Both are measured on MONAI's networks as they come and on gmd's own, with one case of a few voxels along each axis.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn

import gmd
from bench.measure.step import MODALITIES, REGIONS, region_loss
from bench.measure.timing import summary
from gmd.models.conv import quick_lone_samples
from gmd.models.modality_norms import ModalityGroupNorm
from gmd.models.unet3d import UNet3d

SHARING, LONE = "a step of four modalities", "forward and backward of one sample"
PLAIN, SHARED, BY_HAND = "one affine for all", "gmd.share", "norms written for it"
TORCH, QUICK = "torch's convolutions", "quick_lone_samples"
# of outputs, and of gradients, relative: a ReLU passes all of a gradient or nothing where rounding decides
OUTPUT_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 5e-3


def segresnet() -> nn.Module:
    """Returns MONAI's SegResNet (Myronenko, BrainLes 2018), of 16 filters."""
    from monai.networks.nets.segresnet import SegResNet  # MONAI may be missing where a GPU is

    return SegResNet(init_filters=16, in_channels=1, out_channels=len(REGIONS))


def dynunet() -> nn.Module:
    """Returns MONAI's DynUNet (nnU-Net's network, Isensee et al., 2021), of 4 levels."""
    from monai.networks.nets.dynunet import DynUNet

    return DynUNet(3, 1, len(REGIONS), [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[16, 32, 64, 128])


def basic_unet() -> nn.Module:
    """Returns MONAI's BasicUNet, at half of its width."""
    from monai.networks.nets.basic_unet import BasicUNet

    return BasicUNet(3, 1, len(REGIONS), features=(16, 16, 32, 64, 128, 16))


def unetr(size: int) -> nn.Module:
    """Returns MONAI's UNETR (Hatamizadeh et al., WACV 2022), a quarter of its width, for volumes of size³ voxels."""
    from monai.networks.nets.unetr import UNETR

    return UNETR(1, len(REGIONS), (size,) * 3, hidden_size=192, mlp_dim=768, num_heads=6)


class OneModality(UNet3d):
    """gmd's U-Net for one modality, called without its index."""

    def __init__(self, width: float):
        super().__init__(MODALITIES[:1], REGIONS, width)

    def forward(self, volumes: Tensor, modality: int | Sequence[int] = 0) -> Tensor:
        return super().forward(volumes, modality)


@dataclass
class Contestant:
    """A network that does the same work as its rivals, on the same volumes.

    Attributes:
        call: (network, volumes of a modality, its index) -> logits.
        network: as it is measured.
        modalities: how many are computed, of one case, with a loss on the mean of their logits.
        steps: whether an optimizer takes a step afterwards.
    """

    call: Callable[[nn.Module, Tensor, int], Tensor]
    network: nn.Module
    modalities: int
    steps: bool
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self):
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4)

    def backward(self, volumes: Tensor, target: Tensor) -> Tensor:
        """Goes forward and backward: leaves gradients in `.grad`, returns the mean of the modalities' logits."""
        self.optimizer.zero_grad()
        logits = [self.call(self.network, volumes[m : m + 1], m) for m in range(self.modalities)]
        fused = torch.stack(logits).mean(dim=0)
        region_loss(fused, target).backward()
        return fused.detach()

    def milliseconds(self, volumes: Tensor, target: Tensor) -> float:
        """Returns the time of one step."""
        start = perf_counter()
        self.backward(volumes, target)
        if self.steps:
            self.optimizer.step()
        return 1e3 * (perf_counter() - start)

    def gradient(self) -> Tensor:
        """Returns the gradient of each parameter of the plain network, those of modalities' own added up: [N]."""
        sums: dict[str, Tensor] = {}
        named = {id(p): name for view in _views(self.network) for name, p in view.named_parameters()}
        for param in self.network.parameters():
            if param.grad is not None:
                flat = param.grad.double().flatten()
                sums[named[id(param)]] = sums.get(named[id(param)], torch.zeros(())) + flat
        return torch.cat(list(sums.values()))


def _views(network: nn.Module) -> Sequence[nn.Module]:
    return list(network.views) if isinstance(network, gmd.Shared) else [network]


def _alone(network: nn.Module, volumes: Tensor, modality: int) -> Tensor:
    return network(volumes)


def _with_index(network: nn.Module, volumes: Tensor, modality: int) -> Tensor:
    return network(volumes, modality)


def sharing(name: str, make: Callable[[], nn.Module], by_hand: Callable[[], nn.Module] | None = None) -> "Case":
    """Returns a network that serves four modalities, with one affine for all and with one for each.

    by_hand: makes the same with norms of its own, which keep the affines of all modalities
    """
    private = ModalityGroupNorm if by_hand else "norm"
    torch.manual_seed(0)
    network = make()
    quick_lone_samples(network)
    step = partial(Contestant, modalities=len(MODALITIES), steps=True)
    rivals = {
        PLAIN: step(_alone, network),
        SHARED: step(_with_index, gmd.share(copy.deepcopy(network), MODALITIES, private)),
    }
    if by_hand is not None:
        torch.manual_seed(0)
        rivals[BY_HAND] = step(_with_index, by_hand())
    return Case(name, SHARING, rivals)


def lone(name: str, make: Callable[[], nn.Module]) -> "Case":
    """Returns a network that gets one sample, with torch's convolutions and with ours."""
    torch.manual_seed(0)
    network = make()
    quick = copy.deepcopy(network)
    quick_lone_samples(quick)
    one = partial(Contestant, _alone, modalities=1, steps=False)
    return Case(name, LONE, {TORCH: one(network), QUICK: one(quick)})


@dataclass
class Case:
    """Contestants that compute the same. The first is what the others are compared with.

    Attributes:
        network: its name.
        what: is measured, `SHARING` or `LONE`.
        rivals: by their names.
    """

    network: str
    what: str
    rivals: Mapping[str, Contestant]

    def measure(self, size: int, rounds: int, on_round: Callable[[], object]) -> list[dict]:
        """Returns a row for each contestant: an error instead of times for one whose values are wrong."""
        generator = torch.Generator().manual_seed(1)
        volumes = torch.randn(len(MODALITIES), 1, size, size, size, generator=generator)
        target = (torch.randn(1, len(REGIONS), size, size, size, generator=generator) > 1).float()
        exact = copy.deepcopy(next(iter(self.rivals.values())))
        exact.network.double()
        expected = exact.backward(volumes.double(), target.double()), exact.gradient()
        rows = {name: self._judged(name, volumes, target, expected) for name in self.rivals}
        right = [name for name, row in rows.items() if not row["error"]]
        times: dict[str, list[float]] = {name: [] for name in right}
        for turn in range(rounds):
            for name in right if turn % 2 else reversed(right):  # so that none always follows the same
                times[name].append(self.rivals[name].milliseconds(volumes, target))
            on_round()
        first = times.get(next(iter(self.rivals)), [])
        return [row | _timed(times.get(name, []), first) for name, row in rows.items()]

    def _judged(self, name: str, volumes: Tensor, target: Tensor, expected: tuple[Tensor, Tensor]) -> dict:
        """Returns what a row tells of a contestant but its times.

        expected: the logits and the gradient of the first contestant, in float64
        """
        rival = self.rivals[name]
        of_output = _distance(rival.backward(volumes, target).double(), expected[0])
        # norms written for it have other names and shapes: their outputs are compared, as all else follows from them
        of_gradient = 0.0 if name == BY_HAND else _distance(rival.gradient(), expected[1])
        wrong = not (of_output <= OUTPUT_TOLERANCE and of_gradient <= GRADIENT_TOLERANCE)  # NaN is wrong too
        return {
            "case": f"{self.network}, {len(volumes[0, 0])}³",
            "what": self.what,
            "contestant": name,
            "N": sum(p.numel() for p in rival.network.parameters()),
            "output_error": of_output,
            "gradient_error": of_gradient,
            "error": f"off by {of_output:.1e}, its gradient by {of_gradient:.1e}" if wrong else "",
        }


def _distance(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def _timed(taken: Sequence[float], first: Sequence[float]) -> dict:
    """Returns the columns of a contestant's times: `of_first` is the median, over the rounds, of its share of one."""
    if not taken or not first:
        return {}
    return summary(taken) | {"of_first": median(a / b for a, b in zip(taken, first, strict=True))}


def cases(size: int) -> Iterator[Case]:
    """Yields all that is measured, made one after the other."""
    width = 0.5
    yield sharing("SegResNet", segresnet)
    yield sharing("DynUNet", dynunet)
    yield sharing("gmd's U-Net", partial(OneModality, width), partial(UNet3d, MODALITIES, REGIONS, width))
    yield lone("SegResNet", segresnet)
    yield lone("DynUNet", dynunet)
    yield lone("BasicUNet", basic_unet)
    yield lone("UNETR", partial(unetr, size))


CASES = 7


def measure_share(size: int, rounds: int, on_round: Callable[[], object]) -> list[dict]:
    """Returns the rows of all cases, of volumes of size³ voxels."""
    return [row for case in cases(size) for row in case.measure(size, rounds, on_round)]
