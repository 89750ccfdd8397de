"""What installs where, and what it says of itself: with a compiler, without one, without torch, with torch alone."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import gmd
from gmd_kernels.native import compiled
from helpers.package_cases import build_wheel, copy_sources, python, quick_compiler, run
from helpers.places import ROOT

pytestmark = pytest.mark.slow
needs_cpp = pytest.mark.skipif(compiled is None, reason="the C++ part is not built")
MOST_OF_A_WHEEL = 1.7e6  # bytes: it has 1.5e6; with debug information of the kernels it had 9e6
USE = (
    "import gmd_kernels as gk, torch; print(gk.__file__); print(gk.backends()['cpu']);"
    "print(gk.surgery([[torch.tensor([1., 0.])], [torch.tensor([-1., 2.])]]).merged)"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout, in which nothing was built. Do not write into it."""
    return copy_sources(tmp_path_factory.mktemp("source") / "tree")


# With a compiler


@pytest.fixture(scope="module")
def built(source, tmp_path_factory) -> SimpleNamespace:
    """A wheel, where it is unpacked, what it says of itself, and the flags that it was compiled with."""
    folder = tmp_path_factory.mktemp("built")
    tree = shutil.copytree(source, folder / "tree")
    wheel = build_wheel(tree, folder / "wheels", **quick_compiler(folder))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    [metadata] = (folder / "site").glob("*.dist-info/METADATA")
    about = message_from_bytes(metadata.read_bytes())
    return SimpleNamespace(
        wheel=wheel, site=folder / "site", about=about, tree=tree, calls=(folder / "calls.txt").read_text().splitlines()
    )


@needs_cpp
def test_a_wheel_is_small_and_for_this_python_and_processor(built):
    python_tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    machine = sysconfig.get_platform().replace("-", "_")
    assert built.wheel.name == f"gmd_surgery-{gmd.__version__}-{python_tag}-{python_tag}-{machine}.whl"
    assert built.wheel.stat().st_size < MOST_OF_A_WHEEL
    assert {path.name for path in built.site.iterdir()} == {
        "gmd",
        "gmd_kernels",
        f"gmd_surgery-{gmd.__version__}.dist-info",
    }
    assert not list(built.site.rglob("test_*"))


@needs_cpp
def test_the_module_is_compiled_without_debug_information_and_anew_for_another_torch(built):
    compilations = [call.split() for call in built.calls if " -c " in call]
    assert len(compilations) > 5, "this test would see nothing"
    for flags in compilations:
        assert [flag for flag in flags if re.fullmatch(r"-g[0-3]?", flag)][-1] == "-g0"
        assert f"-DGMD_BUILT_WITH_TORCH={torch.__version__}" in flags


@needs_cpp
def test_the_sanitized_build_keeps_its_lines(source, tmp_path):
    environment = quick_compiler(tmp_path)
    build = [sys.executable, "setup.py", "-q", "build", "--build-base", str(tmp_path / "build")]
    done = run(*build, cwd=source, GMD_SANITIZE="1", **environment)
    assert done.returncode == 0, done.stderr
    for call in (tmp_path / "calls.txt").read_text().splitlines():
        if " -c " in call:
            assert [flag for flag in call.split() if re.fullmatch(r"-g[0-3]?", flag)][-1] == "-g"


@needs_cpp
def test_modules_that_are_gone_from_the_sources_are_in_no_wheel(built, tmp_path):
    """Those of an earlier build, in the same checkout, of an earlier version."""
    tree = shutil.copytree(built.tree, tmp_path / "tree")
    [library] = (tree / "build").glob("lib*")
    for name in ("gmd/cli/of_old.py", "gmd_kernels/of_old.py", "gmd/report/templates/of_old.html"):
        (library / name).touch()
    names = zipfile.ZipFile(build_wheel(tree, tmp_path, **quick_compiler(tmp_path))).namelist()
    assert len([name for name in names if "/templates/" in name]) > 5
    assert not [name for name in names if "of_old" in name]


