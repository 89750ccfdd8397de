"""Whether nnU-Net can be used in this installation, and what to install if it cannot.

nnU-Net finds trainers outside its package only after it has imported all of its own, and one of these imports timm,
which imports torchvision. So an external trainer needs a torchvision that fits torch, though it never calls it.
"""

import importlib
import re
import shlex
import sys
import warnings
from importlib import metadata, util

import torch

from gmd.errors import UserError

OLDEST = (2, 8)  # the first nnU-Net that looks for trainers outside its package
REQUIREMENT = "nnunetv2>=2.8,<2.9"
_WITHOUT_OPERATORS = "operator torchvision::nms does not exist"
_OPERATORS = ("nms", "qnms")


def pip_line() -> str:
    """Returns the command that installs nnU-Net and leaves torch what it is; pip alone may take a newer torch."""
    version = torch.__version__.partition("+")[0]
    pins = [f"torch=={version}", f"torchvision=={torchvision_for(version)}", REQUIREMENT]
    return f"pip install {shlex.join(pins)}"


def torchvision_for(torch_version: str) -> str:
    """Returns the version of torchvision that is built for a torch 2: 0.28.0 for 2.13.0, always 15 minor versions on.

    Source: the table of compatible versions in torchvision's README.
    """
    numbers = re.findall(r"\d+", torch_version)
    return f"0.{int(numbers[1]) + 15}.{numbers[2]}"


def is_installed() -> bool:
    """Returns whether there is a package nnunetv2, whatever its version, and without importing it."""
    return util.find_spec("nnunetv2") is not None


def prepare() -> None:
    """Makes nnU-Net importable with trainers from outside its package, in this process.

    A torchvision of PyPI beside a torch for the CPU lacks its compiled operators, and then ends its own import with an
    error. Two of them are declared here in that case, without a kernel: nnU-Net calls neither.
    Raises UserError: no nnunetv2, one before 2.8, a torchvision or timm that cannot be imported.
    """
    if not is_installed():
        raise UserError(f"nnunetv2 is not installed; it comes, and torch stays what it is, by: {pip_line()}")
    version = _version("nnunetv2")
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    if numbers and tuple(numbers) < OLDEST:  # a folder on PYTHONPATH has no version
        raise UserError(f"nnunetv2 {version}: looks for no trainers outside its package, 2.8 does: {pip_line()}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm uses what torch advises against, which is no trouble of the user's
            _import_torchvision()
            importlib.import_module("timm")
    except Exception as error:  # a linker's, an operator registry's: whatever it is, nnU-Net would end in it
        raise UserError(_does_not_fit(error)) from error


def trouble() -> str | None:
    """Says what keeps nnU-Net from finding the trainers, in a line; None if nothing does, or if it is not installed."""
    if not is_installed():
        return None
    try:
        prepare()
    except UserError as error:
        return str(error)
    return None


def _import_torchvision() -> None:
    """Imports torchvision, and declares the operators whose absence ends its import, if that is what does."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if _WITHOUT_OPERATORS not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # what the failed import has left
        for name in _OPERATORS:
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", schema)
        importlib.import_module("torchvision")


def _does_not_fit(error: Exception) -> str:
    """Says which versions do not go together, and what to install."""
    first = (str(error) or type(error).__name__).splitlines()[0]
    here = ", ".join(f"{name} {_version(name)}" for name in ("torchvision", "timm"))
    return (
        f"nnU-Net needs {here}, which cannot be imported beside torch {torch.__version__} ({first}); "
        f"torchvision {_built_for()}. Install those that fit: {pip_line()}"
    )


def _version(package: str) -> str:
    """Returns a package's version, or that there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _built_for() -> str:
    """Says which torch the installed torchvision is built for."""
    try:
        needs = metadata.requires("torchvision") or []
    except metadata.PackageNotFoundError:
        needs = []
    found = next((match[1] for need in needs if (match := re.match(r"torch \(?==([\w.+]+)\)?", need))), None)
    return f"{_version('torchvision')} is built for torch {found}" if found else "is not there"
