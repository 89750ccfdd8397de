"""The task of segmenting brain tumours (regions WT, TC, ET) in data that are laid out as in BraTS."""

import math
import os
from collections.abc import Iterable, Sequence
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
from gmd.data import SPLITS
from gmd.data.pairs import Pairs
from gmd.data.segmentation.batches import collate
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.check import Checked, check_cases, read_cases
from gmd.data.segmentation.checked_files import Checksums, copies, files_of
from gmd.data.segmentation.cross_validation import fold_cases
from gmd.data.segmentation.data_sets import split_folders
from gmd.data.segmentation.grid_notes import affines_of, grid_notes
from gmd.data.segmentation.listed_splits import splits_of_lists
from gmd.data.segmentation.missing_modalities import by_case_names, make_absent
from gmd.data.segmentation.own_labels import option_of
from gmd.data.segmentation.patches import RandomPatches
from gmd.data.segmentation.patients import patient_of
from gmd.data.segmentation.splits import Splits, split_cases
from gmd.data.segmentation.volumes import load_case
from gmd.data.segmentation.z_scored import notes_on_z_scored
from gmd.errors import UserError
from gmd.files import real_path
from gmd.models.multimodal import mean_fusion, run_modalities
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.scoring.segmentation.scores import evaluate_cases
from gmd.scoring.segmentation.tables import Score, mean_over_subsets, subset_table
from gmd.subsets import Subset
from gmd.together import Apart, agreed, gathered, in_turn, processes, rank
from gmd.training.networks import build_network, check_network
from gmd.training.tasks.task import Batch, Task, Validation, own_share


