"""What the Triton backend promises beyond its results: launches, copies, tables, and what is never read."""

from itertools import pairwise

import pytest
import torch

from helpers.assertions import assert_combined, assert_gram
from helpers.kernel_cases import BACKENDS, DTYPES, LAYOUTS, lay_out, make_grads, make_weights

if "triton" not in BACKENDS:
    pytest.skip("Triton's interpreter is off, as where there is a GPU", allow_module_level=True)

from gmd_kernels import gradients, triton_ops
from gmd_kernels.triton_ops import combine_kernel, gram_kernel, lines, plan, tables

CPU = torch.device("cpu")
FLOAT = (torch.float32, True)


@pytest.fixture
def launches(monkeypatch):
    """The kind of each launch and its number of programs, as they come."""
    seen = []
    for name in ("launch_gram_kernel", "launch_combine_kernel"):
        launch = getattr(triton_ops, name)

        def record(kind, *args, launch=launch):
            seen.append(kind)
            launch(kind, *args)

        monkeypatch.setattr(triton_ops, name, record)
    return seen


def gram_of(grads, groups=(), num_groups=1):
    return triton_ops.gram(gradients.read(grads), list(groups), num_groups)


def combine_of(grads, weights, out=None):
    return triton_ops.combine(gradients.read(grads), weights, out or [None] * len(grads[0]))


# Launches


def test_one_launch_for_all_parameters_of_a_kind(launches):
    """Neither shapes nor who reaches them nor groups split it."""
    grads = make_grads(3, [(3, 5), (17,), (), (0,), (700,), (2, 2)], absent=0.4)
    gram_of(grads, [1, 0, 1, 0, 0, 1], 2)
    combine_of(grads, make_weights(6, 3))
    assert launches == [FLOAT, FLOAT]


def test_types_and_alignment_alone_split_a_launch(launches):
    columns = [torch.ones(4), torch.ones(9)[1:5], torch.ones(4).half(), torch.ones(8)[4:], torch.ones(9).half()[1:]]
    combine_of([columns], make_weights(5, 1))
    half = torch.float16
    assert sorted(map(str, launches)) == sorted(map(str, [FLOAT, (torch.float32, False), (half, True), (half, False)]))


def test_a_result_that_is_not_aligned_counts(launches):
    out = torch.full((9,), torch.nan)[1:]
    assert combine_of([[torch.ones(8)]], torch.ones(1, 1).double(), [out])[0] is out
    assert launches == [(torch.float32, False)]
    assert torch.equal(out, torch.ones(8))


def test_nothing_is_launched_for_nothing(launches):
    assert combine_of([[None, torch.ones(0)]], torch.ones(2, 1).double())[0] is None
    assert not gram_of([[None, torch.ones(0)]]).any()
    assert launches == []


# Copies


@pytest.mark.parametrize("layout", ["contiguous", "permuted", "channels_last", "offset"])
def test_gradients_that_agree_are_not_copied(layout):
    grads = lay_out(make_grads(3, [(4, 5, 6, 7), (2, 3)], absent=0), [layout])
    assert lines.lay_out(gradients.read(grads)).copies == []


def test_only_gradients_that_disagree_are_copied():
    grads = lay_out(make_grads(4, [(4, 5, 6), (9,)], absent=0), ["contiguous", "permuted", "contiguous", "negated"])
    found = lines.lay_out(gradients.read(grads))
    assert [copy.shape for copy in found.copies] == [
        (4, 5, 6),
        (4, 5, 6),
        (9,),
    ]  # of objectives 1 and 3; a vector's sign
    kept = [g.data_ptr() for row in (grads[0], grads[2]) for g in row]
    assert [found.pointers[i] for i in (0, 4, 2, 6)] == kept


def test_gradients_without_the_cpp_part(monkeypatch):
    monkeypatch.setattr(gradients, "_C", None)
    grads = lay_out(make_grads(3, [(4, 5), (9,)], absent=0.3), list(LAYOUTS))
    read = gradients.read(grads)
    assert read.native is None
    assert_gram(grads, triton_ops.gram(read, [], 1), backend="triton")
    merged = triton_ops.combine(read, make_weights(2, 3) * 0 + make_weights(3), [None] * 2)
    assert_combined(grads, make_weights(3), merged)


