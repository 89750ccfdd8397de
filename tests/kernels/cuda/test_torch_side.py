"""The ops on torch's tensors on a GPU compile, without a warning: no machine without a GPU builds them otherwise."""

import pytest

from helpers import torch_side
from helpers.places import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(torch_side.why_not() is not None, reason=str(torch_side.why_not()))]


@pytest.mark.parametrize("name", [path.relative_to(ROOT).as_posix() for path in torch_side.SOURCES])
def test_it_compiles_against_the_headers_of_torch_and_cuda(name):
    done = torch_side.compile_only(ROOT / name)
    assert done.returncode == 0, done.stderr[-5000:]


MISTAKES = {
    "no such function": ("int wrong() { return c10::cuda::nothing_like_that(); }", "nothing_like_that"),
    "a warning": ("static int unused() { return 1; }", "Werror=unused-function"),
    "the standard": ("#include <concepts>\nstatic_assert(std::integral<int>);", "integral"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(tmp_path, mistake):
    text, words = MISTAKES[mistake]
    source = tmp_path / "mistaken.cpp"
    source.write_text(f"#include <c10/cuda/CUDAFunctions.h>\n{text}\n")
    done = torch_side.compile_only(source)
    assert done.returncode != 0
    assert words in done.stderr
