"""A run's options as a YAML file: written with the run, and accepted back by `gmd train TASK --config FILE`."""

import re
import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import get_type_hints

import yaml

from gmd.config.missing_modalities import as_now
from gmd.config.presets import preset_values
from gmd.config.train_config import NOT_KEPT, TrainConfig
from gmd.data.file_kind import other_kind
from gmd.data.text_files import MOST_YAML, parse_yaml, read_utf8
from gmd.errors import UserError, shown
from gmd.files import replacing

CONFIG = "config.yaml"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_OF_THE_LINE = ("config", "help")  # words of the command line that are no options of a run
_NOT_AGAIN = ("resume", *NOT_KEPT)


def write_config(path: Path, config: TrainConfig) -> None:
    """Writes a run's options. Raises OSError if it cannot be written; what was there before is intact then."""
    about = f"# The options of this run. The same again: gmd train {config.TASK} --config THIS --out ANOTHER"
    text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None)
    with replacing(path) as unfinished:
        unfinished.write_text(f"{about}\n{text}", encoding="utf-8")


def read_yaml(path: Path) -> dict:
    """Reads option -> value, as the file has it.

    Raises UserError: no such file, no file at all, no YAML, or something else than options.
    """
    try:
        values = parse_yaml(read_utf8(path, MOST_YAML))
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a run's {CONFIG} or one of your own"
        ) from error
    except UserError:
        raise
    except ValueError as error:
        reason = f"{shown(error, 300)}){other_kind(path)}"
        raise UserError(f"{path}: not YAML ({reason}; mend it or restore it from a copy") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        got = f"{type(values).__name__}{other_kind(path, own=('empty',))}"
        raise UserError(f"{path}: expected lines of the form `option: value`, got {got}")
    return values


def as_arguments(path: Path, kind: type[TrainConfig], line: Mapping[str, object] | None = None) -> list[str]:
    """Reads options as one would type them, so that one parser reads file and command line and speaks of both alike.

    Those of an earlier version are taken as they are typed now.

    A value stays a value, whatever it begins with: `--out=--resume` is a folder of that name. A preset in the file
    comes first, for the others to override.

    kind: the options of the task
    line: option -> value, what the command line overrides
    Raises UserError: as `read_yaml`; options of another task; a name that is none; a value that cannot be one; code
        that the line does not name.
    """
    line = dict(line or {})
    values = read_yaml(path)
    if values.pop("task", kind.TASK) != kind.TASK:
        raise UserError(f"{path}: options of another task; expected task: {kind.TASK}, or none")
    if "missing" in values:
        values["missing"] = as_now(values)["missing"]
    flags = _flags(kind)
    options = {written.replace("-", "_"): value for written, value in values.items()}
    for written, value in values.items():
        _check_option(path, written, value, written.replace("-", "_") in flags)
    _check_code(path, options.get("network"), line.get("network"))
    # absent, no and nothing are what an option is that does not stand on the line; and to go on with a run is for
    # the line to say, whatever the run was that the file is of
    given = {
        name: value
        for name, value in options.items()
        if not (value is None or value is False or value == [] or name in _NOT_AGAIN)
    }
    # what the file says is nothing, a preset does not bring
    of_preset = preset_values(options.get("preset"), kind, options | line)
    return as_words(of_preset | given, flags)


def _check_code(path: Path, network: object, on_the_line: object) -> None:
    """Raises UserError for a function of a module in the file, unless the line says itself which network to take."""
    if isinstance(network, str) and ":" in network and on_the_line is None:
        raise UserError(
            f"{path}: network: got {shown(network, 100)}, code that is imported only where the command line names it; "
            f"if you trust it, add --network {shown(network, 100)}"
        )


def as_words(values: Mapping[str, object], flags: Collection[str] = ()) -> list[str]:
    """Returns options as words of the command line. flags: the names of those that stand there without a value"""
    words = []
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, (list, tuple)):
            words += [option, *map(str, value)]
        else:
            words.append(option if name in flags else f"{option}={value}")
    return words


def _flags(kind: type[TrainConfig]) -> set[str]:
    """Returns the options that stand on the line without a value, and their opposites."""
    names = {name for name, wanted in get_type_hints(kind).items() if wanted is bool}
    return names | {f"no_{name}" for name in names}


def _check_option(path: Path, name: str, value: object, is_flag: bool) -> None:
    """Raises UserError for the name of an option that is none, or a value that it cannot have."""
    if not _NAME.fullmatch(name) or name in _OF_THE_LINE:
        raise UserError(f"{path}: {shown(name, 80)}: no option has such a name; take it out")
    for item in value if isinstance(value, list) else [value]:
        _check_value(path, name, item, in_list=isinstance(value, list))
    if is_flag and not (value is None or isinstance(value, bool)):
        raise UserError(f"{path}: {name}: got {value!r}, expected true or false")


def _check_value(path: Path, name: str, value: object, in_list: bool) -> None:
    """Raises UserError for what cannot be the value of an option, or in a list of values."""
    if isinstance(value, dict | list):
        raise UserError(f"{path}: {name}: expected a value or a list of values, got {value}")
    if value == "" or (isinstance(value, str) and any(unicodedata.category(letter) == "Cc" for letter in value)):
        raise UserError(f"{path}: {name}: got {value!r}, expected a text that is not empty, without control characters")
    if in_list and (value is None or isinstance(value, bool)):
        raise UserError(f"{path}: {name}: got {value} in a list, as YAML reads yes, no and null; put quotes around it")
    if in_list and isinstance(value, str) and value.startswith("-"):
        raise UserError(
            f"{path}: {name}: got {value!r} in a list, where it would be taken for an option; no name begins with -, "
            f"and a file is also called {'./' + value!r}"
        )
