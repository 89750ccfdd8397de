"""Where the results of an evaluation go, those of one data set never over those of another, and whose they are."""

from itertools import count
from pathlib import Path

from gmd.files import replacing
from gmd.training.checkpoint import load_checkpoint

CHECKPOINT = "checkpoint.txt"  # in all results, written last: of which weights they are
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


def checkpoint_name(run: Path, which: str) -> str:
    """For people, and for the CHECKPOINT of results: `best.pt (epoch 12)`. Raises UserError if it cannot be read."""
    return f"{which}.pt (epoch {load_checkpoint(Path(run) / f'{which}.pt')['epochs']})"


def scored_checkpoint(results: Path) -> str:
    """The `checkpoint_name` of that time; empty of results without one, as earlier versions left them."""
    record = results / CHECKPOINT
    return record.read_text(encoding="utf-8").strip() if record.exists() else ""


def outdated(run: Path, results: Path) -> str:
    """What has become of the checkpoint since it was scored; empty if it is still that one, or if nobody can tell.

    Raises UserError if the checkpoint of now cannot be read.
    """
    scored = scored_checkpoint(results)
    which = next((which for which in ("best", "last") if scored.startswith(f"{which}.pt ")), None)
    if which is None or not (run / f"{which}.pt").exists():
        return ""
    now = checkpoint_name(run, which)
    return "" if now == scored else f"scored was {scored}, the run has {now} now"


def _is_of(folder: Path, data: Path) -> bool:
    record = folder / RECORD
    return record.is_file() and record.read_text(encoding="utf-8") == f"{data}\n"