@needs_cpp
def test_the_package_works_where_it_is_installed(built):
    done = python(built.site, "-W", "error", "-c", USE)
    assert done.returncode == 0, done.stderr
    place, backend, merged = done.stdout.splitlines()
    assert place.startswith(str(built.site))
    assert "available=True" in backend
    assert "of the copy" not in backend
    assert merged == "[tensor([0.4000, 1.2000])]"


@needs_cpp
def test_python_started_in_the_checkout_uses_the_installed_kernels(built, source):
    """The checkout's gmd_kernels hides the installed one, as with `python -c "import gmd"` after `pip install .`."""
    done = run(sys.executable, "-S", "-W", "error", "-c", USE, cwd=source, PYTHONPATH=sites(built.site))
    assert done.returncode == 0, done.stderr
    place, backend, merged = done.stdout.splitlines()
    assert place.startswith(str(source))
    assert f", of the copy installed in {built.site}" in backend
    assert merged == "[tensor([0.4000, 1.2000])]"


@needs_cpp
def test_python_started_in_a_changed_checkout_says_so(built, source, tmp_path):
    tree = shutil.copytree(source, tmp_path / "tree")
    (tree / "csrc" / "more.h").write_text("#pragma once\n")
    done = run(sys.executable, "-S", "-c", USE, cwd=tree, PYTHONPATH=sites(built.site))
    assert done.returncode == 0, done.stderr
    assert f"this is the source tree in {tree}, where the C++ kernels are not built" in done.stderr
    assert f'or build them: pip install --no-build-isolation -e "{tree}"' in done.stderr


def sites(site: Path) -> str:
    return f"{site}:{sysconfig.get_path('purelib')}"


@needs_cpp
def test_kernels_for_another_torch_are_not_loaded_and_the_doctor_says_what_to_type(built, tmp_path):
    site = shutil.copytree(built.site, tmp_path / "site")
    note = site / "gmd_kernels" / "build_info.json"
    note.write_text(note.read_text().replace(torch.__version__, "2.8.0+cu130"))
    done = python(site, "-c", "import sys; from gmd.cli.doctor import main; sys.exit(main())")
    assert done.returncode == 1, done.stderr
    said = f"were built with torch 2.8.0+cu130, this is torch {torch.__version__}, and torch promises nothing"
    assert f"MISSING cpu: the C++ kernels in {site / 'gmd_kernels'} {said}" in done.stdout
    assert "build them, in the folder of gmd's sources: pip install --no-build-isolation .\n" in done.stdout


# What the module asks of a machine


def told_by_readelf(option: str) -> str:
    if shutil.which("readelf") is None:
        pytest.skip("readelf, of binutils, is not on this machine")
    return subprocess.run(
        ["readelf", "-W", option, str(compiled.__file__)], capture_output=True, text=True, check=True
    ).stdout


@needs_cpp
def test_the_module_holds_no_debug_information():
    sections = told_by_readelf("-S")
    assert ".text" in sections
    assert ".debug" not in sections


@needs_cpp
def test_the_module_takes_torchs_libraries_from_torch_and_none_that_is_rare():
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", told_by_readelf("-d")))
    of_torch = {library for library in needed if re.match(r"lib(torch|c10)", library)}
    assert {"libc10.so", "libtorch_cpu.so", "libtorch_python.so"} <= of_torch
    system = {"libstdc++.so.6", "libm.so.6", "libgomp.so.1", "libgcc_s.so.1", "libc.so.6", "ld-linux-x86-64.so.2"}
    cuda = {library for library in needed if library.startswith("libcudart.so")}
    assert needed <= of_torch | system | cuda
    assert bool(cuda) == (torch.version.cuda is not None and hasattr(compiled, "gram_cuda"))


