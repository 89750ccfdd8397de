"""The one registry of what is measured: how many objectives, how many elements of which type, in which tensors."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TypeVar

import torch
from torch import Tensor

Shapes = tuple[tuple[int, ...], ...]
Measured = dict[torch.dtype, dict[str, tuple[int, ...]]]  # type -> layout -> T
Width = TypeVar("Width", int, float)
Gradients = Sequence[Sequence[Tensor | None]]  # [T][P]

SUFFIXES = {torch.float32: "", torch.bfloat16: "-bf16", torch.float16: "-fp16", torch.float64: "-fp64"}
TRANSFORMER_LAYERS = 15
SMALL_BLOCKS = 30

# Gradient k = mixture[k] @ (a few directions that all objectives know) + noise. With these values between a tenth and a
# third of the pairs conflict at each T: the published procedure projects only then, so its speed depends on it.
SHARED_DIRECTIONS = 4
COMMON, SPREAD, NOISE = 0.5, 0.5, 1.0
MIXTURE_SEED = 2800


@dataclass(frozen=True)
class Case:
    """`num_objectives` gradients of the parameters that `shapes` lists."""

    layout: str
    shapes: Shapes
    num_objectives: int
    dtype: torch.dtype = torch.float32

    @property
    def name(self) -> str:
        """Returns a name such as transformer-5.6M-T15-bf16; float32 has no suffix."""
        return f"{self.layout}-T{self.num_objectives}{SUFFIXES[self.dtype]}"

    @property
    def num_elements(self) -> int:
        """Returns N, the number of elements in all parameters together."""
        return sum(prod(shape) for shape in self.shapes)

    @property
    def num_bytes(self) -> int:
        """Returns the bytes of one objective's gradients."""
        return self.num_elements * self.dtype.itemsize

    def gradients(self, device: str = "cpu") -> Gradients:
        """grads[k][p], the same at every call. Every tensor has memory of its own, as autograd leaves it."""
        generator = torch.Generator(device).manual_seed(MIXTURE_SEED + self.num_objectives)
        mixture = SPREAD * _normal(generator, self.num_objectives, SHARED_DIRECTIONS)
        mixture[:, 0] = COMMON
        columns = [self._column(p, mixture, generator) for p in range(len(self.shapes))]
        return [list(row) for row in zip(*columns, strict=True)]

    def reaches(self, k: int, p: int) -> bool:
        """Returns whether objective k reaches parameter p: some small tensors are private to half of the objectives."""
        private = len(self.shapes[p]) == 1 and p % 9 == 1
        return not private or (k + p) % 2 == 0

    def _column(self, p: int, mixture: Tensor, generator: torch.Generator) -> list[Tensor | None]:
        """Returns the gradients of parameter p, on a scale of its own between 1e-4 and 1e-2."""
        shape, numel = self.shapes[p], prod(self.shapes[p])
        scale = 10 ** (2 * torch.rand(1, generator=generator, device=generator.device) - 4)
        directions = _normal(generator, SHARED_DIRECTIONS, numel)
        rows = NOISE * _normal(generator, self.num_objectives, numel)
        rows.addmm_(mixture, directions).mul_(scale)
        return [row.to(self.dtype, copy=True).view(shape) if self.reaches(k, p) else None for k, row in enumerate(rows)]


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def unet_shapes(base: float) -> Shapes:
    """Returns 74 shapes of a 3-D U-Net with base..16 base channels on five levels: convolutions outweigh all else."""
    channels = [round(base * 2**level) for level in range(5)]
    down = list(pairwise([1, *channels]))
    up = [(fine + coarse, fine) for fine, coarse in reversed(list(pairwise(channels)))]
    convolutions = [conv for i, o in down + up for conv in ((i, o), (o, o))]
    tensors = [shape for i, o in convolutions for shape in ((o, i, 3, 3, 3), (o,), (o,), (o,))]  # with bias and norm
    return (*tensors, (3, channels[0], 1, 1, 1), (3,))


