"""The build for a GPU: without pyproject.toml, taken from an earlier run where it fits, and honest where it fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gpu import build
from helpers.places import ROOT

# Stands in for setup.py: it fails where setuptools would read pyproject.toml, else leaves a module.
SETUP = """
import pathlib, sys
assert not pathlib.Path("pyproject.toml").exists(), "this version of setuptools refuses the license"
print("compiling", sys.argv[1:])
assert sys.argv[1] == "build_ext"
words = pathlib.Path("csrc/kernel.cu").read_text()
if "mistake" in words:
    sys.exit("kernel.cu: a mistake")
library = pathlib.Path(sys.argv[sys.argv.index("--build-lib") + 1])
(library / "gmd_kernels" / "_C.some-python.so").write_text("built from " + words)
"""


# An installation of this checkout in place would lend its module.
NOT_INSTALLED = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "__name__", "") != "_EditableFinder"]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small one with a build of its own; what it builds loads unless it says that it does not."""
    root, library = tmp_path / "root", tmp_path / "root" / "build" / "gpu" / "lib"
    (root / "csrc").mkdir(parents=True)
    (root / "gmd_kernels").mkdir()
    (root / "csrc" / "kernel.cu").write_text("a kernel")
    (root / "setup.py").write_text(SETUP)
    (root / "pyproject.toml").write_text("license of a later standard")
    (root / "gmd_kernels" / "__init__.py").write_text("")
    (root / "gmd_kernels" / "_C.this-python.so").write_text("of the checkout")
    for name, value in {"ROOT": root, "BUILD": library.parent, "LIBRARY": library}.items():
        monkeypatch.setattr(build, name, value)
    monkeypatch.setattr(build, "loads", lambda: "broken" not in module(root).read_text())
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    return root


def module(root: Path) -> Path:
    """The only one in the library."""
    (found,) = (root / "build" / "gpu" / "lib" / "gmd_kernels").glob("_C*")
    return found


def run(root: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["build", str(root.parent / "out")])
    return build.main()


def kept(root: Path) -> list[Path]:
    return sorted((root.parent / "out").rglob("*.so"))


def carry(root: Path) -> None:
    """What a person does between two runs."""
    (root.parent / "out" / "built").rename(root / "built")


def test_it_builds_without_pyproject_and_leaves_a_copy(project, monkeypatch, capfd):
    assert run(project, monkeypatch) == 0
    assert "compiling" in capfd.readouterr().out
    assert module(project).read_text() == "built from a kernel"
    (copy,) = kept(project)
    assert copy.read_text() == "built from a kernel"
    assert copy.relative_to(project.parent / "out").parts == ("built", build.fingerprint(), "_C.some-python.so")
    assert (project / "build/gpu/lib/gmd_kernels/__init__.py").exists()
    info = json.loads((project / "build/gpu/lib/gmd_kernels/build_info.json").read_text())
    assert info == {"cpu": "built", "cuda": "built"}


def test_a_second_run_uses_what_the_first_has_built(project, monkeypatch, capfd):
    run(project, monkeypatch)
    carry(project)
    capfd.readouterr()
    assert run(project, monkeypatch) == 0
    shown = capfd.readouterr().out
    assert "built before, from the same sources" in shown
    assert "compiling" not in shown
    assert module(project).read_text() == "built from a kernel"
    assert not kept(project)


@pytest.mark.parametrize("change", ["source", "GPU", "setup.py", "torch"])
def test_what_was_built_from_something_else_is_not_used(project, monkeypatch, capfd, change):
    run(project, monkeypatch)
    carry(project)
    if change == "source":
        (project / "csrc" / "kernel.cu").write_text("a better kernel")
    elif change == "GPU":
        monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "10.0")
    elif change == "setup.py":
        (project / "setup.py").write_text(SETUP + "\n")
    else:
        monkeypatch.setattr(build.metadata, "version", lambda name: "another")
    capfd.readouterr()
    assert run(project, monkeypatch) == 0
    assert "compiling" in capfd.readouterr().out
    assert len(kept(project)) == 1


def test_what_does_not_load_is_built_anew(project, monkeypatch, capfd):
    run(project, monkeypatch)
    carry(project)
    (built,) = (project / "built").rglob("*.so")
    built.write_text("broken")
    assert run(project, monkeypatch) == 0
    shown = capfd.readouterr().out
    assert "which does not load here" in shown
    assert module(project).read_text() == "built from a kernel"


@pytest.mark.parametrize("words", ["a mistake", "broken"])
def test_a_build_that_fails_leaves_the_rest_of_the_package(project, monkeypatch, capfd, words):
    """Nothing of an earlier build stays there, which would be taken for this one."""
    assert run(project, monkeypatch) == 0
    for copy in kept(project):
        copy.unlink()
    (project / "csrc" / "kernel.cu").write_text(words)
    assert run(project, monkeypatch) == 1
    package = project / "build/gpu/lib/gmd_kernels"
    assert {path.name for path in package.iterdir()} == {"__init__.py", "build_info.json"}
    assert json.loads((package / "build_info.json").read_text())["cuda"] == "left out, as its build failed"
    assert not kept(project)


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built with CUDA")
def test_where_the_real_one_cannot_be_built_triton_and_the_reference_are_left(tmp_path, monkeypatch):
    """As on a machine without a compiler: the reason is told, and gmd_kernels works without the module."""
    monkeypatch.setattr(build, "BUILD", tmp_path)
    monkeypatch.setattr(build, "LIBRARY", tmp_path / "lib")
    monkeypatch.setattr(sys, "argv", ["build", str(tmp_path / "out")])
    monkeypatch.setenv("GMD_FORCE_CUDA", "1")
    assert build.main() != 0
    assert not (tmp_path / "out").exists()
    code = "import gmd_kernels as gk; print(gk.__file__); print({n: b.available for n, b in gk.backends().items()})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "lib"), str(ROOT)])}
    command = [sys.executable, "-c", NOT_INSTALLED + code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    place, found = done.stdout.splitlines()
    assert place.startswith(str(tmp_path / "lib"))
    assert "'cpu': False" in found
    assert "'reference': True" in found
