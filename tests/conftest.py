"""Data that several test modules share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import gmd_kernels as gk
from gmd_kernels import gradients


def pytest_report_header() -> str:
    native = getattr(gradients._C, "__file__", "no C++ part")  # `make sanitize` has one of its own
    return f"gmd_kernels: {gk.backends()['cpu'].reason}, {native}"


@pytest.fixture(params=["cpu", "reference"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each backend of gmd_kernels in turn, the only one for the length of the test."""
    monkeypatch.setenv("GMD_BACKEND", request.param)
    return request.param


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tensors of test size are slower on several threads, far slower where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 6 synthetic cases, 32 voxels along each axis, four modalities. Do not write into it."""
    from gmd.data.phantom import write_phantoms

    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, cases=6, shape=(32, 32, 32), seed=0)
    return folder