def transformer_shapes(width: int) -> Shapes:
    """Returns the shapes of 182 tensors of a transformer encoder with 15 layers and a small head."""
    attention = ((3 * width, width), (3 * width,), (width, width), (width,))
    mlp = ((4 * width, width), (4 * width,), (width, 4 * width), (width,))
    norms = ((width,),) * 4
    return (*(attention + mlp + norms) * TRANSFORMER_LAYERS, (3, width), (3,))


def small_shapes(width: int) -> Shapes:
    """Returns 120 shapes of an MLP of 30 residual blocks (a linear layer, a norm): overheads outweigh all else."""
    return ((width, width), (width,), (width,), (width,)) * SMALL_BLOCKS


def _closest(shapes_of: Callable[[Width], Shapes], widths: Iterable[Width], target: int) -> Shapes:
    """Returns the shapes whose number of elements comes closest to `target`."""
    candidates = (shapes_of(width) for width in widths)
    return min(candidates, key=lambda shapes: abs(sum(map(prod, shapes)) - target))


LAYOUTS = {
    "unet-5.6M": _closest(unet_shapes, [sixteenths / 16 for sixteenths in range(48, 640)], 5_600_000),
    "transformer-5.6M": _closest(transformer_shapes, range(16, 512), 5_600_000),
    "transformer-16M": _closest(transformer_shapes, range(16, 512), 16_000_000),
    "transformer-64M": _closest(transformer_shapes, range(16, 1024), 64_000_000),
    "small-0.3M": _closest(small_shapes, range(16, 512), 300_000),
    "small-0.46M": _closest(small_shapes, range(16, 512), 464_000),
    "tiny-1K": ((25, 40),),
}
MEASURED: Measured = {  # on the CPU
    torch.float32: {
        "unet-5.6M": (4, 7, 15),
        "transformer-5.6M": (4, 7, 15),
        "transformer-16M": (15,),
        "small-0.3M": (7,),
    },
    torch.bfloat16: {"transformer-5.6M": (4, 7, 15)},
    torch.float16: {"transformer-5.6M": (7,)},
    torch.float64: {"transformer-5.6M": (7,)},
}
FIRST_ON_GPU = (  # what says most, should the time run out: layout, T, type
    ("transformer-5.6M", 15, torch.float32),
    ("transformer-5.6M", 15, torch.bfloat16),
    ("small-0.46M", 15, torch.float32),
    ("small-0.3M", 7, torch.float32),
    ("transformer-16M", 15, torch.bfloat16),
    ("transformer-16M", 4, torch.float32),
    ("transformer-16M", 4, torch.bfloat16),
    ("transformer-64M", 15, torch.float32),
)
MEASURED_ON_GPU: Measured = {  # the sizes that the targets name first, should the time run out
    dtype: {
        "transformer-5.6M": (15, 7, 4),
        "small-0.3M": (7, 4, 15),
        "small-0.46M": (15,) if dtype == torch.float32 else (),  # 28 MB, the most that stays in shared memory
        "transformer-16M": (15, 4, 7),
        "transformer-64M": (15, 4),
    }
    for dtype in (torch.float32, torch.bfloat16)
}


def _cases(measured: Measured) -> dict[str, Case]:
    cases = (
        Case(layout, LAYOUTS[layout], t, dtype)
        for dtype, layouts in measured.items()
        for layout, objectives in layouts.items()
        for t in objectives
    )
    return {case.name: case for case in cases}


CASES = _cases(MEASURED)
FIRST_GPU_CASES = {case.name: case for case in (Case(name, LAYOUTS[name], t, kind) for name, t, kind in FIRST_ON_GPU)}
GPU_CASES = FIRST_GPU_CASES | _cases(MEASURED_ON_GPU)
# So small that nothing is left but what a launch, its beginning, and T objectives' weights take; ours alone.
TINY_GPU_CASES = _cases({torch.float32: {"tiny-1K": (2, 7, 15, 16)}})
