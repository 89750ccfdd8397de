"""Gathering samples whose sequences lie in a file one by one, each of its own length: checked, mended, counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gmd.data import SPLITS
from gmd.data.sequences.checks import check_features, check_splits, finite, replaced_notes
from gmd.data.sequences.reading import Reading
from gmd.data.sequences.samples import Sample, SequenceData
from gmd.data.sequences.scores import changed_notes, checked_scores
from gmd.errors import UserError, shown


class Gathered:
    """The samples of a data set, as a reader finds them.

    Args:
        path: of the file or the folder, for error messages.
        modalities: that samples may have, in canonical order; one that none has is left out of the data, and told.
    """

    def __init__(self, path: Path, modalities: Sequence[str]):
        self._path = path
        self._features: dict[str, int] = dict.fromkeys(modalities, 0)
        self._splits: dict[str, list[tuple[str, dict[str, Tensor], np.ndarray]]] = {split: [] for split in SPLITS}
        self._replaced: Counter[str] = Counter()
        self._absent: Counter[str] = Counter()
        self._empty = 0

    def add(self, split: str, name: str, values: Mapping[str, np.ndarray], target: object) -> None:
        """Adds a sample, unless it has no modality at all, which is counted.

        values: modality -> numbers [L, F]; no steps, or nothing but zeros, mean that the sample does not have it
        target: a number, or [L] numbers, one for each step; a score, or the number of a class
        Raises UserError for arrays of another kind, and for other numbers of features than the samples before.
        """
        kept = {}
        for m in self._features:
            sequence = self._sequence(name, m, values[m]) if m in values else None
            if sequence is None:
                self._absent[m] += 1
            else:
                kept[m] = sequence
        if kept:
            self._splits[split].append((name, kept, np.asarray(target)))
        else:
            self._empty += 1

    def _sequence(self, name: str, modality: str, value: np.ndarray) -> Tensor | None:
        """Returns a sequence with numbers that can be computed with; None if there is nothing but zeros in it."""
        what = f"{self._path}: {shown(modality, 40)} of {shown(name, 80)}"
        if value.ndim != 2 or value.dtype.kind not in "biuf":
            raise UserError(f"{what} is {value.dtype} {list(value.shape)}, expected numbers with steps and features")
        if not value.shape[0]:
            return None
        check_features({modality: value.shape[1]}, what)
        known = self._features[modality]
        if known not in (0, value.shape[1]):
            raise UserError(f"{what} has {value.shape[1]} features for each step, expected {known}, as those before it")
        self._features[modality] = value.shape[1]
        values, replaced = finite(value)
        self._replaced[modality] += replaced
        return torch.from_numpy(values) if values.any() else None

    def data(self, reading: Reading, classes: Sequence[str] | None = None, notes: Sequence[str] = ()) -> SequenceData:
        """Returns the samples as data.

        classes: the names of those that targets are numbers of; None: the targets are scores
        notes: what the reader has to tell
        Raises UserError for scores that are none, an empty split, two samples of one name, or targets that are not as
            many as the steps of a sample.
        """
        splits, changed = self._with_targets(reading, classes is not None)
        per_step = any(sample.target.ndim for samples in splits.values() for sample in samples)
        check_splits(splits, self._path)
        if per_step:
            self._check_steps(splits)
        features = {m: size for m, size in self._features.items() if size}
        told = [*notes, *changed, *replaced_notes(self._replaced), *self._notes()]
        return SequenceData(features, tuple(classes) if classes else None, per_step, splits, tuple(told))

    def _with_targets(self, reading: Reading, of_classes: bool) -> tuple[dict[str, list[Sample]], list[str]]:
        """Returns the samples of each split with checked targets, and notes on what was done to these."""
        found = [sample for split in SPLITS for sample in self._splits[split]]
        changed: list[str] = []
        if of_classes or not found:
            targets = [torch.from_numpy(target.astype(np.int64)) for _, _, target in found]
        else:
            targets, changed = self._scores([(name, target) for name, _, target in found], reading)
        left = iter(targets)
        splits = {
            split: [Sample(name, values, next(left)) for name, values, _ in self._splits[split]] for split in SPLITS
        }
        return splits, changed

    def _scores(self, found: list[tuple[str, np.ndarray]], reading: Reading) -> tuple[list[Tensor], list[str]]:
        """Returns scores, each of its own shape, once they are checked. found: a sample's name and its scores"""
        names = [name for name, scores in found for _ in range(scores.size)]
        whole, clipped = checked_scores(np.concatenate([np.ravel(s) for _, s in found]), names, self._path, reading)
        pieces = torch.from_numpy(whole).split([scores.size for _, scores in found])
        shaped = [piece.reshape(scores.shape) for piece, (_, scores) in zip(pieces, found, strict=True)]
        return shaped, changed_notes(clipped, reading)

    def _check_steps(self, splits: dict[str, list[Sample]]) -> None:
        for sample in (sample for samples in splits.values() for sample in samples):
            lengths = {m: len(value) for m, value in sample.values.items()}
            if set(lengths.values()) != {sample.target.numel()}:
                listed = ", ".join(f"{m}: {length}" for m, length in lengths.items())
                raise UserError(
                    f"{self._path}: {shown(sample.name, 80)} has {sample.target.numel()} targets, expected as many as "
                    f"it has steps ({listed})"
                )

    def _notes(self) -> list[str]:
        """Returns notes on modalities that samples do not have."""
        notes = [
            f"{m}: {count} samples do not have it: their sequence is absent, empty or all zeros"
            if self._features[m]
            else f"no sample has {m}, which is left out"
            for m, count in self._absent.items()
        ]
        return notes + ([f"{self._empty} samples have no modality at all and are left out"] if self._empty else [])