# The newest of each in auditwheel's policy manylinux_2_34, which is its verdict on a wheel of this machine's.
NEWEST = {"GLIBC": (2, 34), "GLIBCXX": (3, 4, 29), "CXXABI": (1, 3, 13), "GCC": (7, 0, 0)}


@needs_cpp
def test_the_module_asks_for_no_symbol_newer_than_manylinux_2_34():
    found = set(re.findall(rf"Name: ({'|'.join(NEWEST)})_([0-9.]+)", told_by_readelf("-V")))
    assert len(found) > 5, "this test would see nothing"
    too_new = {f"{kind}_{version}" for kind, version in found if tuple(map(int, version.split("."))) > NEWEST[kind]}
    assert not too_new


# What an index and pip read


@needs_cpp
def test_the_package_says_what_it_is(built):
    about: Message = built.about
    assert (about["Name"], about["Version"]) == ("gmd-surgery", gmd.__version__)
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Author"]
    assert about["Keywords"]
    assert any(line.startswith("Programming Language :: Python :: 3") for line in about.get_all("Classifier"))
    wanted = about.get_all("Requires-Dist")
    assert [line for line in wanted if "extra ==" not in line] == ["torch>=2.8"]
    strangers = [line for line in wanted if re.match(r"gmd(?!-surgery)", line)]
    assert not strangers, "somebody else's package"


@needs_cpp
def test_nothing_in_the_long_description_is_dead_on_an_index(built):
    text = built.about.get_payload()
    assert "pip install --no-build-isolation" in text
    assert not re.findall(r"\]\((?!https://)", text), "links and pictures beside it are not there"
    assert "<img" not in text


OF_A_STRANGER = re.compile(r"""\b(pip3?|uv|pipx) (install|add)\b[^`]*\sgmd(?![\w./-])|["' ]gmd\[""")


@pytest.mark.parametrize(
    "line", ["pip install gmd", 'pip install "gmd[train]"', "pip install -U gmd", "`gmd[bench]`: 'gmd[dev]'"]
)
def test_what_finds_advice_to_install_a_strangers_package_finds_it(line):
    assert OF_A_STRANGER.search(line)


