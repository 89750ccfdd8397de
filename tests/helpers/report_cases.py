"""Folders of runs as training and evaluation leave them, for the tests of the report."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from gmd.config import TrainBrats, TrainConfig
from gmd.config.file import CONFIG, write_config
from gmd.scoring.table_text import Line, lines_csv
from gmd.subsets import all_subsets, subset_name
from helpers.pictures import step_line

VOID = {"meta", "link", "img", "input", "br"}


def write_run(run: Path, config: TrainConfig, lines: list[dict] = (), splits: dict | None = None) -> Path:
    """config.yaml, splits.json, and metrics.jsonl if there are lines."""
    write_config(run / CONFIG, replace(config, out=run))
    named = {split: [{"name": f"{split} {n}"} for n in range(2)] for split in ("train", "validation", "test")}
    described = {"data": str(config.data)} | named | (splits or {})
    (run / "splits.json").write_text(json.dumps(described))
    if lines:
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def brats(**options) -> TrainBrats:
    return TrainBrats(data=Path("phantoms"), modalities=("flair", "t1"), epochs=2, **options)


def step(number: int, epoch: int = 1, cosine: float | None = 0.25, names: tuple[str, ...] = ()) -> dict:
    """With the dominance that a method with surgery reports."""
    names = names or ("flair", "t1", "flair+t1")
    norms = {name: 1.0 for name in names}
    first, second = sorted({modality for name in names for modality in name.split("+")})[:2]
    modality = {"objective norm": {first: 0.5, second: 1.5}, "cosine with all": {first: 0.1, second: -0.1}}
    dominance = {"norms": norms, "weights": None, "projected": 0.0, "modality": modality}
    return step_line(number, list(names), cosine, epoch) | {"dominance": dominance}


def epoch(number: int, score: float | None = 0.5, **more: object) -> dict:
    metrics = None if score is None else {"WT": score, "TC": score}
    return {"kind": "epoch", "epoch": number, "validation": score, "metrics": metrics, "seconds": 90.0} | more


START = {
    "kind": "start",
    "epoch": 0,
    "step": 0,
    "device": "a processor of 2 cores",
    "threads": 3,
    "torch": "2.13.0",
    "gmd": "0.1.0",
    "parameters": 1234567,
    "time": "2026-11-21T20:43:00",
}


def trained() -> list[dict]:
    """The lines of two epochs of two steps."""
    first = [START, step(1), step(2), epoch(1, None)]
    return [*first, step(3, 2, -0.5), step(4, 2, -0.25), epoch(2, 0.75, memory_MB=4321.0)]


def write_table(
    run: Path, modalities: tuple[str, ...] = ("flair", "t1"), cells=(0.25, 12.5, 0.75)
) -> list[list[float]]:
    """An evaluation's table with Dice and distances; returns its figures, the mean's last."""
    subsets = all_subsets(modalities)
    rows = [[cell + place / 64 for cell in cells] for place in range(len(subsets))]
    lines = [Line(subset_name(subset), subset, 5, row) for subset, row in zip(subsets, rows, strict=True)]
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    folder = run / "evaluation"
    folder.mkdir()
    columns = ["WT", "hd95_WT", "mean"]
    (folder / "table.csv").write_text(lines_csv([*lines, Line("mean", None, None, mean)], modalities, "cases", columns))
    (folder / "table.md").write_text(
        "Hard Dice, mean over 5 cases.\n\n| and so on |\n\nHD95 in mm: the rule.\n\n| and so on |\n"
    )
    return [*rows, mean]


class Page(HTMLParser):
    """A page taken apart. Raises AssertionError if an element is not closed, or closed where it was not open."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> and nothing is open"
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.words.append(data)

    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def section(self, name: str) -> bool:
        return any(attributes.get("id") == name for _, attributes in self.elements)
