"""The mark of a run's folder, by which gmd knows what it may overwrite: names such as config.yaml are everybody's."""

import os
import re
import secrets
from datetime import datetime
from pathlib import Path

from gmd import __version__
from gmd.config.file import CONFIG
from gmd.data.text_files import read_json, write_json
from gmd.errors import UserError
from gmd.monitor.metrics_file import METRICS, check_metrics
from gmd.training.made_by import MARK, MOST_BYTES
from gmd.training.saved_run import SPLITS_FILE, read_config, read_splits

FORMAT = 1


def write_mark(folder: Path) -> None:
    """Marks a folder as gmd's, if it is not yet: by the mark's format, a random id, the version and the time."""
    if _why_no_mark(folder / MARK) is None:
        return
    mark = {
        "format": FORMAT,
        "id": secrets.token_hex(16),
        "gmd": __version__,
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    write_json(folder / MARK, mark)


def why_unknown(folder: Path) -> str | None:
    """Returns why a folder is none that gmd has made for a run or for folds, in words; None if it is one.

    It is one if it has the mark, or all that a run of an earlier gmd has, which wrote no marks: a configuration, splits
    and metrics, each as gmd writes it.
    """
    return _why_no_mark(folder / MARK) if os.path.lexists(folder / MARK) else _why_no_earlier_run(folder)


def _why_no_mark(path: Path) -> str | None:
    try:
        mark = read_json(path, MOST_BYTES)
    except (UserError, FileNotFoundError):
        mark = None
    mark = mark if isinstance(mark, dict) else {}
    number, name = mark.get("format"), mark.get("id")
    if type(number) is int and number > FORMAT:
        return f"its {MARK} is that of a later gmd"
    if type(number) is int and number == FORMAT and isinstance(name, str) and re.fullmatch("[0-9a-f]{32}", name):
        return None
    return f"its {MARK} is none that gmd has written"


def _why_no_earlier_run(folder: Path) -> str | None:
    files = [folder / name for name in (CONFIG, SPLITS_FILE, METRICS)]
    if not all(map(os.path.lexists, files)):
        return f"it has no {MARK}"
    try:
        config = read_config(folder)
        read_splits(folder)
        check_metrics(folder, config.modalities)
    except UserError as error:
        return f"it has no {MARK}, and {error}"
    except OSError as error:
        return f"it has no {MARK}, and {error.filename}: {error.strerror}"
    return None
