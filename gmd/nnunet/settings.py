"""What the plans of nnU-Net say to gmd's trainers: the numbers under "gmd" of a configuration.

nnU-Net's command line passes no numbers on to a trainer, so they stand beside its own in the plans:

    {"configurations": {"3d_fullres": {..., "gmd": {"every": 4, "num_epochs": 250}}}}
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from gmd.data.text_files import brief
from gmd.errors import UserError

KEY = "gmd"


@dataclass(frozen=True)
class Settings:
    """The numbers of a training.

    Attributes:
        every: how often nnUNetTrainerGMD takes weights, in steps, or "auto"; between, a step costs what one of
            nnUNetTrainerGMDEnumerate does. 1 with tol 0: GMD as published.
        tol: the relative error up to which it may compress each objective's gradients, to take weights; 0 is exact.
        num_epochs, num_iterations_per_epoch, num_val_iterations_per_epoch: nnU-Net's own, None for what it has.
    """

    every: int | str = 8
    tol: float = 0.1
    num_epochs: int | None = None
    num_iterations_per_epoch: int | None = None
    num_val_iterations_per_epoch: int | None = None

    @property
    def of_nnunet(self) -> dict[str, int]:
        """Returns those of nnU-Net's own numbers that are given, by the names of a trainer's attributes."""
        return {f.name: value for f in fields(self) if f.name in _COUNTS and (value := getattr(self, f.name))}


_COUNTS = ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch")


def settings_of(configuration: Mapping[str, Any], where: str) -> Settings:
    """Returns the settings in a configuration of the plans.

    Args:
        configuration: of the plans.
        where: what messages call it.

    Raises UserError for a name that is none of them, or a value that cannot be.
    """
    given = configuration.get(KEY, {})
    known = [field.name for field in fields(Settings)]
    if not isinstance(given, Mapping):
        raise UserError(f"{where}, {KEY}: got {brief(given)}, expected an object with some of {', '.join(known)}")
    for name, value in given.items():
        expected = _expected(name, value) if name in known else f"some of {', '.join(known)}"
        if expected:
            got = brief(value) if name in known else brief(name)
            raise UserError(f"{where}, {KEY}{f', {name}' if name in known else ''}: got {got}, expected {expected}")
    return Settings(**given)


def _expected(name: str, value: object) -> str:
    """Returns what was expected of a setting, or nothing if the value is good."""
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31
    if name == "every":
        return "" if whole or value == "auto" else 'a number of steps, 1 or more, or "auto"'
    if name == "tol":
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
        return "" if good else "a relative error, at least 0 and below 1"
    return "" if whole else "a number, 1 or more"