def test_nobody_is_told_to_install_a_strangers_package():
    """On indexes `gmd` is not ours. The page on trust says what not to type."""
    texts = [path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if path.name != "security.md"]
    texts += [ROOT / name for name in ("pyproject.toml", "setup.py", "Makefile")]
    folders = ("gmd", "gmd_kernels", "examples", "bench", "gpu")
    texts += [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    for path in texts:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not OF_A_STRANGER.search(line), path


# Without torch, as in the environments that pip, uv and build make for a build


@pytest.fixture(scope="module")
def isolated(tmp_path_factory) -> Path:
    """A folder of packages that has setuptools and nothing else."""
    folder = tmp_path_factory.mktemp("isolated")
    packages = Path(sysconfig.get_path("purelib"))
    for package in (*packages.glob("setuptools*"), packages / "_distutils_hack"):
        (folder / package.name).symlink_to(package)
    return folder


def setup(isolated: Path, source: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    return run(sys.executable, "-S", "setup.py", *command, cwd=source, PYTHONPATH=str(isolated), **environment)


COMMANDS = {"metadata": ["dist_info", "-o"], "wheel": ["bdist_wheel", "-d"], "modules": ["build_py", "-d"]}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("asked", [{}, {"GMD_FORCE_CUDA": "1"}], ids=["plain", "CUDA"])
def test_a_build_without_torch_is_refused_with_what_to_type(isolated, source, tmp_path, command, asked):
    done = setup(isolated, source, *command, str(tmp_path), **asked)
    assert done.returncode == 1
    assert "torch is not here, so nothing was built" in done.stderr
    assert 'pip install --no-build-isolation ".[train]"\n' in done.stderr
    assert not list(tmp_path.iterdir())


OLD_TORCH = {
    "__init__.py": "__version__ = '2.7.1'",
    "version.py": "cuda = None",
    "utils/__init__.py": "",
    "utils/cpp_extension.py": "from setuptools import Extension\n"
    "from setuptools.command.build_ext import build_ext as BuildExtension\n"
    "CUDAExtension = CUDA_HOME = None\n"
    "def CppExtension(name, sources, **_): return Extension(name, sources)",
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_build_with_a_torch_that_is_too_old_is_refused(isolated, source, tmp_path, command):
    """Pip would fetch a newer one beside kernels that were compiled against the old one."""
    for name, text in OLD_TORCH.items():
        path = tmp_path / "packages" / "torch" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("from . import version\n" * (name == "__init__.py") + text)
    (out := tmp_path / "out").mkdir()
    folders = f"{isolated}:{tmp_path / 'packages'}"
    done = run(sys.executable, "-S", "setup.py", *command, str(out), cwd=source, PYTHONPATH=folders)
    assert done.returncode == 1
    assert "nothing was built: gmd needs torch 2.8 or later, this is torch 2.7.1" in done.stderr
    assert not list(out.iterdir())


def test_a_build_without_torch_goes_on_where_no_kernels_are_wanted(isolated, source, tmp_path):
    done = setup(isolated, source, "bdist_wheel", "-d", str(tmp_path), "-b", str(tmp_path / "b"), GMD_NO_CPP="1")
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name == f"gmd_surgery-{gmd.__version__}-py3-none-any.whl"


def test_an_archive_of_the_sources_needs_no_torch(isolated, source, tmp_path):
    done = setup(isolated, source, "-q", "sdist", "-d", str(tmp_path))
    assert done.returncode == 0, done.stderr
    [archive] = tmp_path.glob("*.tar.gz")
    assert tarfile.is_tarfile(archive)


def test_an_old_setuptools_is_named(source, tmp_path):
    commands = tmp_path / "setuptools" / "command"
    commands.mkdir(parents=True)
    (tmp_path / "setuptools" / "__init__.py").write_text("__version__ = '65.5.0'; Extension = setup = None")
    for name in ("__init__", "build_py", "dist_info"):
        (commands / f"{name}.py").write_text(f"{name} = None")
    done = setup(tmp_path, source, "--version")
    assert done.returncode == 1
    assert done.stderr == "gmd-surgery: this is setuptools 65.5.0; first: pip install 'setuptools>=77'\n"


# Without a compiler


@pytest.fixture(scope="module")
def without_compiler(source, tmp_path_factory):
    """The package as pip installs it on a machine that has no C++ compiler."""
    site = tmp_path_factory.mktemp("site")
    pip = [
        *(sys.executable, "-m", "pip", "install", "-v", "--no-build-isolation", "--no-deps"),
        "--target",
        str(site),
        ".",
    ]
    tree = shutil.copytree(source, tmp_path_factory.mktemp("without") / "tree")
    done = run(*pip, cwd=tree, CXX="/nowhere/c++")
    assert done.returncode == 0, done.stderr
    assert "the C++ kernels are not built: no C++ compiler (/nowhere/c++) was found" in done.stdout + done.stderr
    return site


def test_without_a_compiler_the_pytorch_part_works_and_says_what_is_missing(without_compiler):
    done = python(without_compiler, "-c", USE)
    assert done.returncode == 0, done.stderr
    assert str(without_compiler) in done.stdout
    assert "available=False" in done.stdout
    assert "no C++ compiler (/nowhere/c++) was found; install one" in done.stdout
    assert "tensor([0.4000, 1.2000])" in done.stdout
    assert "FallbackWarning: gmd_kernels goes through the slow PyTorch reference" in done.stderr


def test_without_a_compiler_the_doctor_names_it_and_fails(without_compiler):
    done = python(without_compiler, "-c", "import sys; from gmd.cli.doctor import main; sys.exit(main())")
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
