"""Runs every kernel of the CUDA backend, and of the norm, a few times in odd sizes, for the sanitizers to look at.

`python -m gpu.every_kernel --few` takes a few numbers of objectives only: a sanitizer slows all down a hundred times.
"""

import sys
from itertools import product

import torch
from torch import Tensor

import gmd_kernels as gk
from bench.measure.contestants import forced

SURGERY, OTHERS = "surgery", "others"  # arguments: only these kernels; by default all
REACHED, DONE = "the GPU answers", "every kernel ran, every value is right"
# T -> how many elements behind where memory is aligned the gradients begin. T on both sides of where the kernels for
# few objectives end; of many, which take the sanitizers longest, one is enough.
OFFSETS = {1: (0, 1), 4: (0, 1), 7: (0, 1), 16: (0, 1), 17: (0, 1), 33: (0,), 64: (1,)}
FEW_OFFSETS = {4: (1,), 16: (0,), 17: (1,)}  # the kernels of few objectives, of as many as they take, of many
SHAPES = ((3, 5), (17,), (), (0,), (33, 31), (2051,))
# Objectives, elements of each of two parameters: some of the units stay in shared memory, the rest is read twice.
PARTLY_KEPT = 16, 600_007
WEIGHTINGS = (  # that take the Gramian alone, and draw nothing
    *("imtl_g", "aligned_mtl", "upgrad", "dualproj", "mgda", "cagrad", "nash_mtl", "fairgrad", "pcd", "config"),
)
SIZES, FEW_SIZES = (2, 5, 33), (5,)  # objectives
NORMS = ((16, torch.bfloat16, True), (5, torch.float32, False))  # channels, type, whether they lie together
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

Gradients = list[list[Tensor | None]]  # [T][P]


def main() -> None:
    """Ends with an AssertionError at the first value that is wrong."""
    few = "--few" in sys.argv
    torch.ones(1, device="cuda").item()
    print(REACHED, flush=True)
    if OTHERS not in sys.argv:
        check_surgery(few)
    if SURGERY not in sys.argv:
        check_others(few)
    print(DONE)


def check_surgery(few: bool) -> None:
    """Looks at Gramian, weights of PCGrad, combination and surgery."""
    for num_objectives, offsets in (FEW_OFFSETS if few else OFFSETS).items():
        for offset in offsets:
            print(f"T = {num_objectives}, {offset} elements behind where memory is aligned", flush=True)
            check(gradients(num_objectives), "cuda", offset)
    if not few:
        print(f"T = {PARTLY_KEPT[0]}, more than shared memory holds", flush=True)
        check_partly_kept(*PARTLY_KEPT, "cuda")


def check_others(few: bool) -> None:
    """Looks at the other weightings, the sketch and the norm."""
    for num_objectives in FEW_SIZES if few else SIZES:
        print(f"weightings of {num_objectives} objectives", flush=True)
        check_weightings(num_objectives, "cuda")
    print("sketches", flush=True)
    for dtype in (torch.float32, torch.float64):
        check_sketch(dtype, "cuda")
    for (channels, dtype, last), backend in product(NORMS, ("cuda", "triton")):
        print(f"norm of {channels} channels, {backend}", flush=True)
        with forced(backend):
            check_norm(channels, dtype, last, "cuda")


def gradients(num_objectives: int) -> Gradients:
    """Makes gradients on the CPU, of every type and shape; some parameters are private to every second objective."""
    generator = torch.Generator().manual_seed(num_objectives)
    kinds = [(shape, dtype) for dtype in DTYPES for shape in SHAPES]
    rows = [
        [torch.randn(shape, generator=generator).to(dtype) for shape, dtype in kinds] for _ in range(num_objectives)
    ]
    return [[None if p % 8 == 1 and k % 2 else g for p, g in enumerate(row)] for k, row in enumerate(rows)]


def place(value: Tensor, device: str, offset: int) -> Tensor:
    """Returns a copy on the device, `offset` elements behind where its memory begins, which is aligned."""
    memory = torch.full((value.numel() + offset,), torch.nan, dtype=value.dtype, device=device)
    return memory[offset:].view(value.shape).copy_(value)


