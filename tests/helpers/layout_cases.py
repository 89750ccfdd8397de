"""Small data sets in the layouts in which the field hands them around, and the manifests that come of them."""

import csv
import io
import json
import wave
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from gmd.data.manifest.layouts.build import write_manifest
from gmd.data.spreadsheet_cells import unguarded

EMOTIONS = {"NEU": "Neutral", "HAP": "Happy", "SAD": "Sad", "FEA": "Fear", "DIS": "Disgust", "ANG": "Anger"}
DISHES = ("apple_pie", "baklava", "ramen")
SPLIT_SIGN = " [split|sign] "


def _picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 30, 30)).save(content, "JPEG")
    return content.getvalue()


def _sound() -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(320))
    return content.getvalue()


PICTURE, SOUND = _picture(), _sound()


def write(path: Path, content: bytes | str) -> Path:
    """Writes a file, with the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_array(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_lines(path: Path, lines: Iterable[str], start: str = "") -> Path:
    return write(path, start + "".join(f"{line}\n" for line in lines))


def write_tokens(folder: Path, name: str, tokens: list[int], length: int = 8) -> None:
    """As MLA's extract_token.py: int64 [1, length], and a mask that is 1 where it is filled up."""
    filled = np.zeros((1, length), np.int64)
    filled[0, : len(tokens)] = tokens
    write_array(folder / f"{name}_token.npy", filled)
    write_array(folder / f"{name}_pm.npy", (np.arange(length) >= len(tokens))[None].astype(np.float32))


