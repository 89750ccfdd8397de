"""Small manifests with real files, for the tests of what reads them."""

import csv

import numpy as np
import soundfile
from PIL import Image

from gmd.data.manifest.inputs import Preparation

SMALL = Preparation(image_size=8, rate=8000, seconds=0.2, mels=8, vocabulary=50, longest=6)
SPLITS = ("train", "train", "train", "train", "validation", "validation", "test", "test")


def write_picture(path, color=(255, 0, 0), size=(12, 10), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


def write_sound(path, seconds=0.2, rate=8000, channels=1, frequency=440.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate)
    return path


def write_table(path, rows, delimiter=",", encoding="utf-8"):
    """Writes rows, dictionaries of the columns of the first."""
    with open(path, "w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def all_kinds(folder, splits=SPLITS):
    """Rows of all four kinds of modalities, with their files: two classes, told by colour, pitch, word and sign."""
    rng, rows = np.random.default_rng(0), []
    features = rng.standard_normal((len(splits), 3, 4)).astype(np.float32)
    np.savez(folder / "features.npz", found=features)
    for i, split in enumerate(splits):
        kind = i % 2
        write_picture(folder / "pictures" / f"{i}.png", (40 + i, 255 * kind, 0))
        write_sound(folder / "sound" / f"{i}.wav", frequency=(300, 900)[kind])
        rows.append(
            {
                "id": f"sample{i}",
                "split": split,
                "label": ("cat", "dog")[kind],
                "image:face": f"pictures/{i}.png",
                "audio:voice": f"sound/{i}.wav",
                "text:words": ("it says miaow, often", "it says woof")[kind],
                "features:given": f"features.npz#found[{i}]",
            }
        )
    return rows


def only(rows, *modalities):
    """The same rows without the columns of other modalities."""
    return [{k: v for k, v in row.items() if ":" not in k or k in modalities} for row in rows]


class Mark:
    """Makes a file where somebody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")
