"""The oracle's bounds: wide enough for a sum in any order, too narrow for a fault."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from helpers.any_order import AnyOrder
from helpers.assertions import assert_equal, assert_gram, assert_same_bits
from helpers.kernel_cases import make_grads
from helpers.oracle import add_up, gram_error, gramian, halvings, roundings_of, sum_bound

Fault = Callable[[Tensor], Tensor]
FLOAT64 = [(3, torch.float32, "cpu"), (7, torch.float64, "cpu"), (7, torch.float32, "reference")]

each_length = pytest.mark.parametrize("n", [3, 70, 7000, 131_075])


def rows(num_objectives: int, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(num_objectives, n, generator=torch.Generator().manual_seed(n), dtype=dtype)


def error(jacobian: Tensor, gram: Tensor, **by) -> float:
    return gram_error([[row] for row in jacobian], gram, **by)


def test_sums_by_halves():
    assert [halvings(n) for n in (0, 1, 2, 3, 4, 5, 1024, 1025)] == [0, 0, 1, 2, 2, 3, 10, 11]
    for n in (0, 1, 2, 3, 7, 64, 1000):
        assert torch.equal(add_up(torch.arange(3.0 * n).view(3, n)), torch.arange(3.0 * n).view(3, n).sum(dim=1))


def test_the_bound_of_a_sum_of_random_terms_is_at_most_that_of_any():
    for n in (0, 1, 64, 65, 10**6):
        assert sum_bound(n, worst=False) <= sum_bound(n) == pytest.approx(n * 2.0**-53)
    assert sum_bound(10**6, worst=False) == pytest.approx(8 * 1000 * 2.0**-53)


def test_our_own_kernels_round_less_than_one_long_chain():
    assert roundings_of([1000, 70], "cpu") == 129 + 15 + 2 + 1 + 2 + 72
    assert roundings_of([1000, 70], "reference") == roundings_of([1000, 70], "triton") == 1070
    assert roundings_of([3, 4], "cpu") == 7


@pytest.mark.slow
@pytest.mark.parametrize("worst", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@each_length
def test_one_long_chain_is_within_the_bounds(n: int, dtype: torch.dtype, worst: bool):
    """Of all orders the one with the most roundings for each term, from either end."""
    jacobian = rows(3, n, dtype)
    with AnyOrder():
        gram = jacobian.double() @ jacobian.double().T
    assert error(jacobian, gram, backend="reference", worst=worst) <= 1


def without_the_last(jacobian: Tensor) -> Tensor:
    return gramian(jacobian[:, :-1])


def one_element_twice(jacobian: Tensor) -> Tensor:
    return gramian(torch.cat([jacobian, jacobian[:, :1]], dim=1))


def products_in_float32(jacobian: Tensor) -> Tensor:
    return torch.stack([add_up((row * jacobian.float()).double()) for row in jacobian.float()])


def sums_in_float32(jacobian: Tensor) -> Tensor:
    return torch.stack([add_up(row * jacobian.float()) for row in jacobian.float()]).double()


def result_in_float32(jacobian: Tensor) -> Tensor:
    return gramian(jacobian).float().double()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("fault", [without_the_last, one_element_twice])
@pytest.mark.parametrize("num_objectives", [3, 7])
@each_length
def test_a_sum_of_other_elements_is_noticed(fault: Fault, n: int, num_objectives: int, backend: str):
    """Whatever is rounded to float32 on the way."""
    jacobian = rows(num_objectives, n)
    assert error(jacobian, gramian(jacobian.double()), backend=backend) <= 1
    for worst in (False, True):
        assert error(jacobian, fault(jacobian.double()), backend=backend, worst=worst) > 1


@pytest.mark.parametrize("fault", [products_in_float32, sums_in_float32, result_in_float32])
@pytest.mark.parametrize(("num_objectives", "dtype", "backend"), FLOAT64)
@each_length
def test_float32_on_the_way_is_noticed_where_all_is_float64(
    fault: Fault, n: int, num_objectives: int, dtype: torch.dtype, backend: str
):
    jacobian = rows(num_objectives, n, dtype)
    assert error(jacobian, gramian(jacobian.double()), backend=backend) <= 1
    for worst in (False, True):
        assert error(jacobian, fault(jacobian.double()), backend=backend, worst=worst) > 1


@pytest.mark.parametrize("wrong", [1.0, torch.nan, torch.inf])
def test_one_wrong_entry_is_noticed(wrong: float):
    jacobian = rows(3, 70)
    gram = gramian(jacobian.double())
    gram[2, 0] = wrong
    with pytest.raises(AssertionError, match=r"^gram: off by ([0-9.e+]+|nan|inf) times the bound$"):
        assert_gram([[row] for row in jacobian], gram)


# The assertions on tensors


def test_the_first_difference_is_told():
    same = [torch.zeros(3, 4), None, [torch.tensor([torch.nan, 1.0])]]
    assert_same_bits(same, [torch.zeros(3, 4), None, [torch.tensor([torch.nan, 1.0])]])
    other = torch.zeros(3, 4)
    other[1, 2], other[2, 0] = 0.5, -0.0
    with pytest.raises(
        AssertionError, match=r"^it\[0\]: 2 of 12 differ, the first at \[1, 2\]: 0\.0 and 0\.5, \[2, 0\]"
    ):
        assert_same_bits(same, [other, *same[1:]], "it")
    with pytest.raises(AssertionError, match=r"^the results\[2\]\[0\]: float32 \[2\] and float64 \[2\]$"):
        assert_same_bits(same, [*same[:2], [torch.zeros(2).double()]])
    with pytest.raises(AssertionError, match=r"^the results\[1\]: None and float32 \[\]$"):
        assert_same_bits(same, [same[0], torch.tensor(1.0), same[2]])
    with pytest.raises(AssertionError, match=r"^the results: 3 and 2 of them$"):
        assert_same_bits(same, same[:2])


def test_equal_is_as_torch_has_it():
    assert_equal(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]))
    with pytest.raises(AssertionError, match=r"^the results: 1 of 2 differ, the first at \[1\]: nan and nan$"):
        assert_equal(torch.tensor([0.0, torch.nan]), torch.tensor([0.0, torch.nan]))
    with pytest.raises(AssertionError, match=r"^the results: float32 \[2\] and float32 \[1\]$"):
        assert_equal(torch.zeros(2), torch.zeros(1))


def test_a_failure_says_no_more_than_a_line():
    grads = make_grads(64, [(4000,)] * 5, absent=0)
    with pytest.raises(AssertionError) as failure:
        assert_gram(grads, torch.zeros(64, 64, dtype=torch.float64))
    assert len(str(failure.value)) < 200
    with pytest.raises(AssertionError) as failure:
        assert_same_bits(grads, make_grads(64, [(4000,)] * 5, absent=0, seed=1))
    assert len(str(failure.value)) < 200
