"""Count sketches of gradients, as users call them: a gradient of any length folded into d numbers.

The map S is that of a count sketch (Charikar, Chen and Farach-Colton, ICALP 2002), made regular where that is free. All
numbers are drawn by SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), which gives number n from a state s on at once:

    draw(s, n) = mix(s + (n + 1) * 0x9e3779b97f4a7c15) mod 2^64

With the key k = draw(seed, p) of parameter p, its position in the list, element i in row-major order goes to

    bucket  (i + rotation) mod d,  rotation = floor(draw(k, 2 * (i // d) + 1) / 2) mod d
    sign    -1 where bit i % 64 of draw(k, 2 * (i // 64)) is set, +1 elsewhere.

So a block of d elements in a row meets each bucket at most once: reading and writing are in a row, threads that share
the buckets need nothing atomic, and the elements of one block do not disturb each other. Blocks are turned against each
other by independent rotations: two elements of different blocks meet with probability 1 / d wherever they stand, also
where the non-zeros lie d apart or in a few channels. With signs that are independent this makes <S x, S y> unbiased for
<x, y>, with a variance of at most (|x|^2 |y|^2 + <x, y>^2) / d.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gmd_kernels.gradients import is_traced
from gmd_kernels.ops import backend_for
from gmd_kernels.sketch_arguments import check, check_memory, read_one


@torch.no_grad()
def sketch_(sketch: Tensor, grads: Sequence[Tensor | None], seed: int) -> None:
    """Adds S g to a count sketch in place, for one gradient g whose parts `grads` has; reads it once.

    S is the map of a count sketch (Charikar, Chen and Farach-Colton, ICALP 2002), see `gmd_kernels.sketch`.

    S depends on the seed, the length d of the sketch, and each element's place in the list and in its tensor, on
    nothing else: it is linear, and the same for every objective. So of two gradients that are sketched with the same
    seed, <sketch_i, sketch_j> is an unbiased estimate of <g_i, g_j>. Its standard deviation over seeds is at most
    sqrt((|g_i|^2 |g_j|^2 + <g_i, g_j>^2) / d), that of a cosine about 1 / sqrt(d).

    Sums of sketches are sketches of sums. Where processes have pieces of one gradient, and their Gramians of sketches
    are added, each takes a seed of its own: errors of the same signs would add up.

    Args:
        sketch: [d] float32 or float64, 1 <= d < 2^31, contiguous; zeros to begin with.
        grads: P tensors or `None`s, as one row of `gram`'s, of any floating types and strides, on the sketch's device.
            `None` counts as zero and keeps its place in the list.
        seed: 0 or more, below 2^63.

    Sums are taken in the sketch's type, from the first element of the list to the last: on the CPU with the same bits
    for any number of threads, in C++ and in PyTorch. A NaN or Inf in a gradient shows in the sketch.

    Raises:
        ValueError, TypeError: an argument is malformed; the message names it, what came and what was expected.
            Nothing is written then.
    """
    gradients = read_one(grads)
    check(sketch, gradients, seed)
    traced = gradients.traced or is_traced(sketch)
    if not traced:
        check_memory(sketch, gradients)
    backend_for(gradients._replace(traced=traced)).sketch_(gradients, sketch, seed)
