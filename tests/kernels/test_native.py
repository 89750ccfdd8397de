"""Which compiled module is used: one for this Python, this torch and these sources, and the reason if there is none."""

import importlib
import json
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
import torch

from gmd_kernels import native
from gmd_kernels.sources import fingerprint
from helpers.places import ROOT

MODULE = f"_C{EXTENSION_SUFFIXES[0]}"
TORCH = "2.13.0+cpu"


def place(root: Path, module: str | None, csrc: str | None = None, **info: str) -> Path:
    """Makes a folder that holds gmd_kernels, as a site or, with sources, as a checkout; returns that of gmd_kernels."""
    folder = root / "gmd_kernels"
    folder.mkdir(parents=True)
    if module:
        (folder / module).touch()
    if info:
        (folder / "build_info.json").write_text(json.dumps(info))
    if csrc is not None:
        (root / "csrc" / "cpu").mkdir(parents=True)
        (root / "csrc" / "cpu" / "gram.cpp").write_text(csrc)
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A source tree in which nothing was built."""
    return place(tmp_path / "checkout", None, "code")


@pytest.fixture
def built(tmp_path: Path, checkout: Path) -> dict[str, str]:
    """What setup.py notes of a build from the checkout."""
    return {"cpu": "built", "cuda": "built", "torch": TORCH, "sources": fingerprint(checkout.parent / "csrc")}


def why_not(here: Path, *places: Path, running: str = TORCH) -> str:
    with pytest.raises(ImportError) as raised:
        native.find(here, [str(place) for place in places], running)
    return str(raised.value)


def test_a_module_beside_is_taken(tmp_path: Path, built: dict[str, str]):
    installed = place(tmp_path / "site", MODULE, **built)
    assert native.find(installed, [], TORCH) == installed / MODULE


def test_a_module_of_unknown_origin_is_taken_too(tmp_path: Path):
    """One that gpu/build.py has put there, whose own checks are stricter."""
    here = place(tmp_path / "site", MODULE, cpu="built", cuda="built")
    assert native.find(here, [], "3.0.0") == here / MODULE


# The torch that it was built with


@pytest.mark.parametrize(
    ("one", "other", "fit"),
    [
        ("2.13.0+cpu", "2.13.0+cpu", True),
        ("2.13.0+cpu", "2.13.1+cu130", True),
        ("2.13.0", "2.13.0+cu130", True),
        ("2.13.0+cpu", "2.14.1+cpu", False),
        ("2.13.0+cpu", "3.13.0+cpu", False),
        ("2.1.0", "2.13.0", False),
        ("2.15.0a0+git1234", "2.15.0a0+git5678", False),
        ("2.15.0.dev20260101+cpu", "2.15.0", False),
        ("2.15.0a0+git1234", "2.15.0a0+git1234", True),
    ],
)
def test_releases_that_differ_in_the_last_number_alone_are_compatible(one: str, other: str, fit: bool):
    assert native.compatible(one, other) == native.compatible(other, one) == fit


def test_what_was_built_with_another_torch_is_not_loaded(tmp_path: Path, built: dict[str, str]):
    installed = place(tmp_path / "site", MODULE, **built)
    assert why_not(installed, running="2.14.1+cu130") == (
        f"the C++ kernels in {installed} were built with torch 2.13.0+cpu, this is torch 2.14.1+cu130, and torch "
        "promises nothing between the two; build them, in the folder of gmd's sources: "
        "pip install --no-build-isolation ."
    )


def test_an_editable_installation_is_built_again_where_it_lies(tmp_path: Path, built: dict[str, str]):
    here = place(tmp_path / "my tree", MODULE, "code", **built)
    said = why_not(here, running="2.14.1+cu130")
    assert said.endswith(f'build them: pip install --no-build-isolation -e "{tmp_path / "my tree"}"')


@pytest.fixture
def does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that was built with CUDA for a torch without it."""
    installed = place(tmp_path / "site", MODULE, cpu="built", cuda="built", torch=torch.__version__ + "0")

    def load(name: str) -> None:
        raise ImportError("libc10_cuda.so: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(native, "_HERE", installed)
    monkeypatch.setattr(native, "compatible", lambda built, running: True)
    monkeypatch.setattr(importlib, "import_module", load)
    return installed


def test_what_does_not_load_names_both_torches(does_not_load: Path):
    module, reason = native._load()
    assert module is None
    error = "libc10_cuda.so: cannot open shared object file: No such file or directory"
    torches = f"with torch {torch.__version__}0 while this is torch {torch.__version__}"
    advice = "build them, in the folder of gmd's sources: pip install --no-build-isolation ."
    assert reason == f"{does_not_load / MODULE} was built but does not load ({error}), {torches}; {advice}"


def test_what_does_not_load_for_other_reasons_blames_no_torch(does_not_load: Path):
    (does_not_load / "build_info.json").write_text(json.dumps({"cpu": "built", "torch": torch.__version__}))
    assert "while this is torch" not in native._load()[1]


def test_a_module_without_cuda_says_why_and_that_torch_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    reason = "torch 2.13.0+cpu was built without CUDA"
    folder = place(tmp_path / "site", MODULE, cpu="built", cuda=reason, torch=torch.__version__)
    monkeypatch.setattr(native, "compiled", type("Module", (), {"__file__": str(folder / MODULE)}))
    assert native.why_no_cuda() == reason
    (folder / "build_info.json").write_text(json.dumps({"cpu": "built", "cuda": reason, "torch": "2.13.0+other"}))
    said = native.why_no_cuda()
    assert said.startswith(f"{reason}; this is torch {torch.__version__}: build them")


# A source tree that hides the installed copy


def test_a_source_tree_takes_the_module_of_the_copy_installed_from_it(
    tmp_path: Path, checkout: Path, built: dict[str, str]
):
    other = place(tmp_path / "other", None)  # installed without
    installed = place(tmp_path / "site", MODULE, **built)
    places = [str(path) for path in (checkout.parent, tmp_path / "nowhere", other.parent, installed.parent)]
    assert native.find(checkout, places, TORCH) == installed / MODULE
    assert "were built with torch 2.13.0+cpu, this is torch 2.14.0" in why_not(
        checkout, installed.parent, running="2.14.0"
    )


@pytest.mark.parametrize("change", ["source changed", "source added", "source renamed", "not noted", "no sources"])
def test_a_source_tree_says_that_it_hides_a_copy_of_other_sources(
    tmp_path: Path, checkout: Path, built: dict[str, str], change: str
):
    sources = checkout.parent / "csrc"
    if change == "source changed":
        (sources / "cpu" / "gram.cpp").write_text("better code")
    elif change == "source added":
        (sources / "gram.h").touch()
    elif change == "source renamed":
        (sources / "cpu" / "gram.cpp").rename(sources / "gram.cpp")
    elif change == "not noted":
        del built["sources"]
    else:
        sources.rename(tmp_path / "gone")
    installed = place(tmp_path / "site", MODULE, **built)
    said = why_not(checkout, installed.parent)
    assert said.startswith(
        f"this is the source tree in {checkout.parent}, where the C++ kernels are not built, and those of the copy "
        f"installed in {installed.parent} are of other sources; start Python in another folder to use that copy, or "
    )
    assert "pip install --no-build-isolation" in said


def test_a_source_tree_alone_says_that_nothing_was_built_in_it(checkout: Path):
    assert why_not(checkout, checkout.parent) == (
        f"gmd_kernels in {checkout.parent} has no C++ kernels, they were not built there; build them: "
        f'pip install --no-build-isolation -e "{checkout.parent}"'
    )


def test_what_was_left_out_on_purpose_is_not_taken_from_elsewhere(tmp_path: Path, built: dict[str, str]):
    place(tmp_path / "site", MODULE, **built)
    pure = place(tmp_path / "pure", None, cpu="left out, as GMD_NO_CPP=1 asked for")
    assert why_not(pure, tmp_path / "site") == "left out, as GMD_NO_CPP=1 asked for"


def test_a_module_for_another_python_is_named(tmp_path: Path, built: dict[str, str]):
    here = place(tmp_path / "site", "_C.cpython-39-x86_64-linux-gnu.so", **built)
    assert why_not(here).startswith(
        f"_C.cpython-39-x86_64-linux-gnu.so in {here} was built for another Python, this is "
    )


def test_documentation_among_the_sources_changes_no_fingerprint(checkout: Path):
    before = fingerprint(checkout.parent / "csrc")
    (checkout.parent / "csrc" / "README.md").write_text("notes")
    assert fingerprint(checkout.parent / "csrc") == before
    assert len(fingerprint(ROOT / "csrc")) == 16
