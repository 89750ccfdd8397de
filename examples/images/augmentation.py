"""Augmentation out of torchvision's parts: the published recipe, a gentle one, or none.

All that is random comes from torch's generator, the process's or that of a worker.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from examples.images.torchvision_here import v2

Augmentation = Literal["published", "shift", "none"]
Transform = Callable[..., Tensor]

# of ImageNet, which the recipe takes for every data set
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BICUBIC = v2.InterpolationMode.BICUBIC
# rand-m9-mstd0.5-inc1 of timm is 9 of its 10 steps, two operations, each done to half of the pictures
LEVELS, LEVEL, OPERATIONS = 11, 9, 2


def training_transform(size: int, augmentation: Augmentation, photographs: bool) -> Transform:
    """Returns the function from a picture in RGB to a training input, [3, size, size] float32.

    published: a random part of the picture, mirrored if photographs may be, RandAugment, random erasing. The recipe's
    colour jitter of 0.4 is not among them: timm leaves it out beside RandAugment (`force_color_jitter` is off).
    shift: moved by an eighth at most; none: resized only
    """
    if augmentation == "none":
        return v2.Compose([*_resized(size), *_normalised()])
    if augmentation == "shift":
        return v2.Compose([*_resized(size), v2.RandomCrop(size, padding=size // 8), *_normalised()])
    fill = [round(255 * value) for value in MEAN]
    operation = v2.RandAugment(1, LEVEL, LEVELS, interpolation=v2.InterpolationMode.BILINEAR, fill=fill)
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, interpolation=BICUBIC),
            *([v2.RandomHorizontalFlip()] if photographs else []),
            *(v2.RandomApply([operation], p=0.5) for _ in range(OPERATIONS)),
            *_normalised(),
            v2.RandomErasing(p=0.25, value="random"),
        ]
    )


def evaluation_transform(size: int, photographs: bool) -> Transform:
    """Returns the function from a picture to an input of validation and test, [3, size, size] float32.

    Photographs are cut to their centre as published, 224 of 256 pixels; others are taken whole.
    """
    if not photographs:
        return v2.Compose([*_resized(size), *_normalised()])
    larger = v2.Resize(round(size * 256 / 224), interpolation=BICUBIC)
    return v2.Compose([larger, v2.CenterCrop(size), *_normalised()])


def mixing(classes: int, mixup: float, cutmix: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Returns what mixes a batch with itself: mixup or CutMix, one for a whole batch, at even odds where both are on.

    It takes pictures [n, 3, size, size] and classes int64 [n], and returns pictures and shares of each class,
    [n, classes] float32. None: both are off.

    mixup, cutmix: alpha of the Beta distribution that the shares are drawn from; 0: off
    """
    kinds = [(v2.MixUp, mixup), (v2.CutMix, cutmix)]
    there = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds if alpha]
    return v2.RandomChoice(there) if there else None


def _resized(size: int) -> list:
    return [v2.Resize((size, size), interpolation=BICUBIC)]


def _normalised() -> list:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD), v2.ToPureTensor()]
