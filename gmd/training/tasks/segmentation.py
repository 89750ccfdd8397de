"""The task of segmenting brain tumours (regions WT, TC, ET) in data that are laid out as in BraTS."""

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from statistics import fmean

import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader
from tqdm import tqdm

from gmd.config import TrainBrats
from gmd.data.pairs import Pairs
from gmd.data.segmentation.batches import collate
from gmd.data.segmentation.cases import Case, parse_patterns
from gmd.data.segmentation.cross_validation import fold_cases
from gmd.data.segmentation.labels import SCHEMES
from gmd.data.segmentation.patches import RandomPatches
from gmd.data.segmentation.patients import patient_of
from gmd.data.segmentation.splits import Splits, split_cases, split_folders
from gmd.data.segmentation.volumes import load_case
from gmd.errors import UserError
from gmd.models.multimodal import mean_fusion, run_modalities
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.scoring.segmentation.scores import evaluate_cases
from gmd.scoring.segmentation.tables import mean_over_subsets, subset_table
from gmd.subsets import Subset
from gmd.training.networks import build_network
from gmd.training.tasks.task import Batch, Task, Validation


class BratsTask(Task[SegmentationNetwork, Tensor]):
    """Learns the logits of the regions from random patches of the cases on disk.

    Its targets are uint8 [n, R, X, Y, Z], its predictions logits of the same shape.
    Raises UserError for data that cannot be used.
    """

    config: TrainBrats

    def __init__(self, config: TrainBrats):
        self.splits = _split(config)
        labels = config.labels or self.splits.scheme
        assert labels is not None  # file names imply a scheme, and --patterns demands --labels
        self.scheme = SCHEMES[labels]
        self.config = replace(config, labels=labels, data=config.data.resolve())
        self.steps_per_epoch = config.steps_per_epoch or math.ceil(len(self.splits.train) / config.batch)
        # cggm guides the last layer, which the mean of the logits hides
        self.cut_before_head = config.method.startswith("cggm")
        self.score_name, self.score_title = "Dice", "hard Dice, mean over cases, subsets and regions"
        self.criterion, self.metric, self.score = region_loss, soft_dice, soft_dice
        self._patches: RandomPatches | None = None

    def described(self) -> dict:
        splits = {split: getattr(self.splits, split) for split in ("train", "validation", "test")}
        named = {split: [_case_dict(case) for case in cases] for split, cases in splits.items()}
        return {"data": str(self.config.data), "folds": self.config.folds, "fold": self.config.fold} | named

    def notes(self) -> list[str]:
        config, notes = self.config, []
        absent = [m for m in config.modalities if not any(m in case.images for case in self.splits.train)]
        if absent:
            notes.append(f"no training case has {' or '.join(absent)}: subsets with it are left out")
        folders = ", ".join(split_folders(config.data))
        if config.folds and folders:
            notes.append(f"the cases in {folders} of {config.data} are pooled: --folds split them by patient")
        return notes

    def build_network(self) -> SegmentationNetwork:
        return build_network(self.config)

    def batches(self, epoch: int, start: int = 0) -> Iterable[Batch[Tensor]]:
        if self._patches is None:  # reading the cases takes a while
            self._patches = self._random_patches()
        self._patches.epoch = epoch
        rest = range(start * self.config.batch, len(self._patches))
        together = partial(collate, modalities=self.config.modalities)
        # a generator of its own: it draws a number each time, which a resumed epoch must not draw twice from torch's
        return DataLoader(
            self._patches, self.config.batch, sampler=rest, collate_fn=together, generator=torch.Generator()
        )

    def _random_patches(self) -> RandomPatches:
        config, cases = self.config, self.splits.train
        length = self.steps_per_epoch * config.batch
        return RandomPatches(
            cases, self.scheme, config.modalities, config.patch, length, seed=config.seed, cache=config.cache
        )

    def to_device(self, inputs: Pairs[Tensor], targets: Tensor, device: torch.device) -> Batch[Tensor]:
        values = {m: value.to(device, memory_format=torch.channels_last_3d) for m, value in inputs.values.items()}
        return replace(inputs, values=values), targets.to(device)

    def outputs(self, network: SegmentationNetwork, inputs: Pairs[Tensor]) -> Pairs[Tensor]:
        """Runs the network and returns each modality's logits; for cggm its features, which the head comes after."""
        outputs = run_modalities(network, inputs, network.features if self.cut_before_head else None)
        return replace(outputs, values={m: value.float() for m, value in outputs.values.items()})

    def predict(
        self, network: SegmentationNetwork, outputs: Pairs[Tensor], subset: Subset | None
    ) -> tuple[Tensor, list[int]]:
        if self.cut_before_head:
            # the head of the mean is the mean of the heads, and logits have fewer channels than features
            chosen = outputs.values if subset is None else subset
            outputs = replace(outputs, values={m: network.head(outputs.values[m]) for m in chosen})
        return mean_fusion(outputs, subset)

    def validate(self, network: SegmentationNetwork) -> Validation:
        """Measures each region's hard Dice in the label maps of the validation cases, mean over the subsets that exist.

        The score is the mean over the regions.
        """
        config = self.config
        bar = tqdm(self.splits.validation, desc="validation", unit="case", leave=False)
        cases = (load_case(case, self.scheme) for case in bar)
        scores = evaluate_cases(network, cases, config.label_scheme(), config.patch, config.precision)
        dice = mean_over_subsets(subset_table(scores, config.modalities, network.regions))
        return Validation(fmean(dice.values()), dice)


def region_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the soft Dice loss per sample and region, plus the binary cross-entropy: [B, R, X, Y, Z] -> scalar.

    This is not MONAI's DiceCELoss: its `sigmoid` is that of the Dice loss only (MONAI 1.6.1). From two channels on its
    cross-entropy takes a softmax over them, as if a voxel were in one region at most, but regions overlap.
    """
    return _dice_loss(logits, targets) + binary_cross_entropy_with_logits(logits, targets)


def soft_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns the soft Dice, mean over samples and regions, without gradient: [B, R, X, Y, Z] -> scalar in [0, 1]."""
    return 1 - _dice_loss(logits.detach(), targets)


_dice_loss = DiceLoss(sigmoid=True)


def _split(config: TrainBrats) -> Splits:
    """Finds the cases, and splits them for a run by itself or for the one fold that is trained."""
    patterns = parse_patterns(config.patterns) or None
    if config.folds is None:
        return split_cases(config.data, config.modalities, patterns, config.seed)
    if config.fold is None:
        raise UserError(f"--folds: {config.folds} folds are as many runs; give --fold for one, or call train_folds")
    return fold_cases(config.data, config.modalities, patterns, folds=config.folds, fold=config.fold, seed=config.seed)


def _case_dict(case: Case) -> dict:
    return {"name": case.name, "folder": str(case.folder.resolve()), "patient": patient_of(case)}
