"""UPMC Food-101 (Wang et al., 2015): pictures of 101 dishes, and titles of the recipes that they are from."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from gmd.data.manifest.layouts import mla, mmbt
from gmd.data.manifest.layouts.layout import Layout, Lists
from gmd.data.manifest.layouts.listed import Groups, Listed, Part, checked_name, checked_path, text_of
from gmd.data.manifest.layouts.places import Files, Modality
from gmd.data.manifest.layouts.texts import Tokens, Words
from gmd.data.text_files import MOST_TEXT, brief, parse_json, read_utf8
from gmd.errors import UserError, shown

_DISH = re.compile("[a-z_]+")
_COLUMNS = ("image_path", "text", "label")


def _label_of(where: str, label: object) -> str:
    """Returns the name of a dish, which is the name of a folder too. Raises UserError for what can be none."""
    if not isinstance(label, str) or not _DISH.fullmatch(label):
        raise UserError(f"{where}: got the label {brief(label)}, expected the name of a dish such as apple_pie")
    return label


def _no_groups(where: str, name: str) -> Groups:
    return {}


def _read_cggm(path: Path, part: Part) -> Iterator[Listed]:
    """Reads a list of CGGM (Guo et al., NeurIPS 2024): id, text_tokens, which are words, img_path and label of each."""
    try:
        values = parse_json(read_utf8(path, MOST_TEXT).removeprefix("\ufeff"))
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: no JSON ({shown(error, 200)})") from error
    if not isinstance(values, list):
        raise UserError(f"{path}: got {brief(values)}, expected a list of objects")
    for number, value in enumerate(values):
        yield mmbt.described(f"{path}: entry {number}", value, part, _label_of, ("text_tokens", "img_path"))


def _read_titles(path: Path, part: Part) -> Iterator[Listed]:
    """Reads a table of BalanceBenchmark (Xu et al., 2025): image path, text, label, with or without a header."""
    rows = csv.reader(io.StringIO(text_of(path), newline=""), strict=True)
    order = list(_COLUMNS)
    try:
        for cells in rows:
            where = f"{path}:{rows.line_num}"
            names = [cell.strip().lower().replace(" ", "_") for cell in cells]
            if sorted(names) == sorted(_COLUMNS):
                order = names
            elif len(cells) == len(order):
                yield _titled(where, dict(zip(order, cells, strict=True)), part)
            elif cells:
                expected = "expected three cells: image path, text, label, with commas"
                raise UserError(f"{where}: got {brief(','.join(cells))}, {expected}")
    except csv.Error as error:
        raise UserError(f"{path}:{rows.line_num}: is no line of a table ({error})") from error


def _titled(where: str, value: dict[str, str], part: Part) -> Listed:
    """Returns the sample of a line; the path of its image is one below images/PART, or images/PART/LABEL."""
    image = checked_path(where, value["image_path"].strip())
    name, label = checked_name(where, image.rpartition("/")[2]), _label_of(where, value["label"].strip())
    return Listed(name, label, part, where, {"text": value["text"]}, {"text": value["text"], "image": image})


CGGM = Lists("cggm", {"train": "train.json", "dev": "dev.json", "test": "test.json"}, _read_cggm)
BALANCE_BENCHMARK = Lists(
    "balancebenchmark", {"train": "texts/train_titles.csv", "test": "texts/test_titles.csv"}, _read_titles
)
LAYOUT = Layout(
    name="food101",
    lists=(mmbt.lists(_label_of), mla.lists("food", ".jpg", _label_of, _no_groups), CGGM, BALANCE_BENCHMARK),
    modalities=(
        Modality(
            "image",
            (
                Files(
                    "image",
                    (
                        "{image}",
                        *mla.PICTURES,
                        "images/{part}/{label}/{name}.jpg",
                        "images/{part}/{label}/{image}",
                        "images/{part}/{image}",
                        "images/{image}",
                    ),
                ),
            ),
        ),
        Modality("text", (Words(), Tokens(mla.TOKENS))),
    ),
    groups=("text",),
)
