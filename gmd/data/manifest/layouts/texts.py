"""Texts of samples as cells of a manifest: words, and tokens as MLA's published code has them on disk."""

import re
from dataclasses import dataclass, field

import numpy as np

from gmd.data.manifest.layouts.listed import Listed
from gmd.data.manifest.layouts.places import Kind, Tree, places_of
from gmd.data.sequences.npz import read_npy
from gmd.errors import UserError

MOST_TOKENS = 2**16  # of a text: MLA's have 256
# what a manifest takes for the name of a file, or for tokens
_NO_WORDS = re.compile(r"\S+\.(txt|npy)|\[[-\d\s,]*\]", re.IGNORECASE)


def as_text(text: str) -> str:
    """Returns a text as a manifest's cell: in one line, and such that it is read as a text and as nothing else.

    A manifest takes `notes.txt` for a file and `[12]` for tokens, so a full stop is put behind these. Halves of
    characters, which JSON can hold and no file in UTF-8, become question marks.
    """
    line = " ".join(text.replace("\0", " ").split()).encode("utf-8", "replace").decode("utf-8")
    return f"{line} ." if _NO_WORDS.fullmatch(line) else line


@dataclass(frozen=True)
class Words:
    """The text that the list itself has, in the field `text` of its samples, or in `tokens`."""

    kind: Kind = field(default="text", init=False)

    def cell(self, sample: Listed, tree: Tree) -> str:
        """Returns the text, or the tokens as `[101, 2054]`."""
        return sample.fields.get("tokens") or as_text(sample.fields.get("text", ""))

    def told(self) -> str:
        """Returns that it is the list."""
        return "the list itself"


@dataclass(frozen=True)
class Tokens:
    """Tokens of MLA: `NAME_token.npy` int [1, L], and `NAME_pm.npy` [1, L], which is 1 where L is only filled up."""

    patterns: tuple[str, ...]  # of NAME_token.npy
    kind: Kind = field(default="text", init=False)

    def cell(self, sample: Listed, tree: Tree) -> str:
        """Returns the tokens that are no padding, as `[101, 2054]`. Raises UserError for files that hold no such."""
        path = next((path for path in places_of(sample, self.patterns) if tree.has_file(path)), None)
        if path is None:
            return ""
        tokens = _row(tree, path, "iu")
        mask = f"{path.removesuffix('_token.npy')}_pm.npy"
        if tree.has_file(mask):
            padding = _row(tree, mask, "iufb")
            if padding.shape != tokens.shape:
                raise UserError(f"{tree.root / mask}: has {padding.size} entries, expected {tokens.size} as {path} has")
            tokens = tokens[padding == 0]
        elif (used := np.flatnonzero(tokens)).size:  # 0 is BERT's padding, at the end
            tokens = tokens[: used[-1] + 1]
        return f"[{', '.join(map(str, tokens.tolist()))}]" if tokens.any() else ""

    def told(self) -> str:
        """Returns the patterns."""
        return ", ".join(self.patterns)


def _row(tree: Tree, path: str, kinds: str) -> np.ndarray:
    """Reads the one row of a file of tokens or of their mask, [L] or [1, L]. Raises UserError for any other array."""
    file_path = tree.root / path
    array = read_npy(file_path)
    a_row = array.ndim <= 2 and max(array.shape, default=0) == array.size <= MOST_TOKENS
    if array.dtype.kind not in kinds or not a_row or (array < 0).any():
        found = f"{array.dtype} {list(array.shape)}"
        raise UserError(
            f"{file_path}: is {found}, expected tokens, whole numbers from 0 on [1, L], {MOST_TOKENS} at most"
        )
    return array.reshape(-1)
