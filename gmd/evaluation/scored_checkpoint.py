"""Which checkpoint the results of an evaluation are about, and whether the run still has that one."""

from pathlib import Path

from gmd.data.text_files import read_utf8
from gmd.training.checkpoint import count_in, load_checkpoint
from gmd.training.run_files import CHECKPOINT_RECORD

MOST_RECORD = 1000  # bytes


def describe_checkpoint(run: Path, which: str) -> str:
    """Returns a run's checkpoint in words, `best.pt (epoch 12)`, as CHECKPOINT_RECORD has it.

    which: "best" or "last"
    Raises UserError if the checkpoint cannot be read.
    """
    path = Path(run) / f"{which}.pt"
    return f"{which}.pt (epoch {count_in(load_checkpoint(path), 'epochs', path)})"


def scored_checkpoint(results: Path) -> str:
    """Returns the scored checkpoint in the words of `describe_checkpoint`; empty for results without a record of it.

    Raises UserError if the record is no text.
    """
    record = results / CHECKPOINT_RECORD
    return read_utf8(record, MOST_RECORD).strip() if record.exists() else ""


def checkpoint_change(run: Path, results: Path) -> str:
    """Returns what has become of the checkpoint since it was scored; empty if it is the same, or if nobody can tell.

    Raises UserError if the run's checkpoint cannot be read.
    """
    scored = scored_checkpoint(results)
    which = next((which for which in ("best", "last") if scored.startswith(f"{which}.pt ")), None)
    if which is None or not (run / f"{which}.pt").exists():
        return ""
    now = describe_checkpoint(run, which)
    return "" if now == scored else f"scored was {scored}, the run has {now} now"
