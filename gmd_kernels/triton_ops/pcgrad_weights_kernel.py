"""The kernel of PCGrad's coefficients: one program for each Gramian, whose rows take a step at a time together."""

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _pcgrad_weights_kernel(
    grams,  # [K, T, T] float64
    orders,  # [K, T, T-1] int64
    weights,  # [K, T, T] float64
    T: tl.constexpr,
    ROWS: tl.constexpr,  # a power of two >= T
):
    group = tl.program_id(0).to(tl.int64)
    gram = grams + group * T * T
    order = orders + group * T * (T - 1)
    i = tl.arange(0, ROWS)
    there = i < T
    both = there[:, None] & there[None, :]
    a = tl.where(i[:, None] == i[None, :], 1.0, 0.0).to(tl.float64)
    for step in range(T - 1):
        j = tl.load(order + i * (T - 1) + step, mask=there, other=0)  # whom each row meets
        met = tl.load(gram + j[:, None] * T + i[None, :], mask=both, other=0.0)
        product = tl.sum(a * met, axis=1)  # <projected gradient i, original gradient j[i]>
        square = tl.load(gram + j * (T + 1), mask=there, other=0.0)
        conflict = (product < 0) & (square > 0)
        change = tl.where(conflict, -product / tl.where(conflict, square, 1.0), 0.0)
        a += tl.where(i[None, :] == j[:, None], change[:, None], 0.0)
    tl.store(weights + (group * T + i[:, None]) * T + i[None, :], a, mask=both)


def pcgrad_options(num_objectives: int) -> dict[str, int]:
    """Returns what the kernel is compiled for."""
    rows = max(2, triton.next_power_of_2(num_objectives))
    return {"ROWS": rows, "num_warps": max(1, rows // 8)}


def launch_pcgrad_weights_kernel(grams: Tensor, orders: Tensor, weights: Tensor) -> None:
    """Writes weights [K, T, T] from grams [K, T, T] and orders [K, T, T-1], all contiguous, K >= 1."""
    num_groups, num_objectives, _ = grams.shape
    _pcgrad_weights_kernel[(num_groups,)](grams, orders, weights, T=num_objectives, **pcgrad_options(num_objectives))
