"""sketch_ on a GPU: values, the same bits every time, no waiting."""

import pytest
import torch
from test_gpu_streams import no_waiting

import gmd_kernels as gk
from helpers.assertions import assert_same_bits, assert_within
from helpers.gpu_cases import KERNELS, ON_CPU, home, on_each
from helpers.kernel_cases import DTYPES
from helpers.sketch_cases import BUCKETS, SHAPES, error, make_row

place = on_each(ON_CPU, *KERNELS)


def sketched(row, d, place, dtype=torch.float32):
    [found], there = place.put([torch.zeros(d, dtype=dtype)]), place.put(row)
    with no_waiting(place):
        gk.sketch_(found, there, 3)
    return home([found])[0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("d", [*BUCKETS, 65536])
def test_values(place, dtype, d):
    row = make_row(dtype, [*SHAPES, (300, 700)] if d > 7 else SHAPES)
    for of_sketch in (torch.float32, torch.float64):
        found = sketched(row, d, place, of_sketch)
        assert_within(error(row, found))
        assert_same_bits(sketched(row, d, place, of_sketch), found)