# What is read


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.usefixtures("tiles_of_a_gpu")
def test_tiles_as_on_a_gpu(dtype):
    """Sizes around those of the tiles, every way to end; elsewhere wider tiles save time."""
    shapes = [(n,) for n in (1, 31, 32, 33, 63, 64, 65, 255, 256, 513, 1023, 1025, 2100)]
    for num_objectives in (3, 17, 40):
        grads = make_grads(num_objectives, shapes, absent=0.1, dtype=dtype)
        assert_gram(grads, gram_of(grads)[0], backend="triton")
        weights = make_weights(len(shapes), num_objectives)
        assert_combined(grads, weights, combine_of(grads, weights))


@pytest.mark.parametrize("num_objectives", range(1, 65))
@pytest.mark.usefixtures("tiles_of_a_gpu")
def test_pieces_begin_where_tiles_do(num_objectives):
    blocks = [gram_kernel.gram_options(gram_kernel.padded(num_objectives))["BLOCK"]]
    for dtype in DTYPES:
        for aligned in (True, False):
            blocks.append(combine_kernel.combine_options(num_objectives, (dtype, aligned))["BLOCK"])
    assert all(plan.TILE % block == 0 for block in blocks)


@pytest.mark.parametrize("num_objectives", [3, 15])
def test_rows_beyond_the_last_objective_are_not_read(num_objectives):
    """The rows of a tile are a power of two; behind the table's last entry are pointers that nobody may follow."""
    poison, values = torch.full((8,), torch.nan), torch.ones(num_objectives, 8)
    pointers = [row.data_ptr() for row in values] + [poison.data_ptr()] * 16
    table = torch.tensor(pointers)
    segments, pieces = torch.tensor([[0, 0, 8]]), torch.tensor([[0, 1, 0]])
    partials = torch.full((1, 16, 16), torch.nan, dtype=torch.float64)
    gram_kernel.launch_gram_kernel(FLOAT, table, segments, pieces, partials, num_objectives)
    expected = torch.zeros(1, 16, 16, dtype=torch.float64)
    expected[:, :num_objectives, :num_objectives] = 8
    assert torch.equal(partials, expected)
    result, weights = torch.full((8,), torch.nan), torch.ones(1, num_objectives, dtype=torch.float64)
    combine_kernel.launch_combine_kernel(FLOAT, table, torch.tensor([result.data_ptr()]), weights, segments, pieces)
    assert torch.equal(result, torch.full((8,), float(num_objectives)))


def test_places_beyond_two_to_the_32():
    """Of a parameter that is not there but for its end: 64-bit indices find it."""
    begin = 2**33
    values, result = torch.arange(1.0, 1101), torch.full((1100,), torch.nan)
    table = torch.tensor([values.data_ptr() - 4 * begin])
    segments, pieces = torch.tensor([[0, begin, begin + 1100]]), torch.tensor([[0, 1, 0]])
    partials = torch.empty(1, 16, 16, dtype=torch.float64)
    gram_kernel.launch_gram_kernel(FLOAT, table, segments, pieces, partials, 1)
    assert partials[0, 0, 0] == values.double().square().sum()
    targets, weights = torch.tensor([result.data_ptr() - 4 * begin]), torch.full((1, 1), 2.0, dtype=torch.float64)
    combine_kernel.launch_combine_kernel(FLOAT, table, targets, weights, segments, pieces)
    assert torch.equal(result, 2 * values)


def test_an_absent_objective_has_no_product_with_infinity_nor_a_weight():
    grads = [[torch.tensor([torch.inf, 1.0]), torch.ones(2)], [None, torch.ones(2)]]
    gram = gram_of(grads)[0]
    assert not gram[0, 0].isfinite()
    assert gram[0, 1] == gram[1, 1] == 2
    weights = torch.tensor([[1.0, torch.nan], [1.0, 1.0]], dtype=torch.float64)
    assert combine_of(grads, weights)[0].tolist() == [torch.inf, 1.0]


# The plan

SIZES = [5, 0, 1024, 1025, 70_000, 3, 2**33 + 7, 1]


