"""Strip-MLP's time with its strip layers as dense products and as the published grouped convolutions, on the CPU."""

import copy
from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor, nn

from bench.measure.timing import summary
from gmd.models.strip_mlp import VARIANTS, Depthwise, GlobalResponse, Pointwise, Strip, StripMLP

PUBLISHED = "as published: convolutions throughout, contiguous"
GROUPED = "ours but for grouped convolutions in the strip layers"
OURS = "ours: dense products, channels-last"
WHOLE, LAYER = "the light network, {size} px, a batch of {batch}", "one strip layer of stage {stage}, {size} px"
TOLERANCE = 1e-4  # relative, of outputs and of gradients in float32, to those in float64


class GroupedStrip(nn.Module):
    """A strip layer as the published code has it: a convolution in G groups of R channels."""

    def __init__(self, strip: Strip):
        super().__init__()
        self.groups, self.size, self.weight, self.bias = strip.groups, strip.size, strip.weight, strip.bias

    def forward(self, x: Tensor) -> Tensor:
        groups, size = self.groups, self.size
        # channels are (group, column), the height is the patch, the width is the row
        grouped = (
            x.reshape(len(x), -1, groups, size, size).permute(0, 2, 4, 1, 3).reshape(len(x), groups * size, -1, size)
        )
        mixed = nn.functional.conv2d(grouped, self.weight.contiguous(), self.bias, padding=(0, 1), groups=groups)
        return mixed.view(len(x), groups, size, -1, size).permute(0, 3, 1, 4, 2).reshape(x.shape)


class Contiguous(StripMLP):
    """The network in the memory format that the published code computes in."""

    def laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous()


def with_grouped_strips(network: nn.Module) -> nn.Module:
    """Puts published strip layers in the place of ours, with the same parameters; returns the network."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Strip):
                setattr(module, name, GroupedStrip(child))
    return network


class PublishedResponse(GlobalResponse):
    """Global response normalisation by the published formula."""

    def forward(self, x: Tensor) -> Tensor:
        energy = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        return self.gamma * (x * (energy / (energy.mean(dim=-1, keepdim=True) + 1e-6))) + self.beta + x


def as_published(network: nn.Module) -> nn.Module:
    """Makes a network compute as the published code does, with the same parameters; returns it."""
    published: dict[type, type] = {
        StripMLP: Contiguous,
        Pointwise: nn.Conv2d,
        Depthwise: nn.Conv2d,
        GlobalResponse: PublishedResponse,
    }
    for module in with_grouped_strips(network).modules():
        module.__class__ = published.get(type(module), type(module))
    return network


def measure_strip_mlp(size: int, batch: int, rounds: int, on_round: Callable[[], object]) -> list[dict]:
    """Returns a row for each way and case: forward and backward of the whole network, and of the strip layers alone."""
    torch.manual_seed(0)
    ours = StripMLP(size, 100, *VARIANTS["light"], drop_path=0.0)
    published = as_published(copy.deepcopy(ours))
    rivals = {PUBLISHED: published, GROUPED: with_grouped_strips(copy.deepcopy(ours)), OURS: ours}
    rows = measured(WHOLE.format(size=size, batch=batch), rivals, torch.randn(batch, 3, size, size), rounds)
    on_round()
    for stage in (1, 2, 3, 4):
        strip = ours.get_submodule(f"blocks{stage}.0.token_mixing.smlp_block.proj_h")
        assert isinstance(strip, Strip)
        x = torch.randn(batch, 40 * 2 ** (stage - 1), strip.size, strip.size)
        x = x.contiguous(memory_format=torch.channels_last)
        layers: dict[str, nn.Module] = {GROUPED: GroupedStrip(strip), OURS: strip}
        rows += measured(LAYER.format(stage=stage, size=size), layers, x, 5 * rounds)
        on_round()
    return rows


def measured(case: str, rivals: dict[str, nn.Module], x: Tensor, rounds: int) -> list[dict]:
    """Returns a row for each rival; one whose values are wrong has an error in the place of times."""
    exact = copy.deepcopy(next(iter(rivals.values()))).double()
    expected, expected_gradient = values(exact, x.double())
    rows = {}
    for name, network in rivals.items():
        output, gradient = values(network, x)
        off = max(distance(output, expected), distance(gradient, expected_gradient))
        wrong = not off <= TOLERANCE  # NaN is wrong too
        rows[name] = {"case": case, "contestant": name, "off_by": off, "error": f"off by {off:.1e}" if wrong else ""}
    times: dict[str, list[float]] = {name: [] for name, row in rows.items() if not row["error"]}
    for turn in range(rounds):
        for name in times if turn % 2 else reversed(times):  # so that none always follows the same
            start = perf_counter()
            values(rivals[name], x)
            times[name].append(1e3 * (perf_counter() - start))
    timed = {name: summary(taken) for name, taken in times.items()}
    first = timed.get(next(iter(rivals)), {}).get("median_ms")
    of_first = {name: {"of_first": own["median_ms"] / first} if first else {} for name, own in timed.items()}
    return [row | timed.get(name, {}) | of_first.get(name, {}) for name, row in rows.items()]


def values(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Goes forward and backward; returns the output and the gradient of the input."""
    x = x.detach().requires_grad_()
    network.zero_grad()
    output = network(x)
    output.square().sum().backward()
    assert x.grad is not None
    return output.detach(), x.grad


def distance(got: Tensor, expected: Tensor) -> float:
    """Returns the relative error."""
    return float((got - expected).norm() / expected.norm())
