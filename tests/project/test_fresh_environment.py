"""A wheel in an environment that has nothing but torch: it installs, and `gmd doctor` answers and computes."""

import resource
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from gmd_kernels.native import compiled
from helpers.package_cases import build_wheel, copy_sources, quick_compiler, run

pytestmark = pytest.mark.slow
MOST_SECONDS = 60  # for both: what is asked of a release, where nothing else is at work


def needed_by(name: str) -> set[str]:
    """A package and all that it depends on here, without extras, as they are called where they are installed."""
    found, wanted = set(), {name}
    while wanted:
        name = wanted.pop()
        found.add(name)
        needs = [Requirement(line) for line in metadata.requires(name) or ()]
        wanted |= {each.name for each in needs if each.marker is None or each.marker.evaluate({"extra": ""})} - found
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return copy_sources(tmp_path_factory.mktemp("source") / "tree")


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment that was made just now. Torch, and what torch needs, lie in a folder that it looks into."""
    folder, linked = tmp_path / "env", tmp_path / "linked"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    linked.mkdir()
    for name in needed_by("torch"):
        tops = {file.parts[0] for file in metadata.files(name) or ()}
        for top in tops - {"..", "__pycache__"}:
            (linked / top).symlink_to(Path(sysconfig.get_path("purelib"), top))
    [site] = folder.glob("lib/python*/site-packages")
    (site / "torch.pth").write_text(f"{linked}\n")
    return folder


def processor_seconds() -> float:
    """What all commands so far took of a processor: on a machine that others use, the clock tells of them too."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def installed(environment: Path, wheel: Path) -> subprocess.CompletedProcess:
    """What pip says that installs the wheel, and finds there what it depends on; nothing is fetched."""
    pip = (sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"))
    return run(*pip, "install", "--no-index", str(wheel), PYTHONPATH="")


@pytest.mark.parametrize("compiler", [pytest.param("c++", marks=pytest.mark.skipif(compiled is None, reason="")), ""])
def test_a_wheel_installs_beside_torch_and_the_doctor_answers(source, environment, tmp_path, compiler):
    (tmp_path / "compiler").mkdir()
    choice = quick_compiler(tmp_path / "compiler") if compiler else {"CXX": "/nowhere/c++"}
    wheel = build_wheel(source, tmp_path / "wheels", **choice)
    before = processor_seconds()
    done = installed(environment, wheel)
    assert done.returncode == 0, done.stdout + done.stderr
    doctor = run(str(environment / "bin" / "gmd"), "doctor", PYTHONPATH="")
    assert processor_seconds() - before < MOST_SECONDS
    assert "Traceback" not in doctor.stderr, doctor.stderr
    assert f"torch {torch.__version__}" in doctor.stdout
    assert "The kernels compute what they should: yes" in doctor.stdout
    assert "MISSING train: " in doctor.stdout
    assert ("ok      cpu: C++ kernels" in doctor.stdout) == bool(compiler)
    assert ("MISSING cpu: no C++ compiler (/nowhere/c++) was found" in doctor.stdout) == (not compiler)
