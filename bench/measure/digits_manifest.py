"""Written and spoken digits as files: PNG pictures, WAV recordings, and the manifest that pairs them by class.

The pairs and the splits are those of `gmd train digits`, see `gmd.data.sequences.digits`.
"""

import csv
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from sklearn.datasets import load_digits

from gmd.data.sequences.digits import RATE, check_recordings, choose_images, recording_names, split_recordings
from gmd.data.sequences.npz import open_npz
from gmd.files import replacing

SIDE = 64  # pixels
MANIFEST = "manifest.csv"


def write_digits_manifest(fsdd_npz: Path, folder: Path, seed: int = 0) -> Path:
    """Writes scikit-learn's 1797 images as PNG, the spoken digits as WAV at 8 kHz, and a manifest of the pairs.

    fsdd_npz: the spoken digits, as `read_digits` takes them; folder: is made as needed
    seed: draws what validates, and the pairs
    returns the path of the manifest: columns id, split, label, image:image, audio:audio, speaker
    Raises UserError for another file than one of spoken digits.
    """
    with open_npz(fsdd_npz) as arrays:
        check_recordings(fsdd_npz, arrays)
        held = {name: arrays[name] for name in ("waveform", "offset", "digit", "speaker", "index")}
    images = load_digits()
    rng = np.random.default_rng(seed)
    parts = split_recordings(held["digit"], held["index"], rng)
    chosen = choose_images(held["digit"], parts, images.target, rng)
    _write_images(images.images, folder / "images")
    recordings = recording_names(held)
    _write_recordings(held["waveform"], held["offset"], recordings, folder / "recordings")
    split_of = {member: split for split, members in parts.items() for member in members.tolist()}
    with replacing(folder / MANIFEST) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "split", "label", "image:image", "audio:audio", "speaker"])
        for i, name in enumerate(recordings):
            files = [f"images/{chosen[i]:04d}.png", f"recordings/{name}.wav"]
            writer.writerow([name, split_of[i], held["digit"][i], *files, held["speaker"][i]])
    return folder / MANIFEST


def _write_images(images: np.ndarray, folder: Path) -> None:
    """Writes images [n, 8, 8] with values from 0 to 16 as grey PNG of 64 by 64 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        small = Image.fromarray((image * (255 / 16)).round().astype(np.uint8))
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{number:04d}.png")


def _write_recordings(waveform: np.ndarray, offset: np.ndarray, recordings: list[str], folder: Path) -> None:
    """Writes recordings, end to end in `waveform` int16, as WAV of 16 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(recordings):
        soundfile.write(folder / f"{name}.wav", waveform[offset[i] : offset[i + 1]], RATE, subtype="PCM_16")
