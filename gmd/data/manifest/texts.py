"""Text as tokens: words hashed to numbers, or the numbers that a cell gives."""

import hashlib
import json
import re
from functools import lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gmd.data.manifest.arrays import read_array
from gmd.data.manifest.cells import Cell, Unreadable
from gmd.data.manifest.files import not_read, path_of
from gmd.data.text_files import read_utf8
from gmd.errors import UserError

PADDING = 0
MOST_TOKENS = 2**20  # of a vocabulary: a network has a row of weights for each
LONGEST_FILE = 2**22  # bytes of a text
_WORD = re.compile(r"\w+|[^\w\s]")
_GIVEN = re.compile(r"\[\s*-?\d{1,18}(\s*,\s*-?\d{1,18})*\s*\]|\[\s*\]")


class TextFacts(NamedTuple):
    """What is in a cell. size: bytes; tokens: how many, 0: it is empty; largest: of given numbers, None: of words."""

    size: int
    tokens: int
    largest: int | None


def check_text(cell: Cell) -> TextFacts:
    """Reads a cell's text or tokens.

    Raises Unreadable for a file that is missing, no text in UTF-8, or no array of whole numbers from 0 on, and for such
        numbers in the cell itself; UserError for a path that may not be.
    """
    size, content = _content(cell)
    if isinstance(content, str):
        return TextFacts(size, len(_WORD.findall(content)), None)
    return TextFacts(size, len(content), int(content.max(initial=0)))


def load_tokens(cell: Cell, vocabulary: int, longest: int) -> Tensor:
    """Returns a cell's tokens, int64 [L], at least 1 and at most `longest`, of which the first are kept.

    vocabulary: V; words are hashed to 1 to V - 1
    Raises Unreadable as `check_text`, and if the text has become empty; UserError for a given token of V or more.
    """
    _, content = _content(cell)
    if isinstance(content, str):
        words = _WORD.findall(content.lower())[:longest]
        tokens = np.array([_hashed(word, vocabulary) for word in words], np.int64)
    else:
        tokens = content[:longest]
    if not len(tokens):
        raise Unreadable(f"{cell.where}: is empty now, and was not when the manifest was read")
    if tokens.max() >= vocabulary:
        raise UserError(f"{cell.where}: has the token {tokens.max()}, expected numbers below {vocabulary}")
    return torch.from_numpy(tokens)


def _content(cell: Cell) -> tuple[int, str | np.ndarray]:
    """Returns the bytes of a cell's content, and its text, or its tokens: int64 [L], from 0 on, without padding."""
    text = cell.text
    if _GIVEN.fullmatch(text):
        return len(text.encode()), _checked(cell, np.array(json.loads(text), np.int64))
    suffix = PurePosixPath(text).suffix.lower() if not re.search(r"\s", text) else ""
    if suffix == ".npy":
        path = path_of(cell)
        values, size = read_array(cell, path, "", None)
        if values.dtype.kind not in "iu" or values.ndim != 1:
            raise Unreadable(f"{cell.where}: {path}: is {values.dtype} {list(values.shape)}, expected tokens, int [L]")
        return size, _checked(cell, values)
    if suffix != ".txt":
        return len(text.encode()), text
    path = path_of(cell)
    try:
        content = read_utf8(path, LONGEST_FILE)
    except (OSError, UserError) as error:
        raise not_read(cell, path, "a text in UTF-8", error) from error
    return len(content.encode()), content


def _checked(cell: Cell, tokens: np.ndarray) -> np.ndarray:
    """Returns tokens as int64 without the padding behind them. Raises Unreadable for one that is none."""
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < MOST_TOKENS:
        raise Unreadable(
            f"{cell.where}: has tokens from {tokens.min()} to {tokens.max()}, expected 0 to {MOST_TOKENS - 1}"
        )
    used = np.flatnonzero(tokens)
    return tokens[: used[-1] + 1 if len(used) else 0].astype(np.int64)


@lru_cache(maxsize=2**16)
def _hashed(word: str, vocabulary: int) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "big") % (vocabulary - 1)