class BratsTask(Task[SegmentationNetwork, Tensor]):
    """Learns the logits of the regions from random patches of the cases on disk.

    Its targets are uint8 [n, R, X, Y, Z], its predictions logits of the same shape.
    Raises UserError for data that cannot be used.
    """

    config: TrainBrats

    def __init__(self, config: TrainBrats):
        splits = _split(config)
        trained = [case.name for case in splits.train]
        self._missing = by_case_names(config.missing_of(config.modalities, config.seed), trained)
        self.splits = replace(splits, train=make_absent(splits.train, self._missing))
        every = [*splits.train, *splits.validation, *splits.test]
        self._notes_on_z_scored = notes_on_z_scored(every, config.modalities)
        self._roots = config.data
        self._checksums: dict[str, Checksums] = {}
        self.config = replace(
            config,
            labels=_labels(self.splits),
            data=tuple(real_path(root) for root in config.data),
            train_list=config.train_list and real_path(config.train_list),
            val_list=config.val_list and real_path(config.val_list),
            test_list=config.test_list and real_path(config.test_list),
        )
        # one patch of every case, or all steps whole
        several = config.steps_per_epoch and config.steps_per_epoch * config.accumulate
        self._batches = several or math.ceil(len(self.splits.train) / config.batch)
        self.steps_per_epoch = math.ceil(self._batches / config.accumulate)
        # cggm guides the last layer, which the mean of the logits hides
        self.cut_before_head = config.method.startswith("cggm")
        self.score_name, self.score_title = "Dice", "hard Dice, mean over cases, subsets and regions"
        self.criterion, self.metric, self.score = region_loss, soft_dice, soft_dice
        self.counted = len  # patches are of one size
        self._patches: RandomPatches | None = None

    def check(self) -> None:
        """Reads every case of all splits, unless the run is not to: what is wrong with one must not show after days.

        Before that it looks whether there is such a network.
        """
        agreed(lambda: check_network(self.config), "the check of the network")
        splits = self.splits
        if not self.config.no_check:
            cases = [*splits.train, *splits.validation, *splits.test]
            self._checksums = agreed(lambda: check_cases(cases, _read_shares), "what was found of the cases")

    def described(self) -> dict:
        splits = {split: getattr(self.splits, split) for split in SPLITS}
        named = {split: [self._case_dict(case) for case in cases] for split, cases in splits.items()}
        return {
            "data": ", ".join(map(str, self.config.data)),
            "folds": self.config.folds,
            "fold": self.config.fold,
        } | named

    def notes(self) -> list[str]:
        config = self.config
        schemes = {case.scheme.name: case.scheme for case in self.splits.train if case.scheme is not None}
        notes = [f"labels are read as {scheme.name}: {scheme.described()}" for scheme in schemes.values()]
        notes += self.splits.notes
        notes += self._missing.notes("training cases", [case.name for case in self.splits.train])
        absent = [m for m in config.modalities if not any(m in case.images for case in self.splits.train)]
        if absent:
            notes.append(f"no training case has {' or '.join(absent)}: subsets with it are left out")
        notes += self._notes_on_copies()
        if not self.splits.test:
            notes.append("no test cases: gmd evaluate needs --data with cases that the run has not seen")
        for root in config.data if config.folds else ():
            if folders := ", ".join(split_folders(root)):
                notes.append(f"the cases in {folders} of {root} are pooled: --folds split them by patient")
        cases = [*self.splits.train, *self.splits.validation, *self.splits.test]
        return notes + self._notes_on_z_scored + grid_notes(affines_of(cases))

    def _notes_on_copies(self) -> list[str]:
        """Returns a sentence for each split that has copies of cases in the splits before it."""
        known = self._checksums_of(self.splits.train)
        notes = []
        for split in ("validation", "test"):
            checksums = self._checksums_of(getattr(self.splits, split))
            if found := copies(checksums, known):
                (name, other), count = found[0], f"{len(found)} {split} case{'s' * (len(found) > 1)}"
                told = f"{count} with images of cases that train or validate, as {name} those of {other}"
                notes.append(f"{told}: what is known says nothing of what is new, so remove one of the two")
            known |= checksums
        return notes

    def _checksums_of(self, cases: list[Case]) -> dict[str, Checksums]:
        return {case.name: self._checksums.get(case.name, {}) for case in cases}

    def _case_dict(self, case: Case) -> dict:
        """Returns what `splits.json` says of a case: what it is known by, and where it was when the run began."""
        assert case.scheme is not None  # all cases of a training have labels
        root = next(root for root in self._roots if root in case.folder.parents or root == case.folder)
        checksums = self._checksums.get(case.name)
        return {
            "name": case.name,
            "folder": str(real_path(case.folder)),
            "patient": patient_of(case),
            "labels": option_of(case.scheme),
            "root": str(real_path(root)),
            "files": {key: os.path.relpath(path, root) for key, path in files_of(case).items()},
            "channels": case.channels,
        } | ({"checksums": checksums} if checksums else {})

    def build_network(self) -> SegmentationNetwork:
        return build_network(self.config)

    def batches(self, epoch: int, start: int = 0) -> Iterable[Batch[Tensor]]:
        if self._patches is None:  # reading the cases takes a while
            self._patches = self._random_patches()
        self._patches.epoch = epoch
        batch, share = self.config.batch, own_share()
        firsts = range(start * batch, len(self._patches), batch)
        rest = [share.of(list(range(first, first + batch))) for first in firsts]
        together = partial(collate, modalities=self.config.modalities)
        # a generator of its own: it draws a number each time, which a resumed epoch must not draw twice from torch's
        return DataLoader(self._patches, batch_sampler=rest, collate_fn=together, generator=torch.Generator())

    def _random_patches(self) -> RandomPatches:
        config, cases = self.config, self.splits.train
        length = self._batches * config.batch
        return RandomPatches(cases, config.modalities, config.patch, length, seed=config.seed, cache=config.cache)

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

    def validate(self, network: SegmentationNetwork, apart: Apart = in_turn) -> Validation:
        """Measures each region's hard Dice in the label maps of the validation cases, mean over the subsets that exist.

        The score is the mean over the regions.
        """
        config, cases = self.config, self.splits.validation
        with tqdm(total=len(cases), desc="validation", unit="case", leave=False) as bar:

            def score(case: Case) -> list[Score]:
                scores = evaluate_cases(
                    network, [load_case(case)], config.label_scheme(), config.patch, config.precision
                )
                bar.update(processes())
                return scores

            scores = [each for of_case in apart(cases, score) for each in of_case]
        dice = mean_over_subsets(subset_table(scores, config.modalities, network.regions))
        return Validation(fmean(dice.values()), dice)


def _read_shares(cases: Sequence[Case]) -> Checked:
    """Reads the cases, each of them in one of the processes, and returns in all of these what was found."""
    own = agreed(lambda: read_cases(cases[rank() :: processes()]), "the check of all cases")
    of_each = gathered(own, "the check of all cases")
    return Checked(
        {name: checksums for found in of_each for name, checksums in found.checksums.items()},
        {name: reason for found in of_each for name, reason in found.bad.items()},
    )


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
    if config.resume and (gone := [root for root in config.data if not root.is_dir()]):
        raise UserError(f"{gone[0]}: there is no such folder; if the data moved, give their new place by --data")
    if config.train_list is not None:
        return splits_of_lists(config.data_sets(), config.lists, config.seed)
    if config.folds is None:
        return split_cases(config.data_sets(), config.seed)
    if config.fold is None:
        raise UserError(f"--folds: {config.folds} folds are as many runs; give --fold for one, or call train_folds")
    return fold_cases(config.data_sets(), folds=config.folds, fold=config.fold, seed=config.seed)


def _labels(splits: Splits) -> tuple[str, ...]:
    """Returns the label schemes as options, one for each data set, or a single one that all have."""
    names = tuple(option_of(scheme) for scheme in splits.schemes)
    return names if len(set(names)) > 1 else names[:1]
