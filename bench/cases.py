"""The one registry of what is measured: how many objectives, how many elements, in which tensors."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import Tensor

Shapes = tuple[tuple[int, ...], ...]
Gradients = list[list[Tensor | None]]  # [T][P]

OBJECTIVES = (3, 4, 7, 15)
SIZES = {"0.5M": 500_000, "5.6M": 5_600_000, "16M": 16_000_000}
TRANSFORMER_LAYERS = 15

# Gradient k = mixture[k] @ (a few directions that all objectives know) + noise. With these values between a tenth and a
# third of the pairs conflict at each T: the published procedure projects only then, so its speed depends on it.
SHARED_DIRECTIONS = 4
COMMON, SPREAD, NOISE = 0.5, 0.5, 1.0
MIXTURE_SEED = 2800


@dataclass(frozen=True)
class Case:
    """`num_objectives` gradients of the parameters that `shapes` lists, in float32."""

    name: str
    shapes: Shapes
    num_objectives: int

    @property
    def num_elements(self) -> int:
        """N, in all parameters together."""
        return sum(prod(shape) for shape in self.shapes)

    def gradients(self) -> Gradients:
        """grads[k][p], the same at every call. Every tensor has memory of its own, as autograd leaves it."""
        generator = torch.Generator().manual_seed(MIXTURE_SEED + self.num_objectives)
        mixture = SPREAD * torch.randn(self.num_objectives, SHARED_DIRECTIONS, generator=generator)
        mixture[:, 0] = COMMON
        columns = [self._column(p, mixture, generator) for p in range(len(self.shapes))]
        return [list(row) for row in zip(*columns, strict=True)]

    def reaches(self, k: int, p: int) -> bool:
        """Whether objective k depends on parameter p: some small tensors are private to half of the objectives."""
        private = len(self.shapes[p]) == 1 and p % 9 == 1
        return not private or (k + p) % 2 == 0

    def _column(self, p: int, mixture: Tensor, generator: torch.Generator) -> list[Tensor | None]:
        """The gradients of parameter p, on a scale of its own between 1e-4 and 1e-2."""
        numel = prod(self.shapes[p])
        scale = 10 ** (2 * torch.rand(1, generator=generator) - 4)
        directions = torch.randn(SHARED_DIRECTIONS, numel, generator=generator)
        rows = NOISE * torch.randn(self.num_objectives, numel, generator=generator)
        rows.addmm_(mixture, directions).mul_(scale)
        return [row.clone().view(self.shapes[p]) if self.reaches(k, p) else None for k, row in enumerate(rows)]


def unet_shapes(base: float) -> Shapes:
    """74 tensors of a 3-D U-Net with base..16 base channels on its five levels: convolutions outweigh everything."""
    channels = [round(base * 2**level) for level in range(5)]
    down = list(pairwise([1, *channels]))
    up = [(fine + coarse, fine) for fine, coarse in reversed(list(pairwise(channels)))]
    convolutions = [conv for i, o in down + up for conv in ((i, o), (o, o))]
    tensors = [shape for i, o in convolutions for shape in ((o, i, 3, 3, 3), (o,), (o,), (o,))]  # with bias and norm
    return (*tensors, (3, channels[0], 1, 1, 1), (3,))


def transformer_shapes(width: int) -> Shapes:
    """182 tensors of a transformer encoder with 15 layers and a small head."""
    attention = ((3 * width, width), (3 * width,), (width, width), (width,))
    mlp = ((4 * width, width), (4 * width,), (width, 4 * width), (width,))
    norms = ((width,),) * 4
    return (*(attention + mlp + norms) * TRANSFORMER_LAYERS, (3, width), (3,))


def _closest(shapes_of: Callable[[float], Shapes], widths: Iterable[float], target: int) -> Shapes:
    """The shapes whose number of elements comes closest to `target`."""
    candidates = (shapes_of(width) for width in widths)
    return min(candidates, key=lambda shapes: abs(sum(map(prod, shapes)) - target))


def _registry() -> dict[str, Case]:
    cases = {}
    for size, target in SIZES.items():
        layouts = {
            "unet": _closest(unet_shapes, [sixteenths / 16 for sixteenths in range(48, 640)], target),
            "transformer": _closest(transformer_shapes, range(16, 512), target),
        }
        for layout, shapes in layouts.items():
            for t in OBJECTIVES:
                name = f"{layout}-{size}-T{t}"
                cases[name] = Case(name, shapes, t)
    return cases


CASES = _registry()
