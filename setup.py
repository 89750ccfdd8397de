"""Builds gmd_kernels._C, the C++ kernels. Without torch or a C++ compiler the pure PyTorch part installs alone."""

import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SOURCES = sorted(str(p) for pattern in ("*.cpp", "cpu/*.cpp") for p in Path("csrc").glob(pattern))
HEADERS = [str(p) for pattern in ("*.h", "cpu/*.h", "cpu/*.inl") for p in Path("csrc").glob(pattern)]
# torch's thread pool on Linux is OpenMP's; elsewhere the kernels run on one thread for now.
THREADS = ["-fopenmp"] if sys.platform == "linux" else []
COMPILE_FLAGS = ["-O3", "-Wall", "-Wextra", "-Wno-psabi", "-Wno-unused-parameter", "-fvisibility=hidden", *THREADS]

# `make sanitize`: a build that stops at the first access out of bounds, of freed memory, or of undefined behaviour.
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize=vptr"] if os.environ.get("GMD_SANITIZE") == "1" else []
if SANITIZE:
    COMPILE_FLAGS += [*SANITIZE, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g"]
    COMPILE_FLAGS += ["-D_GLIBCXX_ASSERTIONS"]


def reason_not_to_build() -> str | None:
    if os.environ.get("GMD_NO_CPP") == "1":
        return "left out, as GMD_NO_CPP=1 asked for"
    try:
        import torch.utils.cpp_extension  # noqa: F401
    except ImportError:
        return "torch was not there at build time; install torch first, then use pip install --no-build-isolation"
    compiler = os.environ.get("CXX", "c++").split()[0]
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers (Python.h) were not found; install them, python3-dev for instance"
    if shutil.which(compiler) is None:
        return f"no C++ compiler ({compiler}) was found; install one, g++ for instance"
    return None


class BuildWithInfo(build_py):
    """Leaves a note for `gmd doctor`: whether the C++ kernels were built, and if not, why."""

    def run(self):
        super().run()
        package = Path("gmd_kernels" if self.editable_mode else Path(self.build_lib) / "gmd_kernels")
        package.mkdir(parents=True, exist_ok=True)
        if not_built:
            for stale in package.glob("_C.*"):  # of an earlier build in this folder
                stale.unlink()
        (package / "build_info.json").write_text(json.dumps({"cpu": not_built or "built"}) + "\n")


not_built = reason_not_to_build()
commands: dict = {"build_py": BuildWithInfo}
extensions = []
if not_built:
    print(f"gmd_kernels: the C++ kernels are not built: {not_built}", file=sys.stderr)
else:
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    extension = CppExtension(
        "gmd_kernels._C",
        SOURCES,
        depends=HEADERS,
        extra_compile_args=COMPILE_FLAGS,
        extra_link_args=[*THREADS, *SANITIZE],
    )
    extensions.append(extension)
    commands["build_ext"] = BuildExtension

setup(ext_modules=extensions, cmdclass=commands)
