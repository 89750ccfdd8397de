"""The benchmark's figures of memory are what a call has taken, and nothing else."""

import ctypes

import pandas as pd
import pytest
import torch

from bench.measure import memory, surgery
from bench.measure.contestant import Contestant, Work


def test_peak_memory_sees_what_torch_allocates_and_frees():
    result, megabytes = memory.with_peak_memory(lambda: float(torch.ones(5_000_000).sum()))
    assert result == 5_000_000
    if megabytes is None:
        pytest.skip("this system does not keep a resettable peak of resident memory")
    assert 19 < megabytes < 40


@pytest.mark.parametrize("floats", [5_000_000, 7_000_000, 50_000_000])
def test_peak_memory_sees_a_tensor_that_malloc_would_put_where_another_was(floats):
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("not a glibc whose heap this is about")
    libc.sbrk.argtypes = [ctypes.c_ssize_t]
    libc.mallopt(-3, 2**25)  # tensors up to this size come out of the heap, as after many others
    freed = [torch.ones(5_000_000) for _ in range(floats // 5_000_000)]
    libc.sbrk(4096)  # whoever else moves the end of the heap keeps malloc_trim from giving it back
    del freed
    for twice in range(2):
        result, megabytes = memory.with_peak_memory(lambda: float((torch.ones(5_000_000) + 1).sum()))
        assert result == 10_000_000
        if megabytes is None:
            pytest.skip("this system does not keep a resettable peak of resident memory")
        assert 39 < megabytes < 60, twice


@pytest.mark.parametrize(("result_bytes", "beyond"), [(0, 40), (20_000_000, 20), (100_000_000, 0)])
def test_memory_beyond_the_result_leaves_the_result_out(result_bytes, beyond):
    def twenty_megabytes_by_way_of_twenty_more() -> torch.Tensor:
        return torch.ones(5_000_000) + 1

    call, error = twenty_megabytes_by_way_of_twenty_more, lambda result: 0.0
    checked = surgery._check(Contestant("", Work(1, 0), call, error, result_bytes=result_bytes))
    if pd.isna(checked["peak_extra_MB"]):
        pytest.skip("this system does not keep a resettable peak of resident memory")
    assert checked["beyond_result_MB"] == pytest.approx(beyond, abs=3)


def test_the_peak_is_what_was_allocated():
    """4 MB, given back, then 2 MB; not what there was before."""
    before = torch.zeros(3_000_000)

    def work() -> None:
        torch.ones(1_000_000)
        before[:500_000].clone()

    assert memory.allocated_peak(work) == pytest.approx(4.0, rel=1e-3)


def test_the_end_of_what_an_earlier_profile_saw_is_not_taken_off():
    """The profiler tells of it, as it does not of what was made under no profile."""
    earlier: list[torch.Tensor] = []
    assert memory.allocated_peak(lambda: earlier.append(torch.ones(2_000_000))) == pytest.approx(8.0, rel=1e-3)

    def work() -> None:
        earlier.clear()
        torch.ones(1_000_000)

    assert memory.allocated_peak(work) == pytest.approx(4.0, rel=1e-3)
