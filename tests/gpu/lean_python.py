"""A Python that has no packages but those of the machine with a GPU, to try there what has to run here.

    python tests/gpu/lean_python.py import MODULE ...      ends with 1 at the first one that cannot be imported
    python tests/gpu/lean_python.py pytest OPTION ...      is pytest itself
    python tests/gpu/lean_python.py -c CODE                runs code

Every other package looks as if it were not installed, whoever asks for it.
"""

import importlib
import sys
import sysconfig
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

# What `python3` has where there is a GPU, by the names that are imported; each line with what it needs itself.
ALLOWED = {
    *("torch", "torchgen", "functorch", "triton", "numpy", "typing_extensions", "filelock", "fsspec"),
    *("sympy", "mpmath", "networkx", "jinja2", "markupsafe"),
    *("pandas", "dateutil", "six", "pytz", "tzdata"),
    *("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments", "exceptiongroup", "tomli"),
    *("xdist", "execnet", "pytest_timeout", "hypothesis", "_hypothesis_globals", "sortedcontainers", "attr", "attrs"),
    *("setuptools", "pkg_resources", "_distutils_hack", "wheel", "pip", "ninja", "pybind11"),
}
INSTALLED = tuple(sysconfig.get_paths()[key] for key in ("purelib", "platlib"))


class Lean(PathFinder):
    """Finds what Python's own finder finds, but of the packages that are installed only those that are allowed."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or fullname.partition(".")[0] in ALLOWED:
            return spec
        places = [spec.origin or "", *(spec.submodule_search_locations or [])]
        return None if any(place.startswith(INSTALLED) for place in places) else spec


def main() -> int:
    """Runs one of the commands above."""
    sys.meta_path[:] = [Lean if finder is PathFinder else finder for finder in sys.meta_path]
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # the project, not the folder of this script
    kind, *arguments = sys.argv[1:]
    if kind == "pytest":
        import pytest

        return int(pytest.main(arguments))
    if kind == "-c":
        exec(arguments[0], {"__name__": "__main__"})
        return 0
    for module in arguments:
        importlib.import_module(module)
        print(module)
    return 0


if __name__ == "__main__":
    sys.exit(main())
