"""From cases on disk to batches of (sample, modality) pairs: random patches, reproducible one by one."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureTyped,
    RandCropByPosNegLabeld,
    RandFlipd,
    SpatialPadd,
)
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from gmd.data.cases import Case
from gmd.data.labels import LabelScheme
from gmd.data.volumes import load_case
from gmd.models.dynamic_sharing import Pairs

Patch = tuple[int, int, int]


class RandomPatches(Dataset):
    """Item i of an epoch: a random patch of one case, every second one (by chance) centred on the tumour.

    An item depends on (seed, epoch, i) alone, whatever was drawn before. No case comes again before all
    others have had their turn.

    Args:
        cases: with labels; each has the modalities it has.
        scheme: what the labels mean.
        modalities: names; a case's other images are ignored.
        patch: size in voxels; volumes smaller than that are padded with zeros, the value outside the brain.
        length: items per epoch.
        seed: of the order of the cases, the crops and the flips.
        cache: how many cases are kept in memory, cropped to the brain; the others are read for each item.

    An item maps each modality that the case has to float32 [1, X, Y, Z], and "target" to uint8 [R, X, Y, Z].
    """

    def __init__(
        self,
        cases: Sequence[Case],
        scheme: LabelScheme,
        modalities: Sequence[str],
        patch: Patch,
        length: int,
        seed: int = 0,
        cache: int = 64,
    ):
        self.cases, self.scheme, self.length, self.seed = cases, scheme, length, seed
        self.epoch = 0
        self._keys = (*modalities, "target")
        self._crop_and_pad = Compose(
            [
                CropForegroundd(
                    (*self._keys, "brain"),
                    source_key="brain",
                    allow_smaller=True,
                    start_coord_key=None,
                    end_coord_key=None,
                    allow_missing_keys=True,
                ),
                SpatialPadd((*self._keys, "brain"), patch, allow_missing_keys=True),
                EnsureTyped((*self._keys, "brain"), track_meta=False, allow_missing_keys=True),
            ]
        )
        self._draw_patch = Compose(
            [
                RandCropByPosNegLabeld(
                    self._keys,
                    label_key="target",
                    spatial_size=patch,
                    fg_indices_key="tumour_voxels",
                    bg_indices_key="other_voxels",
                    allow_missing_keys=True,
                ),
                *(RandFlipd(self._keys, prob=0.5, spatial_axis=axis, allow_missing_keys=True) for axis in range(3)),
                EnsureTyped(self._keys, track_meta=False, allow_missing_keys=True),
            ]
        )
        bar = tqdm(cases[:cache], desc="reading training cases", unit="case", disable=not cache)
        self._cached = [self._prepare(case) for case in bar]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        round_, place = divmod(index, len(self.cases))
        order = np.random.default_rng([self.seed, self.epoch, round_]).permutation(len(self.cases))
        which = int(order[place])
        prepared = self._cached[which] if which < len(self._cached) else self._prepare(self.cases[which])
        item_seed = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1)[0]
        self._draw_patch.set_random_state(seed=int(item_seed))
        [patch] = self._draw_patch(prepared)
        return patch

    def _prepare(self, case: Case) -> dict:
        """The case, cropped to its brain, and flat indices of the voxels that a patch may be centred on."""
        loaded = load_case(case, self.scheme)
        volumes = self._crop_and_pad({key: loaded[key] for key in (*self._keys, "brain") if key in loaded})
        tumour = volumes["target"].any(dim=0).numpy()
        other = volumes.pop("brain")[0].numpy() & ~tumour
        # found once per case, not per patch; a case without tumour has its patches anywhere in the brain
        tumour_voxels, other_voxels = (np.flatnonzero(mask).astype(np.int32) for mask in (tumour, other))
        volumes["tumour_voxels"] = tumour_voxels if len(tumour_voxels) else other_voxels
        volumes["other_voxels"] = other_voxels if len(other_voxels) else tumour_voxels
        return volumes


def collate(samples: Sequence[dict[str, Tensor]], modalities: Sequence[str]) -> tuple[Pairs, Tensor]:
    """A batch of the pairs that exist, nothing filled in.

    samples: B dictionaries as from RandomPatches
    returns the pairs, modality -> float32 [n_m, 1, X, Y, Z] for the n_m samples that have it (no key for a
    modality that none of them has), and the targets, float32 [B, R, X, Y, Z]
    """
    having = {m: [s for s, sample in enumerate(samples) if m in sample] for m in modalities}
    having = {m: members for m, members in having.items() if members}
    values = {m: torch.stack([samples[s][m] for s in members]) for m, members in having.items()}
    return Pairs(len(samples), having, values), torch.stack([sample["target"] for sample in samples]).float()
