"""Lists with bytes changed, cut off and put in: a manifest comes of it, or a sentence, and never anything else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gmd.data.manifest.layouts.build import write_manifest
from gmd.errors import UserError
from helpers.layout_cases import (
    crema_d,
    crema_d_of_mla,
    food101_of_balancebenchmark,
    food101_of_cggm,
    food101_of_mla,
    food101_of_mmbt,
    iemocap,
    kinetics_sounds,
    mvsa,
    read_manifest,
)

CASES: dict[Callable[[Path], Path], tuple[str, str]] = {
    crema_d: ("crema-d", "train.csv"),
    crema_d_of_mla: ("crema-d", "my_train_cre.txt"),
    food101_of_mmbt: ("food101", "train.jsonl"),
    food101_of_mla: ("food101", "my_train_food.txt"),
    food101_of_cggm: ("food101", "train.json"),
    food101_of_balancebenchmark: ("food101", "texts/train_titles.csv"),
    mvsa: ("mvsa", "train.jsonl"),
    kinetics_sounds: ("kinetics-sounds", "my_train.txt"),
    iemocap: ("iemocap", "my_train_iemo.txt"),
}
PUT_IN = [
    b"../",
    b"/etc/passwd",
    b"\n",
    b"\0",
    b'"',
    b",",
    b" ",
    b"\xff",
    b"\xef\xbb\xbf",
    b"{",
    b"[1, 2]",
    b"=1+1",
    b"\r",
]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Returns the content with one thing wrong, near its beginning."""
    place = int(rng.integers(min(len(content), 300)))
    kind = rng.integers(3)
    if kind == 0:
        return content[:place]
    between = PUT_IN[rng.integers(len(PUT_IN))] if kind == 1 else bytes([rng.integers(256)])
    return content[:place] + between + content[place + (kind == 2) :]


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_a_damaged_list(tmp_path: Path, make: Callable[[Path], Path]):
    data_set, name = CASES[make]
    root = make(tmp_path / "d")
    good = (root / name).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(40):
        (root / name).write_bytes(damaged(good, rng))
        out = tmp_path / f"{number}.csv"
        try:
            write_manifest(data_set, root, out)
        except UserError:
            refused += 1
            assert not out.exists()
        else:
            for row in read_manifest(out):
                paths = [row[column] for column in row if column.partition(":")[0] in ("image", "audio", "features")]
                assert all((root / path).exists() and ".." not in path for path in paths)
    assert refused
