"""Builds gmd_kernels._C, the C++ and CUDA kernels. Without a compiler the pure PyTorch part installs alone.

Without torch nothing is built, since kernels are compiled against the torch that they will run with.
GMD_NO_CPP=1 leaves all of it out, GMD_NO_CUDA=1 the CUDA part; GMD_FORCE_CUDA=1 fails where that cannot be built.
TORCH_CUDA_ARCH_LIST names the GPUs to build for, as in "9.0"; by default those in this machine, else 8.0 to 10.0.
"""

import json
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_py import build_py
from setuptools.command.dist_info import dist_info

NEEDED = 77  # setuptools, see pyproject.toml; earlier ones fail over its license without a word of that
if Path("pyproject.toml").exists() and 0 < int(setuptools.__version__.partition(".")[0]) < NEEDED:  # 0 is unknown
    sys.exit(f"gmd-surgery: this is setuptools {setuptools.__version__}; first: pip install 'setuptools>={NEEDED}'")

# torch's thread pool on Linux is OpenMP's; elsewhere the kernels run on one thread.
THREADS = ["-fopenmp"] if sys.platform == "linux" else []
# -g0: Python's own flags, which come before these, ask for debug information, 20 times as large as the code.
COMPILE_FLAGS = ["-O3", "-g0", "-Wall", "-Wextra", "-Wno-psabi", "-Wno-unused-parameter", "-fvisibility=hidden"]
COMPILE_FLAGS += THREADS
CUDA_FLAGS = ["-O3", "-lineinfo", "-Xcompiler=-Wall"]
# `make sanitize`: a build that stops at the first access out of bounds, of freed memory, or of undefined behaviour.
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize=vptr"] if os.environ.get("GMD_SANITIZE") == "1" else []
if SANITIZE:
    COMPILE_FLAGS += [*SANITIZE, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g"]
    COMPILE_FLAGS += ["-D_GLIBCXX_ASSERTIONS"]

NO_TORCH = "torch was not there at build time"
WITHOUT_TORCH = """gmd-surgery: torch is not here, so nothing was built. The C++ kernels are compiled against the torch
that they will run with; pip, uv and build compile in an environment of their own, without it, unless told otherwise:

    pip install torch ninja pybind11 "setuptools>=77"
    pip install --no-build-isolation ".[train]"

The second line is enough where these are installed. With uv, write `uv pip` for `pip`. A wheel is made by `pip wheel
--no-build-isolation --no-deps .` or `python -m build --no-isolation`. With GMD_NO_CPP=1 in the environment the package
is built without the kernels, which is slow."""


def why_no_cpp() -> str | None:
    """Says why the C++ part cannot be built here, or None if it can."""
    if os.environ.get("GMD_NO_CPP") == "1":
        return "left out, as GMD_NO_CPP=1 asked for"
    try:
        import torch.utils.cpp_extension  # noqa: F401
    except ImportError:
        return NO_TORCH
    compiler = os.environ.get("CXX", "c++").split()[0]
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers (Python.h) were not found; install them, python3-dev for instance"
    if shutil.which(compiler) is None:
        return f"no C++ compiler ({compiler}) was found; install one, g++ for instance"
    return None


def find_toolkit() -> Path | None:
    """Returns the folder of a CUDA toolkit that has nvcc and its headers; torch is told of it too.

    torch by itself takes the folder above the nvcc that it finds, which may be a script elsewhere.
    """
    from torch.utils import cpp_extension

    for home in (os.environ.get("CUDA_HOME"), cpp_extension.CUDA_HOME, "/usr/local/cuda"):
        if home and Path(home, "bin", "nvcc").exists() and Path(home, "include", "cuda_runtime_api.h").exists():
            cpp_extension.CUDA_HOME = home
            return Path(home)
    return None


def why_no_cuda() -> str | None:
    """Says why the CUDA part cannot be built here, or None if it can."""
    if os.environ.get("GMD_NO_CUDA") == "1":
        return "left out, as GMD_NO_CUDA=1 asked for"
    if no_cpp:
        return no_cpp
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    toolkit = find_toolkit()
    if toolkit is None:
        return "CUDA's toolkit (nvcc and its headers) was not found; install it, or set CUDA_HOME to where it is"
    release = nvcc(toolkit, "--version").partition("release ")[2].partition(",")[0]
    if release.partition(".")[0] != torch.version.cuda.partition(".")[0]:
        return f"CUDA's toolkit in {toolkit} is of version {release}, torch was built with {torch.version.cuda}"
    return None


def nvcc(toolkit: Path, option: str) -> str:
    """Returns what the toolkit's nvcc prints, called with one option."""
    return subprocess.run([toolkit / "bin" / "nvcc", option], capture_output=True, text=True, check=True).stdout


def archs() -> str:
    """Returns the GPUs to build for where nobody says which, and there is none to ask."""
    toolkit = find_toolkit()
    assert toolkit is not None, "why_no_cuda has found it"
    return "8.0;9.0;10.0+PTX" if "compute_100" in nvcc(toolkit, "--list-gpu-arch") else "8.0;9.0+PTX"


def extension() -> Extension:
    """gmd_kernels._C: one set of sources for the CPU, and one more where CUDA can be built."""
    import torch
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    patterns = ["*.cpp", "cpu/*.cpp"] + ([] if no_cuda else ["cuda/**/*.cpp", "cuda/**/*.cu"])
    headers = [str(p) for p in Path("csrc").rglob("*") if p.suffix in (".h", ".inl", ".cuh")]
    kind, flags = CppExtension, {"cxx": COMPILE_FLAGS}
    if not no_cuda:
        kind, flags = CUDAExtension, {"cxx": [*COMPILE_FLAGS, "-DGMD_WITH_CUDA"], "nvcc": CUDA_FLAGS}
        if not torch.cuda.is_available():
            os.environ.setdefault("TORCH_CUDA_ARCH_LIST", archs())
    return kind(
        "gmd_kernels._C",
        sorted(str(p) for pattern in patterns for p in Path("csrc").glob(pattern)),
        depends=headers,
        extra_compile_args=flags,
        # nobody reads it: with it ninja sees that what was compiled against another torch is not what is wanted now
        define_macros=[("GMD_BUILT_WITH_TORCH", torch.__version__)],
        extra_link_args=[*THREADS, *SANITIZE],
    )


def refuse() -> None:
    """Ends where kernels would be built against no torch, or against one that gmd is not used with."""
    if no_cpp == NO_TORCH:
        sys.exit(WITHOUT_TORCH)
    if not no_cpp:
        try:
            runpy.run_path("gmd_kernels/supported_torch.py")
        except ImportError as error:
            sys.exit(f"gmd-surgery: nothing was built: {error}")


class DistInfo(dist_info):
    """Refuses at once where the build would be refused: pip asks for this first, then it fetches all dependencies."""

    def run(self) -> None:
        refuse()
        super().run()


class BuildWithInfo(build_py):
    """Leaves a note beside the package: what was built, of which sources, for which torch, and why not the rest."""

    def run(self) -> None:
        refuse()
        if not self.editable_mode:
            self.remove_former()
        super().run()
        package = Path("gmd_kernels" if self.editable_mode else Path(self.build_lib) / "gmd_kernels")
        package.mkdir(parents=True, exist_ok=True)
        if no_cpp:
            # of an earlier build in this folder; what describes the module goes with it, but not from the sources
            for stale in package.glob("_C.*so" if self.editable_mode else "_C.*"):
                stale.unlink()
        info = {"cpu": no_cpp or "built", "cuda": no_cuda or "built"}
        if not no_cpp:
            import torch

            info["torch"] = torch.__version__
            info["sources"] = runpy.run_path("gmd_kernels/sources.py")["fingerprint"](Path("csrc"))
        (package / "build_info.json").write_text(json.dumps(info) + "\n", encoding="utf-8")

    def remove_former(self) -> None:
        """Removes what an earlier build in the same folder left there: files that are gone from the sources."""
        for package in self.distribution.packages or []:
            for former in Path(self.build_lib, *package.split(".")).glob("*"):
                if former.is_file() and not former.name.startswith("_C."):  # which build_ext looks after
                    former.unlink()


no_cpp = why_no_cpp()
no_cuda = why_no_cuda()
if no_cuda and no_cpp != NO_TORCH and os.environ.get("GMD_FORCE_CUDA") == "1":
    sys.exit(f"gmd_kernels: the CUDA kernels cannot be built, as GMD_FORCE_CUDA=1 asks for: {no_cuda}")
for part, reason in {"C++": no_cpp, "CUDA": no_cuda}.items():
    print(f"gmd_kernels: the {part} kernels are {f'not built: {reason}' if reason else 'built'}", file=sys.stderr)

commands: dict = {"build_py": BuildWithInfo, "dist_info": DistInfo}
if not no_cpp:
    from torch.utils.cpp_extension import BuildExtension

    class BuildForThisTorch(BuildExtension):
        """Asks ninja each time what is out of date: setuptools would only look at the times of our own files."""

        def finalize_options(self) -> None:
            super().finalize_options()
            self.force = True

    commands["build_ext"] = BuildForThisTorch
setup(ext_modules=[] if no_cpp else [extension()], cmdclass=commands)
