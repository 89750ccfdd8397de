"""IEMOCAP's four emotions in the files of MulT and of LMF: four questions with yes or no, made one class of four."""

from typing import Any

import numpy as np

EMOTIONS = ("neutral", "happy", "sad", "angry")  # in MulT's order
NOTE = (
    "four classes, of samples of which one emotion is said; published work answers four questions with yes or no: "
    "its accuracies are not to be set beside these"
)


def is_emotions(labels: np.ndarray) -> bool:
    """Returns whether an array has labels of the four emotions: [N, 4], 1 for yes, or [N, 4, 2], no and yes."""
    return labels.shape[1:] in ((4,), (4, 2))


def has_emotions(content: dict) -> bool:
    """Returns whether a split has labels of each emotion by its name, as LMF's files."""
    return all(emotion in content for emotion in EMOTIONS)


def one_of_four(labels: np.ndarray) -> np.ndarray:
    """Returns the class of each sample, int64 [N]: the emotion that is said of it; -1 where none is, or several are.

    labels: numbers, as `is_emotions` has them
    """
    said = labels.argmax(axis=2) == 1 if labels.ndim == 3 else labels > 0
    return np.where(said.sum(axis=1) == 1, said.argmax(axis=1), -1).astype(np.int64)


def stacked(questions: list[np.ndarray]) -> Any:
    """Returns the labels of the emotions in one array, [N, 4] or [N, 4, 2], of one [N], [N, 1] or [N, 2] for each."""
    return np.stack([each[:, 0] if each.shape[1:] == (1,) else each for each in questions], axis=1)
