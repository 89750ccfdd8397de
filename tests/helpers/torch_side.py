"""The C++ that needs torch built with CUDA, compiled as far as that goes without one: against headers, nothing linked.

torch's wheel for the CPU has the headers of ATen/cuda and c10/cuda too, but for one that CMake writes, which only says
how symbols are exported.
"""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from helpers.places import ROOT

CSRC = ROOT / "csrc"
SOURCES = [CSRC / "bindings.cpp", CSRC / "group_norm_relu.cpp", *sorted((CSRC / "cuda").rglob("torch_*.cpp"))]
# The oldest standard that a supported torch asks for, see its cpp_extension.
FLAGS = ["-std=c++17", "-Werror", "-O0", "-c", "-o", os.devnull]
DEFINED = ["-DGMD_WITH_CUDA", "-DC10_CUDA_NO_CMAKE_CONFIGURE_FILE", "-DTORCH_EXTENSION_NAME=_C"]


def why_not() -> str | None:
    """Says what is missing on this machine, or None."""
    if shutil.which(compiler()) is None:
        return f"no C++ compiler ({compiler()})"
    if not (toolkit() / "include" / "cuda_runtime_api.h").exists():
        return "no headers of CUDA's toolkit"
    if not (torch_folder() / "include" / "c10" / "cuda" / "CUDAStream.h").exists():
        return "this torch has no headers of its CUDA part"
    return None


def compiler() -> str:
    return os.environ.get("CXX", "c++").split()[0]


def toolkit() -> Path:
    return Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))


def torch_folder() -> Path:
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def flags_of_setup() -> list[str]:
    """The warnings that the build asks for, by the list in setup.py."""
    found = re.search(r"^COMPILE_FLAGS = (\[.*\])$", (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, "setup.py has no list of the compiler's flags any more"
    return list(ast.literal_eval(found[1]))


def compile_only(source: Path) -> subprocess.CompletedProcess[str]:
    """Looks at one file as the compiler of a build with CUDA does; what it warns of is an error."""
    include = torch_folder() / "include"
    # of others' headers no warning counts
    folders = [include, include / "torch/csrc/api/include", toolkit() / "include", Path(sysconfig.get_path("include"))]
    others = [word for folder in folders for word in ("-isystem", str(folder))]
    command = [compiler(), *flags_of_setup(), *FLAGS, *DEFINED, *others, str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
