"""Sequences in a `.npz` without pickles: what `gmd convert` writes, and `gmd phantom --task sentiment`.

docs/sequence-files.md lists the arrays, for those who write such a file themselves.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gmd.data import SPLITS
from gmd.data.sequences.checks import check_features, check_name, check_splits, finite
from gmd.data.sequences.npz import Arrays, check_arrays
from gmd.data.sequences.reading import Reading
from gmd.data.sequences.samples import Sample, SequenceData
from gmd.data.sequences.scores import changed_notes, checked_scores
from gmd.errors import UserError, shown
from gmd.files import replacing
from gmd.names import check_names
from gmd.output_paths import check_file

VERSION = 1


def is_converted(arrays: Arrays) -> bool:
    """Returns whether these are the arrays of a file that `gmd convert` wrote."""
    return "version" in arrays and "modalities" in arrays


def check_new(out: Path) -> None:
    """Raises UserError for a file that must not be written: of another kind, or there already."""
    if out.suffix != ".npz":
        raise UserError(f"{out}: expected a name that ends in .npz")
    check_file(out, "out")
    if out.exists():
        raise UserError(f"{out}: is there already; give another name, or delete it first")


def write_converted(data: SequenceData, out: Path) -> None:
    """Writes data to a file, all of it or nothing; the same data give the same bytes.

    out: its name, which has to end in .npz. Raises UserError as `check_new`.
    """
    check_new(out)
    samples = [sample for split in SPLITS for sample in data.splits[split]]
    arrays = {
        "version": np.array(VERSION),
        "modalities": np.array(list(data.features), str),
        "per_step": np.array(data.per_step),
        "notes": np.array(data.notes, str),
        "name": np.array([sample.name for sample in samples], str),
        "split": np.repeat(SPLITS, [len(data.splits[split]) for split in SPLITS]),
        "target": np.concatenate([sample.target.reshape(-1).numpy() for sample in samples]),
    }
    if data.classes is not None:
        arrays["classes"] = np.array(data.classes, str)
    if data.per_step:
        arrays["target_length"] = np.array([len(sample.target) for sample in samples])
    for m, features in data.features.items():
        none = torch.empty(0, features)
        sequences = [sample.values.get(m, none).numpy() for sample in samples]
        arrays[m] = np.concatenate(sequences)
        arrays[f"{m}_length"] = np.array([len(sequence) for sequence in sequences])
    with replacing(out) as unfinished:
        np.savez(unfinished, **arrays)


def read_converted(path: Path, arrays: Arrays, reading: Reading) -> SequenceData:
    """Reads the data that `write_converted` wrote, bit for bit, unless other scores are asked for.

    path: the file, for error messages; arrays: what is in it; reading: what scores are and become

    Raises UserError: arrays that are missing, of another kind, or that do not belong together, targets out of range,
        a sample without any modality or of length 0, an empty split, two samples of one name.
    """
    modalities, classes = _about(path, arrays)
    per_step = _is_per_step(arrays)
    names = [str(name) for name in arrays["name"]]
    if unknown := set(map(str, arrays["split"])) - set(SPLITS):
        raise UserError(f"{path}: split {shown(unknown.pop(), 80)!r} is unknown, expected one of {', '.join(SPLITS)}")
    counts = arrays["target_length"] if per_step else np.ones(len(names), np.int64)
    _pieces(path, "target", arrays["target"], counts)  # before a name is repeated: what is empty may claim any size
    scores, changed = _checked_targets(path, arrays["target"], _repeated(names, counts), classes, reading)
    targets = _pieces(path, "target", scores, counts)
    features = {m: arrays[m].shape[1] for m in modalities}
    check_features(features, path)
    values = {m: _pieces(path, m, arrays[m], arrays[f"{m}_length"]) for m in modalities}

    splits: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for i, name in enumerate(names):
        present = {m: values[m][i] for m in modalities if len(values[m][i])}
        target = targets[i] if per_step else targets[i][0]
        _check_sample(path, name, present, target)
        splits[str(arrays["split"][i])].append(Sample(name, present, target))
    check_splits(splits, path)
    notes = [str(note) for note in arrays["notes"]] if "notes" in arrays else []
    return SequenceData(features, classes, per_step, splits, (*notes, *changed))


def _about(path: Path, arrays: Arrays) -> tuple[list[str], tuple[str, ...] | None]:
    """Returns the modalities and the classes of a file.

    Raises UserError if an array is missing or of another kind, of those that they and `per_step` ask for.
    """
    flags = {"per_step": ("b", 0)} if "per_step" in arrays else {}
    check_arrays(path, arrays, {"version": ("i", 0), "modalities": ("U", 1)} | flags, ())
    if arrays["version"] != VERSION:
        raise UserError(f"{path}: is of version {arrays['version']}, expected {VERSION}; convert it anew")
    modalities = [str(m) for m in arrays["modalities"]]
    _check_modalities(path, modalities)
    each = {"name": ("U", 1), "split": ("U", 1)} | {f"{m}_length": ("i", 1) for m in modalities}
    if _is_per_step(arrays):
        each["target_length"] = ("i", 1)
    targets = {"target": ("i" if "classes" in arrays else "f", 1)}
    sequences = {m: ("f", 2) for m in modalities}
    texts = {key: ("U", 1) for key in ("notes", "classes") if key in arrays}
    check_arrays(path, arrays, each | targets | sequences | texts, tuple(each))
    classes = tuple(str(name) for name in arrays["classes"]) if "classes" in arrays else None
    _check_classes(path, classes or ())
    return modalities, classes


def _is_per_step(arrays: Arrays) -> bool:
    """Returns whether each step has a target; a file that does not say so has one for each sample."""
    return "per_step" in arrays and bool(arrays["per_step"])


def _check_classes(path: Path, names: Sequence[str]) -> None:
    """Raises UserError for a name of a class that is none, or that is given to two."""
    for name in names:
        check_name(name, path)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"{path}: two are called class {shown(twice[0], 80)}, expected a name for each")


def _check_modalities(path: Path, modalities: list[str]) -> None:
    """Raises UserError for the name of a modality that cannot be used, or is that of another array."""
    check_names(f"{path}: modalities", modalities)
    if both := [m for m in modalities if f"{m}_length" in modalities]:
        raise UserError(f"{path}: modalities: got {both[0]}_length, which says how long {both[0]} is; rename one")


def _pieces(path: Path, key: str, array: np.ndarray, lengths: np.ndarray) -> tuple[Tensor, ...]:
    """Cuts what lies end to end in `array` into sequences of these lengths, one for each sample.

    Raises UserError if the lengths do not add up to the array's, or if a modality has values that are not finite.
    """
    each = lengths.tolist()  # Python's numbers, whose sum cannot wrap
    if min(each, default=0) < 0 or sum(each) != len(array):
        wrong = f"one is {min(each)}" if min(each, default=0) < 0 else f"its lengths add up to {sum(each)}"
        raise UserError(f"{path}: {key} has {len(array)} entries, but {wrong}")
    array, replaced = finite(array) if array.dtype.kind == "f" else (array.astype(np.int64), 0)
    if replaced and key != "target":
        raise UserError(
            f"{path}: {key} has {replaced} values that are NaN, infinite or beyond 1e18; convert its source anew"
        )
    return torch.from_numpy(array).split(each)


def _repeated(names: list[str], counts: np.ndarray) -> list[str]:
    """Returns each name as often as its count says. numpy's repeat would give every name the room of the longest."""
    return [name for name, count in zip(names, counts.tolist(), strict=True) for _ in range(count)]


