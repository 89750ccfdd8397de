"""Surgery with the memory of one gradient: of each objective's gradient a few thousand numbers are kept.

A backward pass for each objective makes its gradient, which is folded into d numbers and dropped
(`gmd_kernels.sketch_`). The sketches' inner products are unbiased estimates of the gradients', from which the weights
are taken; one more pass, of the weighted losses, makes the merged gradient. It is exact for these weights. Beside the
graph that takes N + T d numbers where gradients that are kept take T N; and one backward pass more.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import gmd_kernels as gk
from gmd.surgery._graph import check_graph
from gmd.surgery._losses import Outputs, check_outputs
from gmd.surgery._one_pass import watched
from gmd.surgery._passes import Row, gradient_of, several_passes

KEPT = ("gradients", "sketches")
SKETCH_SIZE = 65536


class Sketches:
    """The sketches of T gradients, and which parameters each of these reaches.

    Args:
        count: T.
        params: [P], whose gradients they are; sketches of float64 ones are float64, all others float32.
        size: d, numbers of a sketch.
        seed: of the map, the same on all processes that have a gradient each. See `of_pieces` for the others.

    Attributes:
        rows: [T, d].
        reach: [T, P] bool on the CPU.
    """

    def __init__(self, count: int, params: Sequence[nn.Parameter], size: int, seed: int):
        dtype = torch.float64 if any(param.dtype == torch.float64 for param in params) else torch.float32
        self.rows = torch.zeros(count, size, dtype=dtype, device=params[0].device)
        self.reach = torch.zeros(count, len(params), dtype=torch.bool, device="cpu")
        self._seed = seed

    def of_pieces(self, rank: int, count: int) -> None:
        """Takes a seed of this process's own, as processes have pieces of one gradient; count: so many."""
        self._seed = self._seed * count + rank

    def fold(self, k: int, row: Row) -> None:
        """Adds a gradient of objective k, [P]; who drops it afterwards has its memory back."""
        gk.sketch_(self.rows[k], row, self._seed)
        self.reach[k] |= torch.tensor([gradient is not None for gradient in row], dtype=torch.bool, device="cpu")

    def passes(
        self,
        losses: Sequence[Tensor | None],
        params: Sequence[nn.Parameter],
        scale: Tensor | None,
        retain_graph: bool,
        outputs: Outputs | None = None,
        factors: Tensor | None = None,
    ) -> None:
        """Makes a backward pass for each loss, and folds its gradient before the next is made.

        losses: [T], None where there is none; outputs and factors: as in `GMD.backward`
        """
        given = [k for k, loss in enumerate(losses) if loss is not None]
        check_graph([loss for loss in losses if loss is not None])
        found = [] if outputs is None else check_outputs(outputs)
        with watched(found, factors), several_passes(len(given) + retain_graph):
            for k in given:
                loss = losses[k]
                assert loss is not None, "one that is given"
                self.fold(k, gradient_of(loss, params, scale, retain_graph or k != given[-1]))

    def gram(self, scale: Tensor | None) -> Tensor:
        """Returns the estimate of the gradients' Gramian, [T, T] float64, without the scale that losses had."""
        gram = gk.gram([[row] for row in self.rows])
        return gram if scale is None else gram / scale / scale


def gram_error(gram: Tensor, size: int) -> Tensor:
    """Returns the standard deviation of sketches' inner products, [T, T] float64, from the Gramian and d.

    It is that of a count sketch, sqrt((G_ii G_jj + G_ij^2) / d), or what is left of it: elements of one block of d do
    not meet, so that it is smaller for gradients of a few blocks.
    """
    squares = gram.diagonal()
    return ((squares[:, None] * squares[None, :] + gram.square()) / size).sqrt()


def check_kept(keep: str, size: int, tol: float, granularity: str, by_sample: bool) -> None:
    """Raises an error for options that are none, or that do not go with sketches."""
    if keep not in KEPT:
        raise ValueError(f"keep: expected 'gradients' or 'sketches', got {keep!r}")
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"sketch_size: expected an int, got {type(size).__name__}")
    if not 1 <= size < 2**31:
        raise ValueError(f"sketch_size: expected 1 to 2^31 - 1 numbers, got {size}")
    if keep == "gradients":
        return
    why = "with keep='sketches' gradients are dropped one by one, and what is merged is one backward pass, in which"
    if granularity != "model":
        raise ValueError(f"granularity: expected 'model', got {granularity!r}: {why} a loss has one weight for all")
    if tol > 0:
        raise ValueError(f"tol: expected 0, got {tol}: {why} nothing is left to compress")
    if by_sample:
        raise ValueError(f"by_sample: expected False: {why} no gradients of single samples are made")
