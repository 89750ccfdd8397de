"""The reference on a library that adds up in an order of its own: what holds on every processor."""

from itertools import pairwise

import pytest
import torch

from gmd_kernels import reference
from gmd_kernels.gradients import read
from helpers.any_order import AnyOrder
from helpers.assertions import assert_equal, assert_gram, assert_same_bits
from helpers.kernel_cases import DTYPES, LAYOUTS, make_grads
from helpers.owm_cases import TYPES, errors, make_case


def test_the_two_triangles_of_a_product_differ():
    rows = torch.randn(15, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with AnyOrder():
        product = rows @ rows.T
        assert not torch.equal(product, product.T)
        assert torch.equal(torch.mv(rows, rows[0]), torch.mv(rows, rows[0].clone()))
        strided = torch.stack([rows[0], rows[0]], dim=1)[:, 0]
        assert not torch.equal(torch.mv(rows, strided), torch.mv(rows, rows[0].clone()))
    assert torch.allclose(product, rows @ rows.T)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("num_objectives", [1, 3, 15, 64])
def test_the_gramian_is_symmetric_and_right(dtype: torch.dtype, num_objectives: int):
    grads = make_grads(num_objectives, [(1500,), (7, 5), (), (0,), (515,)], dtype=dtype)
    for groups in ([], [0, 2, 1, 1, 2]):
        with AnyOrder():
            grams = reference.gram(read(grads), groups, 3 if groups else 1)
        assert_equal(grams, grams.mT)
        assert_gram(grads, grams, groups or None, "reference")


@pytest.mark.parametrize("types", TYPES)
def test_the_update_of_a_projector_is_symmetric_and_the_same_for_any_strides(types: str):
    results = []
    for layout in ("contiguous", "permuted", "every_second", "offset", "padded", "negated"):
        before = make_case(33, types=types)
        case = before.clone()
        grad, h = LAYOUTS[layout](case.weight_grad), LAYOUTS[layout](case.mean_input)
        with AnyOrder():
            reference.owm_update_(case.projector, grad, h, case.alpha)
        assert_equal(case.projector, case.projector.T)
        error = max(errors(before, case._replace(weight_grad=grad)))
        assert error <= 1, layout
        results.append((case.projector, grad))
    for result, other in pairwise(results):
        assert_same_bits(result, other)
