"""The pickles in which MOSI and MOSEI are handed around: {"train" | "valid" | "test": {name: array}}.

MMSA and Self-MM (Yu et al., AAAI 2021): `text`, `audio`, `vision` [N, L, F], `regression_labels` [N], `id` [N], and in
unaligned files `audio_lengths` and `vision_lengths` [N]. MulT (Tsai et al., ACL 2019) and CGGM: `labels` [N, 1, 1], and
`id` [N] or [N, 3], a video with beginning and end. Other entries are not looked at.
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gmd.data import SPLITS
from gmd.data.sequences.checks import (
    LONGEST_NAME,
    check_features,
    check_splits,
    checked_scores,
    clipped_notes,
    finite,
)
from gmd.data.sequences.nested_lists import array_of
from gmd.data.sequences.not_read import NotRead, first_not_read, told
from gmd.data.sequences.samples import SENTIMENT_MODALITIES, Sample, SequenceData
from gmd.data.sequences.unpadding import padded_in_front, unpadded
from gmd.errors import UserError, shown

_KEYS = dict(zip(SPLITS, ("train", "valid", "test"), strict=True))
_LABELS = ("regression_labels", "labels")  # MMSA's and MulT's; MMSA's files have other labels as well
_KINDS = {"biuf": "numbers", "iu": "whole numbers", "USOiu": "str or whole numbers"}
_MOST_PARTS = 16  # of an id: MulT's have three

_Ids = np.ndarray | None
_Values = dict[str, Tensor]  # a sample's sequences: modality -> float32 [L, F]


class _Part(NamedTuple):
    """What a file has for one split of N samples.

    Attributes:
        names: [N], of the samples.
        scores: float32 [N], in [-3, 3].
        clipped: how many of the scores were clipped.
        arrays: modality -> numbers [N, L, F].
        lengths: modality -> whole numbers [N], for the modalities whose lengths the file gives.
    """

    names: list[str]
    scores: np.ndarray
    clipped: int
    arrays: dict[str, np.ndarray]
    lengths: dict[str, np.ndarray]


def sentiment_from(path: Path, content: Any, clip_scores: bool = False) -> SequenceData:
    """Makes what `read_pickle` found sequences with one score each. `content` is emptied, to free memory on the way.

    path: the file, for error messages
    clip_scores: whether to clip labels beyond [-3, 3] instead of to refuse them

    A sequence is as long as the file says (`audio_lengths`), else it is what is left without the all-zero steps on the
    padded side: behind, or in front where more of a modality's sequences begin than end with zeros, as in MulT's
    aligned files. Each modality is cut for itself, aligned or not: no network here looks across them step by step.
    Zeros alone mean that a sample does not have the modality; a sample that has none is left out. Both are counted.
    Raises UserError: splits or arrays that are missing, of another kind or of different lengths, labels that are no
        scores, an empty split, a name in two splits.
    """
    _check_three_parts(path, content)
    notes = ["text_bert is not read, text is"] if any("text_bert" in content[key] for key in _KEYS.values()) else []
    # copies, since one dictionary may be two splits: then its names say so
    parts = {split: _part(f"{path}: {key}", dict(content[key]), clip_scores) for split, key in _KEYS.items()}
    content.clear()
    notes += clipped_notes(sum(part.clipped for part in parts.values()))
    features = {}
    values: dict[str, list[_Values]] = {split: [{} for _ in part.names] for split, part in parts.items()}
    for m in SENTIMENT_MODALITIES:
        features[m] = _num_features(path, m, parts)
        notes += _fill(values, m, parts)
    splits = {split: _samples(part, values[split]) for split, part in parts.items()}
    if empty := sum(len(part.names) - len(splits[split]) for split, part in parts.items()):
        notes.append(f"{empty} samples have no modality at all and are left out")
    check_splits(splits, path)
    return SequenceData(features, None, False, splits, tuple(notes))


def _check_three_parts(path: Path, content: Any) -> None:
    """Raises UserError for anything but a dictionary that holds one for each split."""
    parts = [content.get(key) for key in _KEYS.values()] if isinstance(content, dict) else []
    if unread := next((part for part in parts if isinstance(part, NotRead)), None):
        raise UserError(f"{path}: refused, since a part of it {unread.asks}")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in _KEYS.values()):
        there = f"a dictionary with {_listed(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise UserError(f"{path}: holds {there}, expected a dictionary with the dictionaries train, valid and test")


def _part(source: str, content: dict, clip_scores: bool) -> _Part:
    """Checks what the file has for one split, called `source` in error messages. Raises UserError."""
    _check_entries(source, content)
    arrays = {m: _array(f"{source} {m}", content[m], "biuf", (3,)) for m in SENTIMENT_MODALITIES}
    scores = _scores(source, content)
    given = {m: content[f"{m}_lengths"] for m in arrays if f"{m}_lengths" in content}
    lengths = {m: _array(f"{source} {m}_lengths", value, "iu", (1,)) for m, value in given.items()}
    ids = _array(f"{source} id", content["id"], "USOiu", (1, 2)) if "id" in content else None
    _check_sizes(source, scores, arrays, lengths, ids)  # before any is gone through: what is empty may claim any size
    part = _Part(_names(source, ids, len(scores)), scores, 0, arrays, lengths)
    _check_lengths(source, part)
    scores, clipped = checked_scores(scores, part.names, source, clip_scores)
    return part._replace(scores=scores, clipped=clipped)


def _check_entries(source: str, content: dict) -> None:
    """Raises UserError for a split without one of the modalities, or without scores."""
    missing = [m for m in SENTIMENT_MODALITIES if m not in content]
    missing += [] if any(key in content for key in _LABELS) else ["regression_labels (or labels)"]
    if missing:
        hint = "; text_bert holds the numbers of words" if "text" in missing and "text_bert" in content else ""
        raise UserError(f"{source} has no {', '.join(missing)}; there is {_listed(content)}{hint}")


def _check_sizes(
    source: str, scores: np.ndarray, arrays: dict[str, np.ndarray], lengths: dict[str, np.ndarray], ids: _Ids
) -> None:
    """Raises UserError if the arrays have not an entry each for every sample, or entries with nothing in them."""
    sizes = {m: len(array) for m, array in arrays.items()} | {"labels": len(scores)}
    sizes |= {"id": len(scores) if ids is None else len(ids)}
    sizes |= {f"{m}_lengths": len(array) for m, array in lengths.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{key}: {size}" for key, size in sizes.items())
        raise UserError(f"{source} has arrays of different lengths ({listed}), expected an entry for each sample")
    for m, array in arrays.items():
        if not all(array.shape[1:]):
            raise UserError(f"{source} {m} is {array.dtype} {list(array.shape)}, expected steps and features in it")
    check_features({m: array.shape[2] for m, array in arrays.items()}, source)
    if ids is not None and ids.ndim == 2 and not 1 <= ids.shape[1] <= _MOST_PARTS:
        raise UserError(f"{source} id is {ids.dtype} {list(ids.shape)}, expected 1 to {_MOST_PARTS} parts of a name")


def _check_lengths(source: str, part: _Part) -> None:
    """Raises UserError if a stated length is negative."""
    for m, array in part.lengths.items():
        if (array < 0).any():
            name = shown(part.names[array.argmin()], 80)
            raise UserError(f"{source} {m}_lengths has {array.min()} for {name}, expected 0 or more")


def _array(what: str, value: Any, kinds: str, axes: tuple[int, ...]) -> np.ndarray:
    """Makes an entry an array. Raises UserError if it is none of these dtype kinds and numbers of axes.

    what: the entry, for error messages
    """
    array = array_of(what, value)
    if unread := first_not_read(array):
        raise UserError(f"{what}: refused, since it {unread.asks}")
    if array.dtype.kind not in kinds or array.ndim not in axes:
        listed = " or ".join(map(str, axes))
        first = array.reshape(-1)[:1].tolist()
        such_as = f", such as {told(first[0])}" if first and array.dtype.kind in "USO" else ""
        raise UserError(
            f"{what} is {array.dtype} {list(array.shape)}{such_as}, expected {_KINDS[kinds]} with {listed} axes"
        )
    return array


def _scores(source: str, content: dict) -> np.ndarray:
    """Returns the scores of a split, [N]. Raises UserError if there are several for a sample."""
    key = next(key for key in _LABELS if key in content)
    labels = _array(f"{source} {key}", content[key], "biuf", (1, 2, 3))
    if labels.size != len(labels):
        raise UserError(f"{source} {key} is {list(labels.shape)}, expected one score for each sample")
    return labels.reshape(-1)


def _names(source: str, ids: _Ids, samples: int) -> list[str]:
    """Returns the file's ids, with #2 behind the second of a kind; without ids the split's samples are numbered."""
    if ids is None:
        split = source.rpartition(" ")[2]
        return [f"{split}_{row}" for row in range(samples)]
    names: list[str] = []
    times: Counter[str] = Counter()
    for row in ids if ids.ndim == 2 else ids[:, None]:
        name = "_".join(_part_of_name(source, item) for item in row)
        times[name] += 1
        names.append(name if times[name] == 1 else f"{name}#{times[name]}")
    return names


def _part_of_name(source: str, item: Any) -> str:
    """Returns an id, or a part of it, as text. Raises UserError if it is no str, bytes or number, or too long."""
    if isinstance(item, bytes):
        item = item.decode("latin1")
    if isinstance(item, str):
        if len(item) > LONGEST_NAME:
            raise UserError(f"{source} id has one of {len(item)} letters, expected at most {LONGEST_NAME}")
        return str(item)
    if isinstance(item, float | np.number) or (isinstance(item, int) and item.bit_length() <= 64):
        return str(item)
    raise UserError(f"{source} id has {told(item)}, expected str or whole numbers")


def _num_features(path: Path, modality: str, parts: dict[str, _Part]) -> int:
    """Returns the number of a modality's features. Raises UserError if it differs between the splits."""
    sizes = {_KEYS[split]: part.arrays[modality].shape[2] for split, part in parts.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{key}: {size}" for key, size in sizes.items())
        raise UserError(f"{path}: {modality} has different numbers of features ({listed}), expected the same")
    return sizes["train"]


def _fill(values: dict[str, list[_Values]], modality: str, parts: dict[str, _Part]) -> list[str]:
    """Gives each sample its sequence of a modality, if it has one; returns notes of what had to be done about it.

    values: split -> what its samples have so far. The modality's arrays are taken out of the parts.
    """
    in_front = padded_in_front(part.arrays[modality] for part in parts.values())
    counts: Counter[str] = Counter()
    for split, part in parts.items():
        array, replaced = finite(part.arrays.pop(modality))
        counts["replaced"] += replaced
        lengths = part.lengths[modality].tolist() if modality in part.lengths else [None] * len(array)
        for sample, steps, length in zip(values[split], array, lengths, strict=True):
            if (sequence := unpadded(steps, length, in_front, counts)) is not None:
                sample[modality] = sequence
    texts = {
        "replaced": "{} values that are NaN, infinite or beyond 1e18 are replaced by 0",
        "absent": "{} samples do not have it: their sequence is empty or all zeros",
        "disagree": "{} samples have a stated length that is beyond the array, or leaves out steps that are not zeros",
    }
    notes = [f"{modality}: padded in front, not behind"] if in_front else []
    return notes + [f"{modality}: {text.format(counts[key])}" for key, text in texts.items() if counts[key]]


def _samples(part: _Part, values: list[_Values]) -> list[Sample]:
    """Returns the samples of a split that have any modality."""
    targets = torch.from_numpy(part.scores)
    return [Sample(*sample) for sample in zip(part.names, values, targets, strict=True) if sample[1]]


def _listed(content: dict) -> str:
    """Returns the names of a dictionary's entries, the first twelve of them."""
    names = [shown(key, 40) if isinstance(key, str) else type(key).__name__ for key in content]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") or "nothing"