@pytest.mark.parametrize("num_programs", [1, 2, 7, 1000])
@pytest.mark.parametrize("groups", [[], [1, 0, 2, 2, 0, 1, 0, 4]], ids=["one", "groups"])
def test_every_element_is_in_one_piece(num_programs, groups):
    kinds = [FLOAT, FLOAT, FLOAT, (torch.float32, False), FLOAT, (torch.float64, True), FLOAT, FLOAT]
    made = plan.make_plan(SIZES, kinds, groups, 5, num_programs)
    slots, covered = {}, {p: [] for p in range(len(SIZES))}
    for launch in made.launches:
        assert len(launch.pieces) <= num_programs + len(SIZES)
        assert [first for first, _, _ in launch.pieces] == [0, *(last for _, last, _ in launch.pieces)][:-1]
        for first, last, slot in launch.pieces:
            for p, begin, end in launch.segments[first:last]:
                assert kinds[p] == launch.kind
                covered[p].append((begin, end))
                slots.setdefault(slot, set()).add(groups[p] if groups else 0)
    for p, spans in covered.items():
        assert [begin for begin, _ in spans] + [SIZES[p]] == [0, *(end for _, end in spans)] if spans else SIZES[p] == 0
        assert all(begin % plan.TILE == 0 for begin, _ in spans)
    assert sorted(slots) == list(range(made.bounds[-1]))
    for group, (begin, end) in enumerate(pairwise(made.bounds)):
        assert all(slots[slot] == {group} for slot in range(begin, end))


def test_pieces_are_of_one_size():
    made = plan.make_plan([1000 * plan.TILE + 5, 77 * plan.TILE], [FLOAT, FLOAT], [], 1, 64)
    (launch,) = made.launches
    lengths = [sum(e - b for _, b, e in launch.segments[first:last]) for first, last, _ in launch.pieces]
    assert len(lengths) == 64
    assert max(lengths) == 17 * plan.TILE == -(-1078 // 64) * plan.TILE


# Tables


def test_pointers_that_did_not_move_are_not_sent_again():
    first = tables.pointer_table(CPU, "test", [1, 2, 3])
    assert tables.pointer_table(CPU, "test", [1, 2, 3]) is first
    other = tables.pointer_table(CPU, "test", [1, 2, 4])
    assert (first.tolist(), other.tolist()) == ([1, 2, 3], [1, 2, 4])  # a kernel may still read the first


def test_the_plan_is_made_once_for_the_same_shapes(monkeypatch):
    made = []
    monkeypatch.setattr(triton_ops, "make_plan", lambda *args: made.append(args) or plan.make_plan(*args))
    for dtype in (torch.float32, torch.float32, torch.float64):
        gram_of(make_grads(2, [(31, 3), (57,)], absent=0, dtype=dtype))
    assert len(made) == 2


def test_the_cache_is_bounded():
    for i in range(2 * tables.MOST):
        tables.cached(CPU, ("bounded", i), lambda i=i: i)
    assert len(tables._cache) == tables.MOST
    made = []
    assert tables.cached(CPU, ("bounded", 2 * tables.MOST - 1), lambda: made.append(1)) == 2 * tables.MOST - 1
    assert made == []


def test_a_captured_graph_has_tables_of_its_own(monkeypatch):
    """What others cached may go; what it sends is not there before the replay, so nobody else may use it."""
    outside = tables.pointer_table(CPU, "test", [7, 8])
    tables.cached(CPU, "plan", lambda: "outside")
    monkeypatch.setattr(tables, "_is_capturing", lambda device: True)
    inside = tables.pointer_table(CPU, "test", [7, 8])
    assert inside is not outside
    assert tables.pointer_table(CPU, "test", [7, 8]) is not inside
    assert tables.cached(CPU, "plan", lambda: "inside") == "inside"
    monkeypatch.undo()
    assert tables.pointer_table(CPU, "test", [7, 8]) is outside
    assert tables.cached(CPU, "plan", lambda: "again") == "outside"


def test_streams_have_tables_of_their_own(monkeypatch):
    first = tables.pointer_table(CPU, "test", [1])
    monkeypatch.setattr(tables, "_place", lambda device: (device, 77))
    assert tables.pointer_table(CPU, "test", [1]) is not first
