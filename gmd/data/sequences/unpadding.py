"""Sequences padded with zeros into one array, without the zeros again."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def padded_in_front(arrays: Iterable[np.ndarray]) -> bool:
    """Whether more sequences begin than end with a step of zeros. arrays: [n, L, F]"""
    with np.errstate(invalid="ignore"):  # NaN counts as not zero here, of whatever kind it is
        ends = [(array[:, :1].any(axis=(1, 2)), array[:, -1:].any(axis=(1, 2))) for array in arrays]
    in_front = sum(int((last & ~first).sum()) for first, last in ends)
    behind = sum(int((first & ~last).sum()) for first, last in ends)
    return in_front > behind


def unpadded(steps: np.ndarray, length: int | None, in_front: bool, counts: Counter) -> Tensor | None:
    """One sequence, in memory of its own: the array it came in must not stay for its sake. None if it is all zeros.

    steps: float32 [L, F]
    length: what the file says; None: all zeros on the padded side are padding. Those on the other side never are: in
        the first second of a video no face may have been found.
    in_front: which side is padded
    counts: gets "absent", and "disagree" where `length` is more than L, or leaves out steps that are not zeros
    """
    used = np.flatnonzero(steps.any(axis=1))
    reach = 0 if not len(used) else len(steps) - used[0] if in_front else used[-1] + 1  # the shortest possible length
    if length is None:
        length = reach
    elif not reach <= length <= len(steps):
        counts["disagree"] += 1
    length = min(length, len(steps))
    kept = steps[len(steps) - length :] if in_front else steps[:length]
    if not kept.any():
        counts["absent"] += 1
        return None
    return torch.from_numpy(kept.copy())
