"""What `splits.json` of a run may say: checked in itself, and against the run's configuration."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from typeguard import CollectionCheckStrategy, TypeCheckError, check_type
from typing_extensions import NotRequired  # of typing since Python 3.11

from gmd.config import TrainBrats, TrainClassify, TrainConfig
from gmd.data import SPLITS
from gmd.data.manifest.inputs import SIZES
from gmd.data.segmentation.own_labels import read_scheme
from gmd.data.text_files import brief, damaged
from gmd.errors import UserError, shown


class _Splits(TypedDict, total=False):
    """The keys of the file, of which earlier versions lack some."""

    data: str
    folds: int | None
    fold: int | None
    about: dict[str, Any]
    notes: list[str]
    train: list[dict[str, Any]]
    validation: list[dict[str, Any]]
    test: list[dict[str, Any]]


class _ListedCase(TypedDict, total=False):
    """The keys of a case or a sample, of which a sample has its name only."""

    name: str
    folder: str
    patient: str
    labels: str | None
    root: str
    files: dict[str, str]
    channels: dict[str, int]
    checksums: dict[str, str]


class _About(TypedDict):
    """What a network on sequences depends on in its data."""

    features: dict[str, int]
    classes: list[str] | None
    per_step: bool
    unit: NotRequired[list[float]]  # of scores that are numbers of any range


class _AboutFiles(TypedDict):
    """What a network on the files of a manifest depends on in its data."""

    inputs: dict[str, list[Any]]
    outputs: list[dict[str, Any]]


class _Output(TypedDict):
    """One of its outputs."""

    name: str
    classes: list[str] | None
    mean: float
    std: float


def check_splits(path: Path, values: object, config: TrainConfig | None) -> dict[str, Any]:
    """Returns what a `splits.json` holds once it is known to be what a training writes.

    Args:
        path: of the file, for messages.
        values: its content, of whatever kind.
        config: of the run; None: it has none, and the file is checked by itself.

    Raises UserError for another kind of values, for cases without names or called like others, which would be both
    trained and tested on, and for what does not go with the configuration.
    """
    try:
        splits = _typed(values, _Splits, "its content")
        for split in SPLITS:
            for number, case in enumerate(splits.get(split, ())):
                _check_case(_typed(case, _ListedCase, f"case {number} of {split!r}"), split)
        listed = isinstance(config, TrainBrats) and config.train_list is not None  # a patient may be in two lists
        _check_disjoint(splits, ("name",) if listed else ("name", "patient"))
        if isinstance(config, TrainBrats):
            _check_cases_fit(splits, config)
        elif isinstance(config, TrainClassify):
            _check_files(splits.get("about"), config)
        elif config is not None:
            _check_about(splits.get("about"), config)
    except _Wrong as error:
        raise damaged(path, str(error)) from error
    return splits


class _Wrong(ValueError):
    """What is wrong with the file, in words."""


def _typed(values: object, shape: Any, what: str) -> dict[str, Any]:
    """Returns a dictionary whose known keys have values of the shape's types; others may be of another version."""
    if not isinstance(values, dict):
        raise _Wrong(f"expected {what} to be keys and values, got {brief(values)}")
    known = {key: value for key, value in values.items() if key in shape.__annotations__}
    try:
        check_type(known, shape, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        raise _Wrong(f"{what}: {shown(error, 200)}") from error
    return values


def _check_case(case: Mapping[str, Any], split: str) -> None:
    if "name" not in case:
        raise _Wrong(f"expected a list of cases, each with its name, for {split!r}")
    texts = [*(case.get(key) for key in ("name", "folder", "patient", "root")), *case.get("files", {}).values()]
    for text in filter(None, texts):
        # bytes of a file's name that are no UTF-8 are surrogates of their own; what other ones stand for no name has
        if "\0" in text or any("\ud800" <= c < "\udc80" or "\udd00" <= c <= "\udfff" for c in text):
            raise _Wrong(f"case {brief(case['name'])} of {split!r} holds {brief(text)}, which no name can be")
    if wrong := [place for place in case.get("channels", {}).values() if not 0 <= place < 2**15]:
        raise _Wrong(f"case {brief(case['name'])} of {split!r} has channel {wrong[0]}, expected 0 or more")


def _check_disjoint(splits: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Raises _Wrong if a case is listed twice, or a patient in two splits: what has trained must not be tested on.

    keys: of "name" and "patient", those that tell
    """
    for key in keys:
        owner: dict[str, str] = {}
        for split in SPLITS:
            named = [case[key] for case in splits.get(split, ()) if key in case]
            twice = key == "name" and len(set(named)) < len(named)
            for one in named if twice else set(named):
                if one in owner:
                    raise _Wrong(f"{key} {brief(one)} is in {owner[one]!r} and in {split!r}, expected in one, once")
                owner[one] = split


def _check_cases_fit(splits: Mapping[str, Any], config: TrainBrats) -> None:
    """Raises _Wrong unless the cases are of the run's modalities, its label schemes, and its fold."""
    for key in ("folds", "fold"):
        if splits.get(key, getattr(config, key)) != getattr(config, key):
            raise _Wrong(f"{key} is {splits[key]}, but {getattr(config, key)} in the run's configuration")
    known = {*config.modalities, "seg", "mask"}
    cases = [(split, case) for split in SPLITS for case in splits.get(split, ())]
    for split, case in cases:
        keys = {key for part in ("files", "checksums") for key in case.get(part, {})}  # a file has channels of others
        _check_known(keys, known, f"case {brief(case['name'])} of {split!r}")
    for labels in {case["labels"] for _, case in cases if case.get("labels")}:
        try:
            read_scheme(labels)
        except UserError as error:
            raise _Wrong(f"labels {brief(labels)}: {shown(error, 200)}") from error


def _check_about(values: object, config: TrainConfig) -> None:
    """Raises _Wrong unless the data had features of the run's modalities, and scores or classes."""
    about = _typed(values, _About, "'about'")
    features = about["features"]
    _check_modalities("features", features, config)
    for m, number in features.items():
        _check_size(number, f"features of {brief(m)} are")
    _check_classes(about["classes"])
    _check_unit(about.get("unit", [0.0, 1.0]))


def _check_files(values: object, config: TrainClassify) -> None:
    """Raises _Wrong unless the data had inputs of the run's modalities, of kinds and sizes that there are, and outputs.

    Outputs have names that differ, and numbers a scale.
    """
    about = _typed(values, _AboutFiles, "'about'")
    _check_modalities("inputs", about["inputs"], config)
    for m, given in about["inputs"].items():
        _check_input(m, given)
    outputs = [_typed(output, _Output, "an output") for output in about["outputs"]]
    names = [output["name"] for output in outputs]
    if not names or len(set(names)) < len(names):
        raise _Wrong(f"outputs are called {brief(names)}, expected at least one, with names that differ")
    for output in outputs:
        _check_classes(output["classes"])
        _check_unit([output["mean"], output["std"]])


def _check_input(modality: str, given: list[Any]) -> None:
    kind, sizes = given if len(given) == 2 else (None, None)
    if not isinstance(kind, str) or not isinstance(sizes, dict) or set(sizes) != set(SIZES.get(kind, "?")):
        raise _Wrong(f"inputs of {brief(modality)} are {brief(given)}, expected a kind and its sizes")
    for size, number in sizes.items():
        _check_size(number, f"inputs of {brief(modality)}: {size} is")


def _check_modalities(what: str, found: Iterable[str], config: TrainConfig) -> None:
    if tuple(found) != config.modalities:
        raise _Wrong(f"has {what} of {brief(list(found))}, but {brief(list(config.modalities))} are the run's")


def _check_size(number: object, what: str) -> None:
    if type(number) is not int or not 0 < number <= 2**24:
        raise _Wrong(f"{what} {brief(number)}, expected a number from 1 on")


def _check_unit(unit: list[float]) -> None:
    if len(unit) != 2 or not all(map(math.isfinite, unit)) or unit[1] <= 0:
        raise _Wrong(f"unit is {brief(unit)}, expected the mean and the standard deviation of scores")


def _check_classes(classes: Any) -> None:
    if classes is not None and (len(classes) < 2 or len(set(classes)) < len(classes)):
        raise _Wrong(f"classes are {brief(classes)}, expected null, or at least two names that differ")


def _check_known(keys: Iterable[str], known: set[str], what: str) -> None:
    if odd := sorted(set(keys) - known):
        raise _Wrong(f"{what} has {brief(odd[0])}, which is none of {', '.join(sorted(known))}")
