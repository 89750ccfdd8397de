"""What installs where: with a compiler, without one, and with torch alone."""

import os
import shutil
import subprocess
import sys
import sysconfig

import pytest
import torch

from helpers.places import ROOT

pytestmark = pytest.mark.slow


def run(*command, **environment):
    env = {**os.environ, **environment}
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)


def python(site, script):
    """Runs `script` with the packages of `site` in front; -S keeps this checkout's editable installation out."""
    return run(sys.executable, "-S", "-c", script, PYTHONPATH=f"{site}{os.pathsep}{sysconfig.get_path('purelib')}")


@pytest.fixture(scope="module")
def without_compiler(tmp_path_factory):
    """The package as pip installs it on a machine that has no C++ compiler."""
    site = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    for name in ("csrc", "gmd", "gmd_kernels"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "build_info.json"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-v",
        "--no-build-isolation",
        "--no-deps",
        "--target",
        str(site),
        ".",
    ]
    env = {**os.environ, "CXX": "/nowhere/c++"}
    done = subprocess.run(pip, cwd=source, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the C++ kernels are not built: no C++ compiler (/nowhere/c++) was found" in done.stdout + done.stderr
    return site


def test_without_a_compiler_the_pytorch_part_works_and_says_what_is_missing(without_compiler):
    done = python(
        without_compiler,
        "import gmd_kernels as gk, torch; print(gk.__file__); print(gk.backends()['cpu']);"
        "print(gk.surgery([[torch.tensor([1., 0.])], [torch.tensor([-1., 2.])]]).merged)",
    )
    assert done.returncode == 0, done.stderr
    assert str(without_compiler) in done.stdout
    assert "available=False" in done.stdout
    assert "no C++ compiler (/nowhere/c++) was found; install one" in done.stdout
    assert "tensor([0.4000, 1.2000])" in done.stdout
    assert "FallbackWarning: gmd_kernels goes through the slow PyTorch reference" in done.stderr


def test_without_a_compiler_the_doctor_names_it_and_fails(without_compiler):
    done = python(without_compiler, "import sys; from gmd.cli.doctor import main; sys.exit(main())")
    assert done.returncode == 1, done.stderr
    assert "MISSING cpu: no C++ compiler (/nowhere/c++) was found; install one" in done.stdout
    assert "The kernels compute what they should: yes" in done.stdout


def test_the_kernels_and_gmd_import_with_torch_alone():
    """No extra is imported by `import gmd`, let alone by `import gmd_kernels`."""
    extras = ["monai", "nibabel", "tyro", "tqdm", "matplotlib", "scipy", "torchjd", "pandas"]
    block = f"import sys; sys.modules.update({{name: None for name in {extras}}});"
    out = run(sys.executable, "-c", block + "import gmd, gmd_kernels, gmd.cli.doctor; print(gmd.GMD.__name__)")
    assert out.stdout == "GMD\n", out.stderr


def test_the_doctor_is_content_here():
    done = run(sys.executable, "-m", "gmd", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok      cpu: C++ kernels" in done.stdout
    assert torch.__version__ in done.stdout


@pytest.mark.skipif(torch.version.cuda is not None, reason="this build of torch can make CUDA kernels")
def test_who_insists_on_cuda_is_told_why_it_cannot_be():
    done = run(sys.executable, str(ROOT / "setup.py"), "--version", GMD_FORCE_CUDA="1")
    assert done.returncode == 1
    assert "GMD_FORCE_CUDA=1" in done.stderr
    assert "was built without CUDA" in done.stderr
