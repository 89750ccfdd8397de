"""What comes on an installation that lacks packages: help at once, and which packages are missing."""

import importlib.util
import re
import shlex
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import pytest

import gmd.cli
import gmd.training.loop
from gmd.cli import data, doctor, extras, manifest, overview, parse, runs, view
from gmd.cli.prediction import Predict
from gmd.config import TrainBrats
from gmd_kernels import dispatch
from helpers.places import ROOT


def run(line: str) -> int:
    return gmd.cli.main(shlex.split(line))


@pytest.fixture
def without_tyro(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that lacks tyro, and has not loaded what needs it."""
    monkeypatch.setitem(sys.modules, "tyro", None)
    for module in ("parse", "data", "runs", "prediction", "view"):
        monkeypatch.delitem(sys.modules, f"gmd.cli.{module}", raising=False)


@pytest.mark.parametrize("missing", ["tyro", "monai"])
def test_a_missing_package_is_named_and_never_a_stranger_of_our_name(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, missing: str
):
    def without(config: TrainBrats) -> Path:
        raise ModuleNotFoundError("No module named 'monai'", name="monai")

    if missing == "tyro":
        request.getfixturevalue("without_tyro")
    monkeypatch.setitem(sys.modules, "monai", None)
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.setattr(gmd.training.loop, "train", without)
    if missing == "monai":
        monkeypatch.setitem(sys.modules, "PIL", None)
    packages = {"tyro": "'monai>=1.4' 'tyro>=0.9' pyyaml", "monai": "'monai>=1.4' pyyaml pillow"}[missing]
    assert gmd.cli.main(["train", "brats", "--data", "d"]) == 2
    told = f"gmd: error: {missing} is not installed; what is missing comes by: pip install {packages}\n"
    assert capsys.readouterr().err == told


def test_a_module_that_is_missing_from_a_package_that_is_there_is_a_bug(monkeypatch: pytest.MonkeyPatch):
    def without(config: TrainBrats) -> Path:
        raise ModuleNotFoundError("No module named 'monai.gone'", name="monai.gone")

    monkeypatch.setattr(gmd.training.loop, "train", without)
    with pytest.raises(ModuleNotFoundError, match=r"monai\.gone"):
        gmd.cli.main(["train", "brats", "--data", "d"])


@pytest.mark.parametrize("command", ["", "-h", "--help", "train --help", "train brats --help", "predict -h"])
def test_help_comes_without_the_packages_and_says_which_they_are(
    without_tyro: None, capsys: pytest.CaptureFixture, command: str
):
    if command:
        with pytest.raises(SystemExit) as left:
            run(command)
        assert left.value.code == 0
    else:
        assert run(command) == 2, "nothing was done"
    text = capsys.readouterr().out
    assert text.endswith("Packages are missing that all commands but doctor need:\n  pip install 'tyro>=0.9'\n")
    assert "  • evaluate  Score a trained run" in text


def test_help_says_what_every_command_says_of_itself(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit):
        run("--help")
    assert "Packages are missing" not in capsys.readouterr().out
    of_functions = [data.phantom, runs.evaluate, Predict, runs.compare, runs.report, data.convert]
    of_functions += [runs.advise, manifest.manifest, view.view]
    for about in (*of_functions, parse.doctor):
        first, *_ = (about.__doc__ or "").split("\n\n")
        name = about.__name__.lower()
        assert overview.COMMANDS[name] == " ".join(first.split())
    assert overview.COMMANDS.keys() == {
        *(about.__name__.lower() for about in of_functions),
        "doctor",
        "train",
        "nnunet",
    }


@pytest.mark.parametrize("command", [[], ["--help"], ["doctor", "--help"]], ids=" ".join)
def test_help_waits_for_nothing(command: list[str]):
    """Neither torch is loaded for it, nor numpy, nor what parses options."""
    code = (
        "import sys\nimport gmd.cli\n"
        f"try: gmd.cli.main({command})\nexcept SystemExit: pass\n"
        "print({'torch', 'numpy', 'tyro', 'yaml'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "set()"


def test_the_extras_are_those_of_the_package():
    """gmd.cli.extras has to know them where no package is installed, in a source tree."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra, packages in extras.EXTRAS.items():
        [listed] = re.findall(rf"^{extra} = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
        assert set(re.findall(r'"([^"]+)"', listed)) == set(packages.values())
        assert all(importlib.util.find_spec(module) for module in packages)


def test_torch_says_nothing_of_a_missing_numpy(monkeypatch: pytest.MonkeyPatch):
    """It warns once, when it is loaded; other warnings of it are shown, and nothing is silenced where numpy is."""
    torchs = "Failed to initialize NumPy: No module named 'numpy' (Triggered internally at tensor_numpy.cpp:84.)"
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        extras.quiet_without_numpy()
        warnings.warn(torchs, UserWarning, stacklevel=1)
        monkeypatch.setitem(sys.modules, "numpy", None)
        extras.quiet_without_numpy()
        warnings.warn(torchs, UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in shown] == [torchs, "something else"]


def test_the_doctor_and_the_kernels_take_packages_that_were_installed_under_other_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """A bug: such as pytorch-triton and pillow-simd, or a folder on PYTHONPATH, gmd itself among them."""

    def unknown(name: str) -> str:
        if name == "pytorch-triton":
            return "3.9"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", unknown)
    gmd.cli.main(["doctor"])
    text = capsys.readouterr().out
    assert f"gmd {gmd.__version__}, Python" in text
    assert "numpy of unknown version, " in text
    assert dispatch._version_of("triton", "pytorch-triton") == "3.9"
    assert dispatch._version_of("triton") == "of unknown version"


def install(site: Path, name: str, version: str) -> None:
    """Leaves what pip leaves of a package."""
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    (folder / "RECORD").write_text(f"{folder.name}/METADATA,,\n{folder.name}/RECORD,,\n")


def test_the_doctor_tells_of_another_distribution_with_our_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """This package was called gmd once, and both names may be installed side by side."""
    monkeypatch.syspath_prepend(tmp_path)
    left_by_a_build = tmp_path / "gmd.egg-info"
    left_by_a_build.mkdir()
    (left_by_a_build / "PKG-INFO").write_text("Name: gmd\nVersion: 9.8\n")
    (left_by_a_build / "SOURCES.txt").write_text("gmd/__init__.py\n")
    for name, version in {"gmd_surgery": "0.1.0", "gmd_tools": "1.0"}.items():
        install(tmp_path, name, version)
    assert "gmd 9." not in str(doctor.other_gmd())
    install(tmp_path, "gmd", "9.9")
    gmd.cli.main(["doctor"])
    said = "also installed: gmd 9.9, an earlier name of this package, or somebody else's with the same folder gmd/"
    assert f"  {said}; take it away: pip uninstall gmd, then install this one again\n" in capsys.readouterr().out
