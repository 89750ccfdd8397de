"""The archive of the sources: all that git has, and its tests run."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from gmd_kernels.native import compiled
from helpers.package_cases import build_wheel, copy_sources, python, quick_compiler, run
from helpers.places import ROOT

pytestmark = pytest.mark.slow
NOT_IN_IT = (".ci/", ".github/")  # what only our own machines run


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """The folder that comes out of the archive."""
    folder = tmp_path_factory.mktemp("sdist")
    tree = copy_sources(folder / "tree")
    (tree / "gmd_kernels" / "build_info.json").write_text("{}")  # of a build in this folder
    (tree / "gmd_kernels" / "_C.cpython-311-x86_64-linux-gnu.so").touch()
    done = run(sys.executable, "setup.py", "-q", "sdist", "-d", str(folder), cwd=tree)
    assert done.returncode == 0, done.stderr
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "out", filter="data")
    [top] = (folder / "out").iterdir()
    assert top.name.startswith("gmd_surgery-")
    return top


def test_it_holds_every_file_that_git_has(unpacked):
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git here, or no checkout of it")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    expected = {name for name in listed if not name.startswith(NOT_IN_IT) and (ROOT / name).exists()}
    assert len(expected) > 500, "this test would see nothing"
    found = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert sorted(expected - found) == [], "MANIFEST.in leaves them out"
    of_the_archive = {name for name in found - expected if not name.startswith("gmd_surgery.egg-info/")}
    assert of_the_archive <= {"PKG-INFO", "setup.cfg"}


def test_it_holds_nothing_that_was_built(unpacked):
    built = {".so", ".o", ".pyc"}
    assert not [path for path in unpacked.rglob("*") if path.suffix in built or path.name == "build_info.json"]


@pytest.mark.skipif(compiled is None, reason="the C++ part is not built")
def test_its_tests_run_with_the_package_that_it_installs(unpacked, tmp_path):
    tree = shutil.copytree(unpacked, tmp_path / "tree")
    wheel = build_wheel(tree, tmp_path, **quick_compiler(tmp_path))
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    tests = ("tests/ground", "tests/kernels/test_native.py", "tests/kernels/test_bindings.py")
    done = python(tmp_path / "site", "-m", "pytest", "-p", "no:cacheprovider", *tests, cwd=tree)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert f"of the copy installed in {tmp_path / 'site'}" in done.stdout, "the header says whose kernels"
