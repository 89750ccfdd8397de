"""Splits of padded arrays, in which MOSI, MOSEI, CH-SIMS and IEMOCAP are handed around: {split: {name: array}}.

MMSA and Self-MM (Yu et al., AAAI 2021): `text`, `audio`, `vision` [N, L, F], `regression_labels` [N], `id` [N], and in
unaligned files `audio_lengths` and `vision_lengths` [N]. MulT (Tsai et al., ACL 2019) and CGGM: `labels` [N, 1, 1], and
`id` [N] or [N, 3], a video with beginning and end; IEMOCAP's are [N, 4] or [N, 4, 2]. LMF (Liu et al., ACL 2018): the
same called `glove`, `covarep` [N, F], `facet` [N, F] and `label`, or the names of emotions; keys may be bytes. A
modality may be absent, and other entries are not looked at.
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
    finite,
)
from gmd.data.sequences.emotion_labels import EMOTIONS, NOTE, has_emotions, is_emotions, one_of_four, stacked
from gmd.data.sequences.nested_lists import array_of
from gmd.data.sequences.not_read import NotRead, first_not_read, told
from gmd.data.sequences.reading import Reading
from gmd.data.sequences.samples import SENTIMENT_MODALITIES, Sample, SequenceData
from gmd.data.sequences.scores import changed_notes, checked_scores
from gmd.data.sequences.unpadding import padded_in_front, unpadded
from gmd.errors import UserError, shown

_KEYS = dict(zip(SPLITS, ("train", "valid", "test"), strict=True))
_LABELS = ("regression_labels", "labels", "label")  # MMSA's, MulT's and LMF's; MMSA's files have other labels as well
_OF_LMF = {"glove": "text", "covarep": "audio", "facet": "vision"}
_KINDS = {"biuf": "numbers", "iu": "whole numbers", "USOiu": "str or whole numbers"}
_MOST_PARTS = 16  # of an id: MulT's have three

_Ids = np.ndarray | None
_Values = dict[str, Tensor]  # a sample's sequences: modality -> float32 [L, F]


class _Part(NamedTuple):
    """What a file has for one split of N samples.

    Attributes:
        names: [N], of the samples.
        targets: float32 [N] scores, or int64 [N] classes, -1 for what is of none.
        clipped: how many of the scores were clipped.
        arrays: modality -> numbers [N, L, F].
        lengths: modality -> whole numbers [N], for the modalities whose lengths the file gives.
    """

    names: list[str]
    targets: np.ndarray
    clipped: int
    arrays: dict[str, np.ndarray]
    lengths: dict[str, np.ndarray]


def is_splits(content: Any) -> bool:
    """Returns whether this is a dictionary with those of the three splits. Keys may be bytes."""
    return isinstance(content, dict) and all(isinstance(named(content).get(key), dict) for key in _KEYS.values())


def data_from_splits(path: Path, content: Any, reading: Reading) -> SequenceData:
    """Makes splits of padded arrays sequences with one target each. `content` is emptied, to free memory on the way.

    path: the file, for error messages; reading: what scores are and become

    A sequence is as long as the file says (`audio_lengths`), else it is what is left without the all-zero steps on the
    padded side: behind, or in front where more of a modality's sequences begin than end with zeros, as in MulT's
    aligned files. Each modality is cut for itself, aligned or not: no network here looks across them step by step.
    Zeros alone mean that a sample does not have the modality; a sample that has none is left out. Both are counted.
    Raises UserError: splits or arrays that are missing, of another kind or of different lengths, labels that are no
        scores, an empty split, a name in two splits.
    """
    _check_three_parts(path, content)
    found = {key: _known_names(named(content)[key]) for key in _KEYS.values()}  # one dictionary may be two splits
    content.clear()
    modalities = _modalities(path, found)
    notes = _notes_on_modalities(modalities, found)
    parts = {split: _part(f"{path}: {key}", found.pop(key), modalities, reading) for split, key in _KEYS.items()}
    classes = _classes(path, parts)
    notes += changed_notes(sum(part.clipped for part in parts.values()), reading) if classes is None else [NOTE]
    features = {}
    values: dict[str, list[_Values]] = {split: [{} for _ in part.names] for split, part in parts.items()}
    for m in modalities:
        features[m] = _num_features(path, m, parts)
        notes += _fill(values, m, parts)
    splits = {split: _samples(part, values[split]) for split, part in parts.items()}
    notes += _notes_on_samples(parts, values)
    check_splits(splits, path)
    return SequenceData(features, classes, False, splits, tuple(notes))


def named(content: dict) -> dict:
    """Returns a dictionary with text for keys that are bytes, as files of Python 2 have them in Python 3."""
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}


def _known_names(content: dict) -> dict:
    """Returns what a split has under the names that are used here."""
    return {_OF_LMF.get(key, key): value for key, value in named(content).items()}


def _check_three_parts(path: Path, content: Any) -> None:
    """Raises UserError for anything but a dictionary that holds one for each split."""
    parts = [named(content).get(key) for key in _KEYS.values()] if isinstance(content, dict) else []
    if unread := next((part for part in parts if isinstance(part, NotRead)), None):
        raise UserError(f"{path}: refused, since a part of it {unread.asks}")
    if not is_splits(content):
        there = f"a dictionary with {_listed(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise UserError(f"{path}: holds {there}, expected a dictionary with the dictionaries train, valid and test")


def _modalities(path: Path, found: dict[str, dict]) -> list[str]:
    """Returns the modalities that the splits have. Raises UserError for none, and for one that some splits lack."""
    modalities = [m for m in SENTIMENT_MODALITIES if any(m in content for content in found.values())]
    for key, content in found.items():
        if lacking := [m for m in modalities or SENTIMENT_MODALITIES if m not in content]:
            hint = "; text_bert holds the numbers of words" if "text" in lacking and "text_bert" in content else ""
            raise UserError(f"{path}: {key} has no {', '.join(lacking)}; there is {_listed(content)}{hint}")
    return modalities


def _notes_on_modalities(modalities: list[str], found: dict[str, dict]) -> list[str]:
    """Returns notes of what the splits lack."""
    absent = [m for m in SENTIMENT_MODALITIES if m not in modalities]
    notes = [f"the file has no {' and no '.join(absent)}"] if absent else []
    if any("text_bert" in content for content in found.values()):
        instead = ", text is" if "text" in modalities else ": it holds the numbers of words"
        notes.append(f"text_bert is not read{instead}")
    return notes


def _part(source: str, content: dict, modalities: list[str], reading: Reading) -> _Part:
    """Checks what the file has for one split, called `source` in error messages. Raises UserError."""
    arrays = {m: _array(f"{source} {m}", content[m], "biuf", (2, 3)) for m in modalities}
    arrays = {m: array[:, None] if array.ndim == 2 else array for m, array in arrays.items()}
    labels = _labels(source, content)
    given = {m: content[f"{m}_lengths"] for m in arrays if f"{m}_lengths" in content}
    lengths = {m: _array(f"{source} {m}_lengths", value, "iu", (1,)) for m, value in given.items()}
    ids = _array(f"{source} id", content["id"], "USOiu", (1, 2)) if "id" in content else None
    _check_sizes(source, labels, arrays, lengths, ids)  # before any is gone through: what is empty may claim any size
    part = _Part(_names(source, ids, len(labels)), labels, 0, arrays, lengths)
    _check_lengths(source, part)
    if is_emotions(labels):
        return part._replace(targets=one_of_four(labels))
    scores, clipped = checked_scores(labels.reshape(-1), part.names, source, reading)
    return part._replace(targets=scores, clipped=clipped)


def _labels(source: str, content: dict) -> np.ndarray:
    """Returns the labels of a split, [N], [N, 1], [N, 1, 1], or those of emotions. Raises UserError if it has none."""
    if key := next((key for key in _LABELS if key in content), None):
        labels = _array(f"{source} {key}", content[key], "biuf", (1, 2, 3))
        if labels.size != len(labels) and not is_emotions(labels):
            raise UserError(f"{source} {key} is {list(labels.shape)}, expected one score for each sample")
        return labels
    if has_emotions(content):
        questions = [_array(f"{source} {emotion}", content[emotion], "biuf", (1, 2)) for emotion in EMOTIONS]
        shapes = {each.shape for each in questions}
        if len(shapes) > 1 or next(iter(shapes))[1:] not in ((), (1,), (2,)):
            raise UserError(f"{source} has emotions of {shapes}, expected [N], [N, 1] or [N, 2] for each")
        return stacked(questions)
    raise UserError(f"{source} has no regression_labels (or labels); there is {_listed(content)}")


def _classes(path: Path, parts: dict[str, _Part]) -> tuple[str, ...] | None:
    """Returns the names of the classes, None for scores. Raises UserError if the splits differ in that."""
    kinds = {part.targets.dtype.kind for part in parts.values()}
    if len(kinds) > 1:
        raise UserError(f"{path}: has scores in some splits, and four emotions in others; expected one of both")
    return EMOTIONS if kinds == {"i"} else None


def _check_sizes(
    source: str, labels: np.ndarray, arrays: dict[str, np.ndarray], lengths: dict[str, np.ndarray], ids: _Ids
) -> None:
    """Raises UserError if the arrays have not an entry each for every sample, or entries with nothing in them."""
    sizes = {m: len(array) for m, array in arrays.items()} | {"labels": len(labels)}
    sizes |= {"id": len(labels) if ids is None else len(ids)}
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
    """Returns the samples of a split that have any modality, and a class if they have one."""
    targets = torch.from_numpy(part.targets)
    samples = [Sample(*sample) for sample in zip(part.names, values, targets, strict=True)]
    none = part.targets < 0 if targets.dtype == torch.int64 else np.zeros(len(samples), bool)
    return [sample for sample, without in zip(samples, none, strict=True) if sample.values and not without]


def _notes_on_samples(parts: dict[str, _Part], values: dict[str, list[_Values]]) -> list[str]:
    """Returns notes of the samples that are left out."""
    empty = sum(not sample for samples in values.values() for sample in samples)
    other = sum(int((part.targets < 0).sum()) for part in parts.values() if part.targets.dtype.kind == "i")
    notes = [f"{empty} samples have no modality at all and are left out"] if empty else []
    return notes + ([f"{other} samples have none of the emotions, or several, and are left out"] if other else [])


def _listed(content: dict) -> str:
    """Returns the names of a dictionary's entries, the first twelve of them."""
    names = [shown(key, 40) if isinstance(key, str) else type(key).__name__ for key in content]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") or "nothing"