def check(grads: Gradients, device: str, offset: int) -> None:
    """Compares all ops on the device with the same on the CPU."""
    there = [[None if g is None else place(g, device, offset) for g in row] for row in grads]
    for groups in (None, [p % 3 for p in range(len(grads[0]))]):
        close(gk.gram(there, groups), gk.gram(grads, groups))
        mine, other = (gk.surgery(g, groups=groups, generator=torch.Generator().manual_seed(1)) for g in (there, grads))
        close(mine.weights, other.weights)
        for one, two in zip(mine.merged, other.merged, strict=True):
            close(one, two)
        gk.surgery(there, groups=groups)  # the order is drawn in the kernel
    weights = torch.linspace(-1, 2, len(grads))
    reached = [g for g in grads[0] if g is not None]  # objective 0 reaches everything
    out = [place(torch.full_like(g, torch.nan), device, offset) for g in reached]
    for one, two in zip(gk.combine(there, weights.to(device), out=out), gk.combine(grads, weights), strict=True):
        close(one, two)
    gram, order = gk.gram(grads), gk.projection_order(len(grads), torch.Generator().manual_seed(2))
    close(gk.pcgrad_weights(gram.to(device), order.to(device)), gk.pcgrad_weights(gram, order))


def check_partly_kept(num_objectives: int, numel: int, device: str) -> None:
    """Compares the surgery of two parameters, of so many elements each, on the device with the same on the CPU."""
    generator = torch.Generator().manual_seed(numel)
    grads = [[torch.randn(numel, generator=generator) for _ in range(2)] for _ in range(num_objectives)]
    there = [[g.to(device) for g in row] for row in grads]
    mine, other = (gk.surgery(g, generator=torch.Generator().manual_seed(1)) for g in (there, grads))
    close(mine.gram, other.gram)
    close(mine.weights, other.weights)
    for one, two in zip(mine.merged, other.merged, strict=True):
        close(one, two)


def check_weightings(num_objectives: int, device: str) -> None:
    """Compares the gradients that each weighting leads to, its weights being from the device, with the CPU's."""
    generator = torch.Generator().manual_seed(num_objectives)
    noise = torch.randn(num_objectives, 4 * num_objectives, generator=generator, dtype=torch.float64)
    jacobian = torch.where(torch.arange(num_objectives) % 3 == 2, -1.0, 1.0)[:, None] * noise[0] + noise
    gram = jacobian @ jacobian.T
    for name in WEIGHTINGS:
        weighting = gk.weightings.named(name)
        close(weighting(gram.to(device)).cpu() @ jacobian, weighting(gram) @ jacobian)
    averages = [torch.zeros_like(gram, device=place) for place in (device, "cpu")]
    mine, other = (
        gk.weightings.gradvac(gram.to(of.device), of, generator=torch.Generator().manual_seed(1)) for of in averages
    )
    close(mine.cpu() @ jacobian, other @ jacobian)
    close(averages[0].cpu(), averages[1])


def check_sketch(dtype: torch.dtype, device: str) -> None:
    """Compares a sketch of one gradient on the device with the same on the CPU."""
    row = gradients(1)[0]
    mine, other = torch.zeros(257, dtype=dtype, device=device), torch.zeros(257, dtype=dtype)
    gk.sketch_(mine, [None if g is None else place(g, device, 1) for g in row], seed=3)
    gk.sketch_(other, row, seed=3)
    close(mine, other)


def check_norm(channels: int, dtype: torch.dtype, last: bool, device: str) -> None:
    """Compares the norm's two passes on the device with the same on the CPU."""
    generator = torch.Generator().manual_seed(channels)
    x, grad = (torch.randn(3, 7, 11, 13, channels, generator=generator).to(dtype).movedim(-1, 1) for _ in range(2))
    x, grad = (x, grad) if last else (x.contiguous(), grad.contiguous())
    # no result near zero, where rounding decides about the derivatives
    weight, bias = torch.full((4, channels), 0.1), torch.ones(4, channels) * (-1) ** torch.arange(channels)
    results = []
    for place in ("cpu", device):
        leaves = [t.to(place).requires_grad_() for t in (x.detach(), weight, bias)]
        groups, affines = channels // 2 if channels % 2 == 0 else 1, torch.tensor([2, 0, 2]).to(place)
        y = gk.group_norm_relu(leaves[0], leaves[1], leaves[2], groups, affines)
        results.append((y.detach(), *torch.autograd.grad(y, leaves, grad.to(place))))
    for one, two in zip(*reversed(results), strict=True):
        close(one, two)


def close(one: Tensor | None, two: Tensor | None) -> None:
    """Asserts that they differ by no more than two ways of rounding may; the tests of the kernels are stricter."""
    assert one is not None and two is not None  # noqa: PT018
    spread = max(1e-4, 4 * torch.finfo(two.dtype).eps)
    largest = float(two.abs().max()) if two.numel() else 0.0
    torch.testing.assert_close(one.cpu(), two, rtol=spread, atol=spread * largest)


if __name__ == "__main__":
    main()
