"""Small sets of labelled pictures: a folder for each class, and CIFAR's files."""

import pickle

import numpy as np
from PIL import Image


def write_tree(folder, **counts):
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (5, 4), (number, index, 0)).save(folder / name / f"image_{index:04}.png")
    return folder


def cifar_file(count, classes, key=str, **changes):
    rng = np.random.default_rng(count)
    values = {
        "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        "fine_labels": [index % classes for index in range(count)],
        "filenames": [f"{index}.png" for index in range(count)],
    }
    return {key(name): value for name, value in (values | changes).items()}


def write_cifar(folder, key=str, protocol=2, **changes):
    """Three classes of CIFAR-100's layout, in protocol 2 as Python 2 wrote it."""
    folder.mkdir()
    files = {
        "meta": {key("fine_label_names"): ["apple", "bear", "crab"]},
        "train": cifar_file(30, 3, key, **changes),
        "test": cifar_file(6, 3, key),
    }
    for name, content in files.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
    return folder
