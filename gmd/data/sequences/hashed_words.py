"""Vectors for words where a file has words and no vectors: fixed, random ones, which a word's hash draws."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

FEATURES = 300  # as GloVe's; two of some thousand random vectors of this length are nearly at right angles
WORDS_NOTE = (
    f"text: words become fixed random vectors of {FEATURES} numbers; no embedding tells which words are alike, so "
    "results are not to be set beside those with GloVe or BERT"
)


def word_vectors(words: Sequence[object]) -> np.ndarray:
    """Returns a vector for each word, float32 [n, 300]: always the same for a word, whatever else is there.

    words: str or bytes, whose capitals make no difference, or the numbers of words in a vocabulary
    """
    vectors = [_vector(word.decode("latin1") if isinstance(word, bytes) else str(word)) for word in words]
    return np.stack(vectors) if vectors else np.empty((0, FEATURES), np.float32)


@lru_cache(maxsize=2**16)
def _vector(word: str) -> np.ndarray:
    digest = hashlib.blake2b(word.lower().encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "big")).standard_normal(FEATURES).astype(np.float32)
