"""Data that several test modules share."""

import os
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

# Triton's kernels run in its interpreter, on the CPU; this has to be known before anything imports them. Where there is
# a GPU they are compiled, and the tests of the GPU are what runs them.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import gmd_kernels as gk
from gmd_kernels import gradients
from helpers.ends_soon import limit_hypothesis, pytest_xdist_make_scheduler  # noqa: F401
from helpers.kernel_cases import BACKENDS
from helpers.training_cases import TWO

if TYPE_CHECKING:
    from gmd.config import TrainBrats


limit_hypothesis()


def pytest_configure(config: pytest.Config) -> None:
    # the interpreter computes with numpy, which warns of an overflow where a processor says nothing
    config.addinivalue_line("filterwarnings", "ignore::RuntimeWarning:triton.runtime.interpreter")


# begun with, so that no worker is left alone with them at the end; a minute each, seconds the others
FIRST_FILES = ("test_cuda_build", "test_triton_compile", "test_instruction_sets", "test_docs", "test_precision")
# Of each test's cases on Triton, whose interpreter takes a thousand times as long as the C++ kernels: how many are run
# by `make test`, and how many more by `make slow`.
TRITON_IN_TEST, TRITON_IN_SLOW = 1, 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives Triton a sample of each test's cases, always the same one, and puts the files that take long first.

    `pytest -m interpreted` runs the cases that are in no sample.
    """
    cases = defaultdict(list)
    for item in items:
        if getattr(item, "callspec", None) and item.callspec.params.get("backend") == "triton":
            cases[item.path, item.originalname].append(item)
    items.sort(key=lambda item: item.path.stem not in FIRST_FILES)
    for of_one_test in cases.values():
        ranked = sorted(of_one_test, key=lambda item: zlib.crc32(item.name.encode()))[TRITON_IN_TEST:]
        for rank, item in enumerate(ranked):
            item.add_marker(pytest.mark.slow if rank < TRITON_IN_SLOW else pytest.mark.interpreted)


def pytest_report_header() -> str:
    native = getattr(gradients._C, "__file__", "no C++ part")  # `make sanitize` has one of its own
    return f"gmd_kernels: {gk.backends()['cpu'].reason}, {native}"


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each backend of gmd_kernels in turn, the only one for the length of the test."""
    monkeypatch.setenv("GMD_BACKEND", request.param)
    return request.param


@pytest.fixture(scope="session", autouse=True)
def quick_interpreter() -> Iterator[pytest.MonkeyPatch]:
    """Triton's interpreter takes as long for a tile of 64 elements as for one of 1024; `tiles_of_a_gpu` undoes it."""
    with pytest.MonkeyPatch.context() as patch:
        _widen_tiles(patch)
        yield patch


@pytest.fixture
def tiles_of_a_gpu(quick_interpreter: pytest.MonkeyPatch) -> Iterator[None]:
    quick_interpreter.undo()
    yield
    _widen_tiles(quick_interpreter)


def _widen_tiles(patch: pytest.MonkeyPatch) -> None:
    if "triton" in BACKENDS:
        from gmd_kernels.triton_ops import combine_kernel, gram_kernel

        patch.setattr(gram_kernel, "BLOCKS", dict.fromkeys(gram_kernel.BLOCKS, 1024))
        patch.setattr(combine_kernel, "UNALIGNED", 8)
        patch.setattr(combine_kernel, "ROWS", 64)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tensors of test size are slower on several threads, far slower where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is known of cases that were read before is that of this process's tests, not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 6 synthetic cases, 32 voxels along each axis, four modalities. Do not write into it."""
    from gmd.data.segmentation.phantom import write_phantoms

    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, cases=6, shape=(32, 32, 32), seed=0)
    return folder


@pytest.fixture(scope="session")
def sentiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 40 synthetic samples of text, audio and vision, 28 of them for training."""
    from gmd.data.sequences.phantom import write_sentiment_phantom

    path = tmp_path_factory.mktemp("sentiment") / "sentiment.npz"
    write_sentiment_phantom(path, samples=40, seed=0)
    return path


@pytest.fixture
def config(phantoms: Path, tmp_path: Path) -> "TrainBrats":
    """The smallest training there is: 3 subsets, 2 epochs of 2 steps."""
    from gmd.config import TrainBrats

    return TrainBrats(
        data=phantoms,
        out=tmp_path / "run",
        modalities=TWO,
        width=0.125,
        patch=(16, 16, 16),
        epochs=2,
        steps_per_epoch=2,
        validate_every=2,
        device="cpu",
    )


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    import gmd.training.loop

    monkeypatch.setattr(gmd.training.loop, "draw_pictures", lambda run, task: "not drawn")
