"""Where the results of an evaluation go: those of one data set never over those of another."""

from itertools import count
from pathlib import Path

from gmd.files import replacing

RECORD = "data.txt"  # in the results on other data than the run's own: which data


def results_folder(run: Path, data: Path | None) -> Path:
    """`evaluation/` of the run; of other data a folder in it that bears its name, and a number if that is taken."""
    folder = Path(run) / "evaluation"
    if data is None:
        return folder
    data = Path(data).resolve()
    name = data.stem if data.is_file() else data.name
    numbered = (folder / (name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(place for place in numbered if not place.exists() or _is_of(place, data))


def write_texts(folder: Path, texts: dict[str, str], data: Path | None = None) -> list[Path]:
    """name -> content, each file whole or not at all; and which data they are about, unless it is the run's own."""
    texts = texts if data is None else {RECORD: f"{Path(data).resolve()}\n"} | texts
    for name, text in texts.items():
        with replacing(folder / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _is_of(folder: Path, data: Path) -> bool:
    record = folder / RECORD
    return record.is_file() and record.read_text(encoding="utf-8") == f"{data}\n"
