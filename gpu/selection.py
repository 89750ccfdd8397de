"""A plugin of pytest, `-p gpu.selection`: of the tests for a GPU only those whose backends are asked for.

`--backends cuda` runs what the CUDA kernels are tested with, `--backends triton,reference,none` all else that needs a
GPU; "none" are the tests that choose no backend. What runs on the CPU is left out either way: it needs no GPU.
"""

import pytest

NO_BACKEND = "none"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backends", default="", help="of the tests for a GPU those of these backends, with commas")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--backends").split(",")
    left_out = [item for item in items if backend_of(item) not in wanted]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if backend_of(item) in wanted]


def backend_of(item: pytest.Item) -> str:
    """Returns the backend whose kernels the test looks at, "cpu" where it runs there, "none" without any."""
    callspec = getattr(item, "callspec", None)
    places = [] if callspec is None else [value for value in callspec.params.values() if hasattr(value, "backend")]
    return str(places[0].backend) if places else NO_BACKEND
