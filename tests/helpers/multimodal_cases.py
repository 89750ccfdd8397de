"""A tiny multimodal problem, and the loop that every other way of training it is compared with, bit for bit."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

import gmd
from gmd.subsets import all_subsets

NAMES = ("a", "b", "c")
Batch = tuple[dict[str, Tensor], Tensor]  # {modality: [8, 4]}, targets [8, 2]


class Multimodal(nn.Module):
    """A private layer for each modality and a body that all share; one output for each modality.

    Args:
        body: how the shared part is called; torch.utils.checkpoint, say.
    """

    def __init__(self, body: Callable = lambda function, x: function(x)):
        super().__init__()
        torch.manual_seed(0)
        self.private = nn.ModuleDict({name: nn.Linear(4, 6) for name in NAMES})
        self.shared = nn.Sequential(nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
        self.body = body

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.body(self.shared, self.private[name](x)) for name, x in batch.items()}


def batches(count: int, rows: int = 8, seed: int = 1) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return [({name: draw(rows, 4) for name in NAMES}, 3 * draw(rows, 2)) for _ in range(count)]


def losses_of(outputs: dict[str, Tensor], target: Tensor) -> list[Tensor]:
    """Of all seven subsets; every second one wants the opposite, so that there are conflicts."""
    fused = [torch.stack([outputs[m] for m in subset]).mean(dim=0) for subset in all_subsets(NAMES)]
    return [(value - (-1) ** k * target).square().mean() for k, value in enumerate(fused)]


def surgeon_of(optimizer: torch.optim.Optimizer, **options) -> gmd.GMD:
    """With the same projection orders every time."""
    return gmd.GMD(optimizer, generator=torch.Generator().manual_seed(4), **options)


def plain_loop(
    model: Multimodal, optimizer: torch.optim.Optimizer, data: Iterable[Batch], before_step: Callable = lambda: None
) -> list[Tensor]:
    """[T] losses of every step."""
    surgeon, losses = surgeon_of(optimizer), []
    for x, target in data:
        optimizer.zero_grad()
        report = surgeon.backward(losses_of(model(x), target))
        before_step()
        optimizer.step()
        losses.append(report.losses)
        assert report.conflicts > 0, "no conflict: this test would show nothing"
    return losses


def grads_of(model: nn.Module) -> list[Tensor | None]:
    return [param.grad for param in model.parameters()]


def merged_of(model: Multimodal, batch: Batch, given: bool = False, **options) -> list[Tensor | None]:
    """.grad of every parameter after one backward pass of GMD, with the outputs given or without."""
    outputs = model(batch[0])
    surgeon = surgeon_of(torch.optim.SGD(model.parameters(), lr=0.1), **options)
    surgeon.backward(losses_of(outputs, batch[1]), outputs=outputs if given else None)
    return grads_of(model)


def assert_equal(got: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> None:
    """Bit for bit."""
    for a, b in zip(got, expected, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)
