"""Data sets from somebody else as `gmd manifest` finds them: lists that lead elsewhere, files that never end, links."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from helpers.attacks import content, done, refused
from helpers.forked_gmd import Gmd
from helpers.layout_cases import food101_of_mla, mvsa, read_manifest, write

pytestmark = pytest.mark.slow

QUICK = 20.0  # seconds


def line(**values: object) -> str:
    return json.dumps({"id": "x", "label": "neutral", "text": "t", "img": "data/1.jpg"} | values)


@pytest.mark.parametrize(
    "bad",
    [
        line(img="../../etc/passwd"),
        line(img="/etc/passwd"),
        line(id="a\x1b]0;owned\x07\x1b[2J/b"),
        line(label="\x1b[31mpositive"),
        line(text={"a": [1] * 100}),
        '{"id": ' + "[" * 100_000,
        line(id="x" * 100_000 + "/"),
        '{"id": 1e999}',
    ],
    ids=range(8),
)
def test_a_line_that_leads_elsewhere_or_speaks_to_the_terminal(gmd: Gmd, tmp_path: Path, bad: str):
    root = mvsa(tmp_path / "d")
    write(root / "dev.jsonl", f"{bad}\n")
    before = content(tmp_path)
    refused(gmd("manifest", "mvsa", root, "-o", tmp_path / "m.csv"), "dev.jsonl:1: ")
    assert content(tmp_path) == before


@pytest.mark.parametrize("special", ["pipe", "device", "circle", "folder"])
def test_a_list_that_is_no_file_is_none(gmd: Gmd, tmp_path: Path, special: str):
    root = mvsa(tmp_path / "d")
    path = root / "test.jsonl"
    path.unlink()
    make = {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "circle": lambda: path.symlink_to(path),
        "folder": path.mkdir,
    }
    make[special]()
    refused(gmd("manifest", "mvsa", root, "-o", tmp_path / "m.csv", seconds=QUICK), "test.jsonl is missing beside")


def test_tokens_that_claim_more_than_there_is(gmd: Gmd, tmp_path: Path):
    root = food101_of_mla(tmp_path / "d")
    path = root / "text_token/train_token/apple_pie_0_token.npy"
    header = np.lib.format.magic(1, 0) + b"v\x00"
    text = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1, 1099511627776), }"
    path.write_bytes(header + text.ljust(0x75) + b"\n")
    told = refused(gmd("manifest", "food101", root, "-o", tmp_path / "m.csv"), "apple_pie_0_token.npy")
    assert told.peak < 2**31


def test_pictures_of_everybody_behind_a_link(gmd: Gmd, tmp_path: Path):
    """A link in a downloaded folder would have a network trained on, and a report show, what lies elsewhere."""
    root = mvsa(tmp_path / "d")
    secret = write(tmp_path / "secret" / "1.jpg", b"mine")
    (root / "data" / "1.jpg").unlink()
    (root / "data" / "1.jpg").symlink_to(secret)
    told = done(gmd("manifest", "mvsa", root, "-o", tmp_path / "m.csv"))
    assert "are not followed: data/1.jpg" in told.out
    assert [row["id"] for row in read_manifest(tmp_path / "m.csv") if not row["image:image"]] == ["1"]


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1+1", "@SUM(1)", 'a";=1+1', "\t=1+1"], ids=range(5))
def test_a_text_is_no_formula(gmd: Gmd, tmp_path: Path, text: str):
    root = mvsa(tmp_path / "d")
    write(root / "dev.jsonl", line(text=text) + "\n")
    done(gmd("manifest", "mvsa", root, "-o", tmp_path / "m.csv"))
    written = (tmp_path / "m.csv").read_text(encoding="utf-8")
    assert not any(f"{before}{sign}" in written for before in (",", '"', ";", "\n") for sign in "=+@")
    assert [row["text:text"] for row in read_manifest(tmp_path / "m.csv") if row["id"] == "x"] == [text.strip()]
