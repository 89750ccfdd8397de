"""Small manifests with the files that they name, and the smallest trainings on them."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from gmd.config import TrainClassify

SPLITS = ("train",) * 16 + ("validation",) * 6 + ("test",) * 6
KINDS = ("cat", "dog")
WORDS = {"cat": "a small cat sleeps on the sofa", "dog": "the big dog runs in a field"}
ALL = ("face", "voice", "words", "vector")


def classes(samples: int = len(SPLITS)) -> list[str]:
    return [KINDS[i % 2] for i in range(samples)]


def write_image(path: Path, seed: int, side: int = 32) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path.name


def write_sound(path: Path, seed: int, samples: int = 4000, rate: int = 8000) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, samples), rate)
    return path.name


def write_manifest(folder: Path, columns: Mapping[str, Iterable[object]], name: str = "manifest.csv") -> Path:
    """A table of these columns; id and split are added where they are not among them."""
    columns = {key: list(cells) for key, cells in columns.items()}
    rows = len(next(iter(columns.values())))
    columns = {"id": [f"s{i}" for i in range(rows)], "split": SPLITS[:rows]} | columns
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
    return folder / name


def words_and_vectors(folder: Path, **columns: Iterable[object]) -> Path:
    """Text and features, of which some rows lack one; the label is in both. columns: others, or instead of these"""
    labels, rng = classes(), np.random.default_rng(0)
    vectors = rng.standard_normal((len(SPLITS), 5)).astype(np.float32) + np.array([[kind == "dog"] for kind in labels])
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "vectors.npy", vectors.astype(np.float32))
    cells = {
        "label": labels,
        "text:words": ["" if i % 7 == 3 else WORDS[kind] for i, kind in enumerate(labels)],
        "features:vector": ["" if i % 7 == 5 else f"vectors.npy[{i}]" for i in range(len(labels))],
    }
    if any(column.startswith("label:") for column in columns):
        del cells["label"]
    return write_manifest(folder, cells | columns)


def four_modalities(folder: Path) -> Path:
    """A picture, a sound, a text and a vector of each sample."""
    rows = range(len(SPLITS))
    faces = [f"faces/{write_image(folder / 'faces' / f'{i}.png', i)}" for i in rows]
    voices = [f"voices/{write_sound(folder / 'voices' / f'{i}.wav', i)}" for i in rows]
    return words_and_vectors(folder, **{"image:face": faces, "audio:voice": voices})


def tiny_classify(data: Path, out: Path, **options: object) -> TrainClassify:
    """The smallest training: 16 samples, 2 epochs of 2 steps, in this process."""
    small = {"width": 16, "layers": 1, "heads": 2, "batch": 8, "epochs": 2, "vocabulary": 64, "longest": 8}
    sizes = {"image_size": 32, "seconds": 0.5, "rate": 8000, "mels": 32, "workers": 0}
    return TrainClassify(data=data, out=out, device="cpu", **{**small, **sizes, **options})
