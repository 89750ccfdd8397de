"""Compresses many cotangents of one tensor to a few directions that they are combinations of.

The objectives' gradients at a modality's output are nearly collinear, as they come from the same targets. What a
backward pass makes of them is linear in them, so that passes for the leading directions give all of their gradients.

Each objective's error is bounded by its own length, whatever the others' are: cotangents are brought to unit length
before their leading directions are looked for. The principal directions of unit vectors leave out little of them on
average, and more of some. Those get more weight, and directions are looked for again, for as long as that may save one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

OFF = 1e-7  # what `gmd_kernels.gram` may be off by, for each of T, relative to the norms: gradients of 16 or 32 bits
OFF_FLOAT64 = 4e-15
ROUNDS = 8  # of weights; more save next to nothing
RATE = 0.5  # the exponent by which the weight of the worst objective grows in a round


class Directions(NamedTuple):
    """The directions that stand for the T objectives' cotangents at M outputs, r_m of them at output m.

    Direction j of output m is sum_k combining[m][k, j] * cotangent k; and cotangent k is sum_j mixing[m][k, j] *
    direction j, but for what is discarded.

    Attributes:
        combining: M tensors [T, r_m], float64 on the CPU; r_m is at least 1, and at most the number of cotangents other
            than zero if there is one.
        mixing: M tensors [T, r_m], float64 on the CPU.
        discarded: [M] float64 on the CPU, the largest share of an objective's own energy (squared norm) that is left
            out.
    """

    combining: tuple[Tensor, ...]
    mixing: tuple[Tensor, ...]
    discarded: Tensor

    @property
    def counts(self) -> tuple[int, ...]:
        """Returns [M], how many directions each output has."""
        return tuple(combining.shape[1] for combining in self.combining)


def leading_directions(grams: Tensor, tol: float, dtypes: Sequence[torch.dtype]) -> Directions:
    """Returns few directions from which each objective's cotangent is known up to an error of `tol` times its norm.

    To the error comes the rounding of the directions to the type of their output. No direction is longer than the
    longest cotangent, nor so long that this type could not hold it.

    Args:
        grams: [M, T, T] float64, finite, on the CPU: of each output's cotangents, zeros where there is none. Squared
            norms below 2e-308 are no normal numbers, and count as zero.
        tol: relative error in norm. A Gramian of gradients of 16 or 32 bits cannot tell a tol of sqrt(1e-7 * T) or less
            from zero; no cotangent is replaced then.
        dtypes: [M], of the outputs.
    """
    found = [_of_one_output(gram, tol, dtype) for gram, dtype in zip(grams, dtypes, strict=True)]
    combining, mixing, discarded = zip(*found, strict=True)
    return Directions(combining, mixing, torch.tensor(discarded, dtype=torch.float64, device="cpu"))


def _of_one_output(gram: Tensor, tol: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
    """Returns `combining` [T, r], `mixing` [T, r] and the share that is discarded, for one output."""
    squares = gram.diagonal()
    there = (squares >= torch.finfo(squares.dtype).tiny).nonzero().squeeze(-1)
    if len(there) == 0:
        nothing = gram.new_zeros(len(gram), 1)
        return nothing, nothing, 0.0
    norms = squares[there, None].sqrt()
    cosines = gram[there][:, there] / norms / norms.T
    off = OFF_FLOAT64 if dtype is torch.float64 else OFF
    combining, mixing, discarded = _of_unit_vectors(cosines, tol**2 - off * len(there))
    # exactly none of what is not there
    all_combining, all_mixing = (gram.new_zeros(len(gram), combining.shape[1]) for _ in range(2))
    if len(there) == combining.shape[1]:
        all_combining[there], all_mixing[there] = combining, mixing  # the cotangents themselves, as they are
    else:
        length = norms.max().clamp(max=torch.finfo(dtype).max / 2)
        all_combining[there], all_mixing[there] = combining * (length / norms), mixing * (norms / length)
    return all_combining, all_mixing, discarded


def _of_unit_vectors(cosines: Tensor, allowed: float) -> tuple[Tensor, Tensor, float]:
    """Returns `combining` [n, r], `mixing` [n, r] and the largest share that is left out of one of n unit vectors x_k.

    The eigenvectors e_j of sqrt(w_k w_l) <x_k, x_l> make the directions sum_k sqrt(w_k) e_kj x_k. Of x_k, those after
    the first r leave out sum_{j > r} e_kj^2 lambda_j / w_k; of all, weighted by w, they leave out sum_{j > r} lambda_j,
    which is the least that any r directions can (Eckart and Young, 1936). So when that is more than is allowed, r
    directions are too few for one x_k at least, whatever they are.

    Args:
        cosines: [n, n] float64, inner products of the unit vectors.
        allowed: the share that may be left out of each. Where no direction is saved, they are the vectors themselves,
            and nothing is left out.
    """
    n = len(cosines)
    best = torch.eye(n, dtype=cosines.dtype, device=cosines.device)
    combining, mixing, discarded = best, best, 0.0
    weights = cosines.new_full((n,), 1 / n)
    for _ in range(ROUNDS):
        root = weights.sqrt()[:, None]
        values, vectors = torch.linalg.eigh(root * cosines * root.T)  # ascending
        shares = vectors.square() * values.clamp(min=0) / weights[:, None]
        left = shares.cumsum(dim=1).flip(1)  # [n, n]; column r: without the first r directions
        count = int((left.amax(dim=0) > allowed).sum())
        if count < combining.shape[1]:
            leading = vectors.flip(1)[:, :count]
            combining, mixing = leading * root, leading / root
            discarded = float(left[:, count].max())
        least = int((values.clamp(min=0).cumsum(dim=0) > allowed).sum())
        if combining.shape[1] <= max(least, 1):
            break
        worst = left[:, combining.shape[1] - 1]  # with one direction fewer
        weights = weights * (RATE * worst / worst.max()).exp()
        weights = weights / weights.sum()
    return combining, mixing, discarded
