"""Taking the padding off again: sequences that lie in one array, filled up with steps of zeros."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def padded_in_front(arrays: Iterable[np.ndarray]) -> bool:
    """Returns whether a modality is padded in front: more of its sequences begin than end with a step of zeros.

    arrays: [n, L, F] each, numbers; NaN counts as not zero
    """
    with np.errstate(invalid="ignore"):  # some kinds of NaN would warn
        ends = [(array[:, :1].any(axis=(1, 2)), array[:, -1:].any(axis=(1, 2))) for array in arrays]
    in_front = sum(int((last & ~first).sum()) for first, last in ends)
    behind = sum(int((first & ~last).sum()) for first, last in ends)
    return in_front > behind


def unpadded(steps: np.ndarray, length: int | None, in_front: bool, counts: Counter[str]) -> Tensor | None:
    """Takes the padding off one sequence; None if nothing is left but zeros.

    What is returned has memory of its own: the array that the sequence came in must not stay for its sake.

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