def _checked_targets(
    path: Path, targets: np.ndarray, names: list[str], classes: tuple[str, ...] | None, reading: Reading
) -> tuple[np.ndarray, list[str]]:
    """Returns the targets, and notes of what was done to them. Raises UserError for one out of range.

    names: of the sample that each target belongs to
    """
    if classes is None:
        scores, clipped = checked_scores(targets, names, path, reading)
        return scores, changed_notes(clipped, reading)
    if len(wrong := np.flatnonzero((targets < 0) | (targets >= len(classes)))):
        first = wrong[0]
        raise UserError(
            f"{path}: the class of {shown(names[first], 80)} is {targets[first]}, expected 0 to {len(classes) - 1}"
        )
    return targets, []


def _check_sample(path: Path, name: str, values: dict[str, Tensor], target: Tensor) -> None:
    """Raises UserError for a sample without a modality, or one whose targets are not as many as its steps."""
    if not values:
        raise UserError(f"{path}: {shown(name, 80)} has no modality, expected at least one")
    lengths = {m: len(sequence) for m, sequence in values.items()}
    if target.ndim and set(lengths.values()) != {len(target)}:
        listed = ", ".join(f"{m}: {length}" for m, length in lengths.items())
        raise UserError(
            f"{path}: {shown(name, 80)} has {len(target)} targets, expected as many as it has steps ({listed})"
        )
