"""The compiled part, gmd_kernels._C, where there is one that fits; _C.pyi has all that is in it.

It has to be built for this Python, against this torch, from the sources that the Python code here belongs to. setup.py
notes the last two in build_info.json beside what it builds. A source tree in which nothing was built, such as the
folder from which the package was installed, has the module of the installed copy, if it is of the same sources.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor

from gmd_kernels.sources import fingerprint

if TYPE_CHECKING:
    from gmd_kernels._C import Gradients


class Native(Protocol):
    """The module gmd_kernels._C."""

    __file__: str

    def read(self, grads: Sequence[Sequence[Tensor | None]], /) -> Gradients | None: ...

    def spans(self, gradients: Gradients, /) -> Tensor: ...

    def usual_owm(self, projector: object, weight_grad: object, mean_input: object, alpha: object, /) -> bool: ...

    def group_norm_relu(self, *arguments: object) -> Tensor | None: ...

    def cpu_isa(self) -> str: ...

    # only where it was built with CUDA: ask hasattr
    def upload(self, numbers: Tensor, device: torch.device, /) -> Tensor: ...


def find(here: Path, places: Sequence[str], running: str) -> Path:
    """Returns the file of the compiled module that fits.

    here: the folder of gmd_kernels; places: where Python looks for packages; running: the version of torch
    Raises ImportError, which says what is missing and what to do, if there is none.
    """
    file = _module_in(here) or _of_installed_copy(here, places)
    built = build_info(file.parent).get("torch", running)
    if not compatible(built, running):
        raise ImportError(
            f"the C++ kernels in {file.parent} were built with torch {built}, this is torch {running}, and torch "
            f"promises nothing between the two; {_build_again(here)}"
        )
    return file


def compatible(built: str, running: str) -> bool:
    """Returns whether what was built with one torch may be loaded into another: releases such as 2.13.0 and 2.13.1.

    What follows a "+" stands for the devices it serves; if their libraries are missing, the module does not load.
    """
    first, second = (re.fullmatch(r"(\d+\.\d+)\.\d+(\+.*)?", version) for version in (built, running))
    return built == running or (first is not None and second is not None and first[1] == second[1])


def build_info(folder: Path) -> dict[str, str]:
    """Returns what setup.py has noted in a folder: for "cpu" and "cuda" that they are built or why not, and of what."""
    note = folder / "build_info.json"
    return cast("dict[str, str]", json.loads(note.read_text(encoding="utf-8"))) if note.exists() else {}


def module() -> Any:
    """Returns gmd_kernels._C; raises ImportError, which says why there is none."""
    if compiled is None:
        raise ImportError(why_not)
    return compiled


def why_no_cuda() -> str:
    """Says why a module that is there has no kernels for CUDA."""
    info = build_info(Path(module().__file__).parent)
    reason = info.get("cuda", "built without CUDA")
    if info.get("torch", torch.__version__) == torch.__version__:
        return reason
    return f"{reason}; this is torch {torch.__version__}: {_build_again(_HERE)}"


def _module_in(folder: Path) -> Path | None:
    """Returns the compiled module for this Python in a folder, or None."""
    return next((file for suffix in EXTENSION_SUFFIXES if (file := folder / f"_C{suffix}").is_file()), None)


def _of_installed_copy(here: Path, places: Sequence[str]) -> Path:
    """Returns the module of a copy elsewhere; raises ImportError if there is none, or one of other sources."""
    reason = build_info(here).get("cpu", "built")
    if reason != "built":
        raise ImportError(reason)
    sources, again = here.parent / "csrc", _build_again(here)
    for folder in dict.fromkeys(Path(place, "gmd_kernels").resolve() for place in places):
        file = None if folder == here.resolve() else _module_in(folder)
        if file is not None:
            if sources.is_dir() and fingerprint(sources) == build_info(folder).get("sources"):
                return file
            raise ImportError(
                f"this is the source tree in {here.parent}, where the C++ kernels are not built, and those of the copy "
                f"installed in {folder.parent} are of other sources; start Python in another folder to use that copy, "
                f"or {again}"
            )
    for other in here.glob("_C.*.so"):
        python = sys.implementation.cache_tag
        raise ImportError(f"{other.name} in {here} was built for another Python, this is {python}; {again}")
    raise ImportError(f"gmd_kernels in {here.parent} has no C++ kernels, they were not built there; {again}")


def _build_again(here: Path) -> str:
    """Says how to build for the torch and the Python that are running."""
    tree = here.parent
    if (tree / "csrc").is_dir():
        return f'build them: pip install --no-build-isolation -e "{tree}"'
    return "build them, in the folder of gmd's sources: pip install --no-build-isolation ."


def _load() -> tuple[Native | None, str]:
    """Returns the module, or None and the reason."""
    try:
        file = find(_HERE, sys.path, torch.__version__)
    except ImportError as error:
        return None, str(error)
    try:
        if file.parent == _HERE:
            return cast(Native, importlib.import_module("gmd_kernels._C")), ""
        return _from_elsewhere(file), ""
    except ImportError as error:  # the linker's: of a symbol or a library that is missing
        built = build_info(file.parent).get("torch", "another version, perhaps,")
        other = "" if built == torch.__version__ else f", with torch {built} while this is torch {torch.__version__}"
        return None, f"{file} was built but does not load ({error}){other}; {_build_again(_HERE)}"


def _from_elsewhere(file: Path) -> Native:
    """Loads the module from another folder, under the name that it has in this package."""
    spec = importlib.util.spec_from_file_location("gmd_kernels._C", file)
    assert spec is not None, "the suffix is one of Python's"
    assert spec.loader is not None, "as every file's has"
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    sys.modules["gmd_kernels._C"] = loaded
    return cast(Native, loaded)


_HERE = Path(__file__).parent
compiled, why_not = _load()
