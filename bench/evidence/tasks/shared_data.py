"""Folders of data that all runs of a task share: made once, whole or not at all, by whichever process comes first."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory


def made_once(shared: Path, name: str, make: Callable[[Path], object]) -> Path:
    """Returns the folder `name`, which `make` fills if it is not there. Of two processes that do, one is kept."""
    whole = shared / name
    if not whole.exists():
        with TemporaryDirectory(dir=shared) as unfinished:
            folder = Path(unfinished) / "data"
            folder.mkdir()
            make(folder)
            try:
                os.rename(folder, whole)
            except OSError:
                if not whole.exists():
                    raise
    return whole


def lacking(data: Path, *, needed: Sequence[str]) -> str | None:
    """Returns which of the files and folders are not in the folder of all data sets, in a line; None if all are."""
    missing = [name for name in needed if not (data / name).exists()]
    return f"not there: {', '.join(str(data / name) for name in missing)}" if missing else None