def read_manifest(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a manifest, as a reader of the project sees them."""
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = map(unguarded, csv.reader(file, strict=True))
    return [dict(zip(header, row, strict=True)) for row in rows]


def made(data_set: str, folder: Path, **options) -> tuple[list[dict[str, str]], str]:
    """Returns the rows of the manifest of a folder, and what was said of it."""
    out = folder.parent / f"{data_set}{len(list(folder.parent.glob('*.csv')))}.csv"
    notes = write_manifest(data_set, folder, out, **options)
    return read_manifest(out), "\n".join(notes)


def by_split(rows: list[dict[str, str]], column: str) -> Mapping[str, set[str]]:
    """Returns what the rows of each split have in a column."""
    return {split: {row[column] for row in rows if row["split"] == split} for split in ("train", "validation", "test")}


def crema_names(actors: int = 6) -> dict[str, list[str]]:
    """Returns the names of clips by list, with every actor in both."""
    names = [
        f"{1001 + actor}_{sentence}_{emotion}_XX"
        for actor, sentence, emotion in product(range(actors), ("IEO", "TIE"), EMOTIONS)
    ]
    return {"train": [name for i, name in enumerate(names) if i % 7], "test": names[::7]}


def crema_d(root: Path) -> Path:
    """CREMA-D as OGM-GE has it: lists with a byte-order mark, WAV files, and frames of a second each."""
    for part, names in crema_names().items():
        write_lines(root / f"{part}.csv", [f"{name},{name[9:12]}" for name in names], start="\ufeff")
        for name in names:
            write(root / "AudioWAV" / f"{name}.wav", SOUND)
            for second in range(2):
                write(root / "Image-01-FPS" / name / f"frame_{second:05}.jpg", PICTURE)
    return root


def crema_d_of_mla(root: Path) -> Path:
    """CREMA-D as MLA has it: another split, filter banks, frames by list."""
    for part, names in crema_names().items():
        lines = [f"{name}.flv {EMOTIONS[name[9:12]]}" for name in names]
        write_lines(root / f"my_{part}_cre.txt", lines)
        for name in names:
            write_array(root / f"audio/{part}_fbank/{name}.npy", np.ones((16, 8), np.float32))
            write(root / f"visual/{part}_imgs/Image-01-FPS/{name}/00000.jpg", PICTURE)
    return root


def dishes(each: int, first: int) -> list[tuple[str, str]]:
    """Returns labels and names of pictures."""
    return [(label, f"{label}_{i}") for label in DISHES for i in range(first, first + each)]


PARTS = {"train": dishes(4, 0), "dev": dishes(1, 10), "test": dishes(2, 20)}


def food101_of_mmbt(root: Path) -> Path:
    """Food-101 as MMBT and QMF have it: train, dev and test.jsonl."""
    for part, samples in PARTS.items():
        lines = []
        for label, name in samples:
            image = f"images/{'test' if part == 'test' else 'train'}/{label}/{name}.jpg"
            write(root / image, PICTURE)
            value = {"id": f"{label}_{name}.jpg", "label": label, "text": f"a recipe of {name}", "img": image}
            lines.append(json.dumps(value))
        write_lines(root / f"{part}.jsonl", lines)
    return root


def food101_of_mla(root: Path, name_of_lists: str = "food") -> Path:
    """Food-101 as MLA has it: two lists, tokens and pictures by list."""
    for part in ("train", "test"):
        write_lines(root / f"my_{part}_{name_of_lists}.txt", [f"{name}.jpg {label}" for label, name in PARTS[part]])
        for number, (_, name) in enumerate(PARTS[part]):
            write(root / f"visual/{part}_imgs/{name}.jpg", PICTURE)
            write_tokens(root / f"text_token/{part}_token", name, [2003, 1037, 0, number + 5])
    return root


def food101_of_cggm(root: Path, dev: bool = True) -> Path:
    """Food-101 as CGGM has it: lists of objects, with the words of each text."""
    for part, samples in PARTS.items():
        values = []
        for label, name in samples:
            write(root / f"img/{name}.jpg", PICTURE)
            value = {"id": name, "text_tokens": ["best", "recipe", name], "img_path": f"img/{name}.jpg", "label": label}
            values.append(value)
        if dev or part != "dev":
            write(root / f"{part}.json", json.dumps(values))
    return root


def food101_of_balancebenchmark(root: Path, header: str | None = "Image_path,text,label") -> Path:
    """Food-101 as BalanceBenchmark has it: tables of titles, and a folder of pictures for each class."""
    for part in ("train", "test"):
        lines = [f'{name}.jpg,"{label}, the best",{label}' for label, name in PARTS[part]]
        write_lines(root / f"texts/{part}_titles.csv", [*([header] if header else []), *lines])
        for label, name in PARTS[part]:
            write(root / f"images/{part}/{label}/{name}.jpg", PICTURE)
    return root


def mvsa(root: Path) -> Path:
    """MVSA-Single as MMBT's layout has it."""
    number = 0
    for part, count in (("train", 4), ("dev", 1), ("test", 2)):
        lines = []
        for label in ("positive", "neutral", "negative"):
            for _ in range(count):
                number += 1
                write(root / f"data/{number}.jpg", PICTURE)
                value = {
                    "id": str(number),
                    "label": label,
                    "text": f"@you #{label} {number}",
                    "img": f"data/{number}.jpg",
                }
                lines.append(json.dumps(value))
        write_lines(root / f"{part}.jsonl", lines)
    return root


def kinetics_sounds(root: Path) -> Path:
    """Kinetics-Sounds as OGM-GE has it: three cells a line, filter banks, ten frames of a second each."""
    for part, ids in (("train", "abcdefgh"), ("test", "wxyz")):
        names = [f"-{letter}ucBGXp_0Q_{i}_{i + 10}" for i, letter in enumerate(ids)]
        write_lines(root / f"my_{part}.txt", [f"{name},10,{i % 2 * 30}" for i, name in enumerate(names)])
        for name in names:
            write_array(root / f"{part}_spec/{name}.npy", np.ones((16, 8), np.float32))
            for second in range(1, 3):
                write(root / name / f"frame_0000{second}.jpg", PICTURE)
    return root


def iemocap_lines(part: int) -> list[str]:
    """Returns lines of a list: every dialogue of every session has two turns of each speaker in each list."""
    lines = []
    for session, actor, dialogue, speaker, turn in product(
        range(1, 6), "FM", ("impro01", "script02_2"), "FM", range(2)
    ):
        name = f"Ses0{session}{actor}_{dialogue}_{speaker}{part * 2 + turn:03}"
        label = ("Neutral", "Angry", "Sad", "Happy")[len(lines) % 4]
        lines.append(SPLIT_SIGN.join([f"{name}.mp4", f"well, {turn}, I said, {name}", label]))
    return lines


def iemocap(root: Path, dev: bool = False) -> Path:
    """IEMOCAP as MLA's lists have it, with the recordings of the release and faces."""
    for number, part in enumerate(("train", "test", *(["dev"] if dev else []))):
        lines = iemocap_lines(number)
        write_lines(root / f"my_{part}_iemo.txt", lines)
        for line in lines:
            name = line.partition(".mp4")[0]
            dialogue = name.rpartition("_")[0]
            write(root / f"Session{name[4]}/sentences/wav/{dialogue}/{name}.wav", SOUND)
            write(root / f"visual/{part}_imgs/{name}/1.jpg", PICTURE)
    return root
