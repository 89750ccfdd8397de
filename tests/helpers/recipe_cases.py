"""What the recipes of docs/recipes.md are run on here: data in the layouts that they need, and options for seconds."""

import re
import tarfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gmd.data.segmentation.phantom import write_phantoms
from helpers.doc_blocks import Block, blocks_of
from helpers.image_cases import write_cifar, write_tree
from helpers.layout_cases import (
    EMOTIONS,
    PARTS,
    crema_d,
    crema_names,
    food101_of_cggm,
    food101_of_mla,
    write_array,
    write_lines,
    write_tokens,
)
from helpers.places import ROOT
from helpers.sequence_cases import mult, write_pickle
from helpers.sequence_layouts import write_mmin

PAGE = ROOT / "docs" / "recipes.md"

# of gmd train TASK and of python -m examples.train_images; the last of two values of an option counts
TINY = {
    "brats": "--epochs 1 --warmup 0 --width 0.125 --patch 16 16 16 --batch 1 --steps-per-epoch 1",
    "sentiment": "--epochs 1 --layers 1",
    "sequences": "--epochs 1 --layers 1",
    "classify": "--epochs 2 --validate-every 2 --layers 1 --image-size 32 --seconds 0.25 --workers 0",
    "images": "--epochs 1 --warmup-epochs 0 --batch 8 --image-size 32 --network strip:16:1-1-1-1 --workers 0",
}
LISTED = 14  # clips of CREMA-D, of each list: all emotions are among them
MILESTONES = "--milestones 1"  # a schedule of steps needs one before the end


class Section(NamedTuple):
    """What stands below a heading of the page. text: without the heading"""

    heading: str
    text: str
    blocks: list[Block]

    def files(self) -> list[str]:
        """The files and folders of runs that the prose names."""
        return re.findall(r"`(runs/[\w./-]+)`", self.text)


def sections() -> Iterator[Section]:
    """The parts of the page that have commands."""
    page = PAGE.read_text(encoding="utf-8")
    _, *parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    blocks = iter(blocks_of(PAGE))
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        below = list(islice(blocks, text.count("\n```") // 2))
        if any(block.language == "sh" for block in below):
            yield Section(heading, text, below)


def tiny(words: list[str]) -> list[str]:
    """The same command, with options that make a training one of seconds; others are left as they are."""
    if words[:3] == ["python", "-m", "examples.train_images"]:
        return [*words, *TINY["images"].split()]
    if words[:2] != ["gmd", "train"]:
        return words
    stepped = any(word.startswith("mla-") for word in words)
    return [*words, *TINY[words[2]].split(), *(MILESTONES.split() if stepped else [])]


def _brats2018(place: Path) -> None:
    _brats(
        place, [f"MICCAI_BraTS_2018_Data_Training/{grade}/Brats18_{grade}_{i}_1" for grade in "HL" for i in range(5)]
    )
    folder = place / "MICCAI_BraTS_2018_Data_Training"
    for grade in "HL":
        (folder / grade).rename(folder / f"{grade}GG")


def _brats2021(place: Path) -> None:
    _brats(place, [f"BraTS2021/BraTS2021_{i:05}" for i in range(6)])


def _brats(place: Path, cases: list[str]) -> None:
    """Phantoms in the place of cases, under their names, as small as they can be."""
    made = place / "phantoms"
    write_phantoms(made, len(cases), (16, 16, 16), 0)
    for name, phantom in zip(cases, sorted(path for path in made.iterdir() if path.is_dir()), strict=True):
        case = place / name
        case.mkdir(parents=True)
        for file in phantom.iterdir():
            file.rename(case / file.name.replace(phantom.name, case.name))


def _mosi(place: Path) -> None:
    write_pickle(place / "mosi_data.pkl", mult()[0])


def _iemocap(place: Path) -> None:
    write_mmin(place / "IEMOCAP")


def _food101_of_cggm(place: Path) -> None:
    """With hidden states of two networks, smaller than those of ViT and BERT."""
    folder = food101_of_cggm(place / "Food-101", dev=False)
    rng = np.random.default_rng(0)
    for _, name in PARTS["train"] + PARTS["test"]:
        write_array(folder / f"vit/{name}.npy", rng.standard_normal((5, 6), np.float32))
        write_array(folder / f"bert/{name}.npy", rng.standard_normal((4, 6), np.float32).astype(np.float16))


def _crema_d(place: Path) -> None:
    folder = crema_d(place / "CREMA-D")
    for part, names in crema_names().items():
        lines = [f"{name}.flv {EMOTIONS[name[9:12]]}" for name in names[:LISTED]]
        write_lines(folder / f"my_{part}_cre.txt", lines)


def _food101_of_mla(place: Path) -> None:
    """With the last of BERT's tokens in one of the texts."""
    folder = food101_of_mla(place / "Food-101")
    write_tokens(folder / "text_token/train_token", PARTS["train"][0][1], [2003, 30521])


def _pictures(place: Path) -> None:
    with tarfile.open(place / "cifar-100-python.tar.gz", "w:gz") as tar:
        tar.add(write_cifar(place / "cifar"), "cifar-100-python")
    write_tree(place / "caltech-101" / "101_ObjectCategories", accordion=12, airplanes=10, BACKGROUND_Google=2)


# heading -> what writes its data into a folder
STAND_INS: dict[str, Callable[[Path], None]] = {
    "GMD on BraTS 2018": _brats2018,
    "CGGM on CMU-MOSI": _mosi,
    "CGGM on IEMOCAP": _iemocap,
    "CGGM on UPMC-Food101": _food101_of_cggm,
    "CGGM on BraTS 2021": _brats2021,
    "MLA on CREMA-D": _crema_d,
    "MLA on UPMC-Food101": _food101_of_mla,
    "Strip-MLP on CIFAR-100 and Caltech-101": _pictures,
}
