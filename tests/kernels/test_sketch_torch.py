"""sketch_ among the rest of torch: torch.library, torch.compile, fake tensors."""

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.library import opcheck

import gmd_kernels as gk
from helpers.assertions import assert_same_bits
from helpers.sketch_cases import make_row, sketched

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.usefixtures("backend")
def test_opcheck():
    opcheck(torch.ops.gmd.sketch_.default, (torch.zeros(50), make_row(), 3))


def test_schema():
    expected = "gmd::sketch_(Tensor(a!) sketch, Tensor?[] grads, SymInt seed) -> ()"
    assert str(torch.ops.gmd.sketch_.default._schema) == expected


@pytest.fixture
def compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_without_a_break_in_the_graph(dynamic):
    """What is written in place is so behind the compiled call too; another seed is not compiled for again."""

    def step(sketch, first, second, seed):
        gk.sketch_(sketch, [2 * first, None, second], seed)
        return sketch.sum()

    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    first, second = make_row(shapes=[(40, 3), (77,)])
    for seed in (2, 3, 2**40, 5):
        eager, traced = torch.zeros(50), torch.zeros(50)
        values = step(eager, first, second, seed), compiled(traced, first, second, seed)
        assert_same_bits((eager, values[0]), (traced, values[1]))


def test_fake_tensors():
    with FakeTensorMode() as mode:
        sketch, g = mode.from_tensor(torch.zeros(5)), mode.from_tensor(torch.ones(9))
        assert gk.sketch_(sketch, [g], 1) is None
        with pytest.raises(ValueError, match="sketch: expected contiguous"):
            gk.sketch_(mode.from_tensor(torch.zeros(10)[::2]), [g], 1)


def test_a_mode_that_sees_every_op():
    from torch.utils.flop_counter import FlopCounterMode

    row = make_row()
    with FlopCounterMode(display=False):
        found = sketched(row, 30)
    assert_same_bits(found, sketched(row, 30))
