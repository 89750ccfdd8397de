"""What nvcc makes of the products on the tensor cores: how many instructions there are, and how much is under way."""

import re
from collections import Counter

import pytest

from helpers.cuda_build import compiles, count, disassembled, every_architecture, instructions, machine_code

pytestmark = [compiles, pytest.mark.slow, disassembled]
PRODUCTS = r"HMMA\.16816\.F32(\.BF16)?"
WHOLE, PIECES = 32, 8  # products of a turn in vectors, and of a quarter of one read element by element
KINDS = 2 * 2  # of turns: two types, 16 rows or fewer


def loops(kernel: str, architecture: str) -> list[Counter]:
    """The instructions of each loop that has products in it, without those of the loops within that have some."""
    code = machine_code(kernel, architecture)
    place = {one.address: i for i, one in enumerate(code)}
    found = []
    for end, one in enumerate(code):
        target = re.search(r"0x([0-9a-f]+)$", one.operands) if one.name.startswith("BRA") else None
        start = place.get(int(target[1], 16), end) if target else end
        body = Counter(i.name for i in code[start : end + 1])
        if start < end and count(body, PRODUCTS):
            found.append((start, end, body))
    proper = []
    for start, end, body in found:
        within = [other for other in found if start <= other[0] and other[1] <= end and other[:2] != (start, end)]
        outermost = [a for a in within if not any(b[0] <= a[0] and a[1] <= b[1] and b[:2] != a[:2] for b in within)]
        for _, _, inner in outermost:
            body = body - inner
        if count(body, PRODUCTS):
            proper.append(body)
    return proper


def turns(kernel: str, architecture: str) -> list[Counter]:
    """The loops over turns of 16 vectors a lane: 8 KB of a warp, 256 elements of 16 rows."""
    return [body for body in loops(kernel, architecture) if count(body, PRODUCTS) == WHOLE]


@every_architecture
@pytest.mark.parametrize("kernel", ["gram", "surgery"])
def test_products_of_16_bits_are_those_of_the_tensor_cores(kernel, architecture):
    found = instructions(kernel, architecture)
    for name in ("HMMA.16816.F32.BF16", "HMMA.16816.F32"):
        assert found[name] == KINDS // 2 * (WHOLE + PIECES)
    assert count(found, r".*MMA.*") == KINDS * (WHOLE + PIECES)


@every_architecture
@pytest.mark.parametrize("kernel", ["gram", "surgery"])
def test_instructions_of_256_elements_of_16_rows(kernel, architecture):
    """Without tensor cores they were 1505; the memory of an H200 takes as long as about 1900 of a warp's."""
    sizes = sorted(sum(body.values()) for body in turns(kernel, architecture))
    assert len(sizes) == KINDS
    full, fewer = {"gram": (380, 440), "surgery": (510, 680)}[kernel]
    assert sizes[1] <= full, sizes
    assert sizes[-1] <= fewer, sizes


@every_architecture
@pytest.mark.parametrize("kernel", ["gram", "surgery"])
def test_a_turn_has_16_vectors_under_way_and_few_conversions(kernel, architecture):
    for body in turns(kernel, architecture):
        assert count(body, r"LDG\.E\..*128.*") == 16
        assert count(body, r"F2F\.F64\.F32") == 4 * 6  # of four products each, and of 6 of 8 numbers
        assert body["DADD"] == 4 * 6
        assert count(body, r"STS\.128") == (16 if kernel == "surgery" else 0)


@every_architecture
def test_a_wide_gramian_has_the_same_products_and_those_of_parts(architecture):
    """A turn of two parts is two halves of a loop, or one after the other."""
    found = count(instructions("gram_wide", architecture), PRODUCTS)
    assert found in [KINDS * (WHOLE + PIECES) + 2 * (parts + PIECES) for parts in (WHOLE // 2, WHOLE)]
