"""Draws random patches from cases on disk, reproducible one by one.

MONAI brings the dictionary transforms, the crops by label, and the cache of what comes before the first random one.
What it lacks is ours: cases that lack modalities, for which nothing stands in, and items that depend on nothing but
their number, so that a run can go on bit for bit.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import overload

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import CacheDataset
from monai.transforms import (
    ClassesToIndicesd,
    Compose,
    CropForegroundd,
    EnsureTyped,
    RandCropByLabelClassesd,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SelectItemsd,
    SpatialPadd,
    Transform,
)
from torch import Tensor
from torch.utils.data import Dataset

from gmd.data.segmentation.cases import Case
from gmd.data.segmentation.volumes import load_case

Patch = tuple[int, int, int]


class RandomPatches(Dataset):
    """The patches of an epoch. Item i is a random patch of one case; about half of them are centred on the tumour.

    An item depends on (seed, epoch, i) alone, whatever was drawn before. No case comes again before all
    others have had their turn.

    Args:
        cases: with labels and what these mean, all with the same regions; each has the modalities it has.
        modalities: names; a case's other images are ignored.
        patch: size in voxels; volumes smaller than that are padded with zeros, the value outside the brain.
        length: items per epoch.
        seed: of the order of the cases, the crops, the flips and the intensities.
        cache: how many cases are kept in memory, cropped to the brain; the others are read for each item.

    An item maps each modality that the case has to float32 [1, X, Y, Z], and "target" to uint8 [R, X, Y, Z].
    Raises UserError: a case that `load_case` cannot read.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        modalities: Sequence[str],
        patch: Patch,
        length: int,
        seed: int = 0,
        cache: int = 64,
    ):
        self.cases, self.length, self.seed = cases, length, seed
        self.epoch = 0
        self._transform = Compose([*_prepare(modalities, patch), *_draw_patch(modalities, patch)])
        # copy_cache would copy a whole case for each patch; nothing in `_draw_patch` writes to what is cached
        self._patches = CacheDataset(
            _LoadedCases(cases), self._transform, cache_num=cache, progress=cache > 0, copy_cache=False
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        round_, place = divmod(index, len(self.cases))
        order = np.random.default_rng([self.seed, self.epoch, round_]).permutation(len(self.cases))
        item_seed = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1)[0]
        self._transform.set_random_state(seed=int(item_seed))
        [patch] = self._patches[int(order[place])]
        return patch


class _LoadedCases(Sequence[dict]):
    """Cases that are read when they are asked for.

    This is not a transform, since MONAI would turn a UserError from one into a RuntimeError.
    """

    def __init__(self, cases: Sequence[Case]):
        self.cases = cases

    def __len__(self) -> int:
        return len(self.cases)

    @overload
    def __getitem__(self, index: int) -> dict: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict]: ...

    def __getitem__(self, index: int | slice) -> dict | list[dict]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        case = load_case(self.cases[index])
        tumour = case["target"].bool().any(dim=0, keepdim=True)
        return case | {"centres": torch.cat([tumour, case["brain"] & ~tumour])}


def _prepare(modalities: Sequence[str], patch: Patch) -> list[Transform]:
    """Returns what is done once for a case: a crop to its brain, and a list of the voxels to centre patches on."""
    keys = (*modalities, "target", "centres")
    return [
        CropForegroundd(
            keys,
            source_key="brain",
            allow_smaller=True,
            allow_missing_keys=True,
            start_coord_key=None,
            end_coord_key=None,
        ),
        SpatialPadd(keys, patch, allow_missing_keys=True),
        EnsureTyped(keys, track_meta=False, allow_missing_keys=True),
        ClassesToIndicesd("centres", indices_postfix=""),
        SelectItemsd(keys, allow_missing_keys=True),
    ]


def _draw_patch(modalities: Sequence[str], patch: Patch) -> list[Transform]:
    """Returns what is done anew for each item.

    Intensities change as in MONAI's BraTS tutorial, but those of each modality by themselves.
    """
    keys = (*modalities, "target")
    return [
        RandCropByLabelClassesd(
            keys,
            label_key="target",
            indices_key="centres",
            spatial_size=patch,
            ratios=[1, 1],
            warn=False,  # a case without tumour has its patches anywhere in the brain
            allow_missing_keys=True,
        ),
        *(RandFlipd(keys, prob=0.5, spatial_axis=axis, allow_missing_keys=True) for axis in range(3)),
        *(RandScaleIntensityd(name, factors=0.1, prob=1.0, allow_missing_keys=True) for name in modalities),
        *(_RandShiftBraind(name, offsets=0.1, prob=1.0, allow_missing_keys=True) for name in modalities),
        EnsureTyped(keys, track_meta=False, allow_missing_keys=True),
    ]


class _RandShiftBraind(RandShiftIntensityd):
    """A shift of intensities that leaves 0, which is outside the brain: the network never sees another value there.

    MONAI's RandStdShiftIntensityd can do so too, but takes 0.1 s for a patch of 128 voxels along each axis, and writes
    in place, to what is cached.
    """

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        shifted = super().__call__(data)
        return shifted | {key: shifted[key] * (data[key] != 0) for key in self.key_iterator(shifted)}
