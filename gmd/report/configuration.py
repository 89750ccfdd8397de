"""How a run was configured: all of its options, and the command that makes it again."""

import shlex
from collections.abc import Collection
from dataclasses import MISSING, Field, fields
from typing import Any, NamedTuple

from gmd.config import TrainConfig
from gmd.config.checks import option_text


class Option(NamedTuple):
    """An option and its value in words.

    Attributes:
        changed: whether the value differs from the option's default, or the option has none.
    """

    name: str
    value: str
    changed: bool


def options(config: TrainConfig) -> list[Option]:
    """Returns all options of a run, those that differ from their defaults first."""
    found = [Option(f.name, _in_words(getattr(config, f.name)), _is_changed(config, f)) for f in fields(config)]
    return sorted(found, key=lambda option: not option.changed)


def command(config: TrainConfig, names: Collection[str] | None = None) -> str:
    """Returns the command line that makes the run again, without the options that have their defaults.

    names: the options that it may have; by default all
    """
    parts = ["gmd", "train", config.TASK]
    for field in fields(config):
        value = getattr(config, field.name)
        if not _is_changed(config, field) or field.name == "resume" or (names is not None and field.name not in names):
            continue
        parts.append(f"--{field.name.replace('_', '-')}")
        parts += [] if value is True else map(str, value) if isinstance(value, tuple) else [str(value)]
    return shlex.join(parts)


def _in_words(value: object) -> str:
    """Returns an option's value as a reader would have it."""
    named = {None: "not set", (): "none", True: "yes", False: "no"}
    return named[value] if isinstance(value, bool) or value in (None, ()) else option_text(value)


def _is_changed(config: TrainConfig, field: Field[Any]) -> bool:
    """Returns whether the value of the field differs from its default, or the field has no default."""
    return field.default is MISSING or getattr(config, field.name) != field.default
