"""Remembers which cases were read to their end and found good, so that they are not read again while their files stay.

Each case has a small file in the user's cache, $XDG_CACHE_HOME/gmd or ~/.cache/gmd, whose name is a checksum of all
that the result depends on. So a data folder may be read-only, and trainings that start at the same time do not get in
each other's way. Only good results are kept; one that is damaged counts as none.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from gmd.data.segmentation.cases import Case
from gmd.files import replacing

VERSION = 1  # of what is checked and summed: another one makes the results from before void

Checksums = dict[str, str]  # modality, "seg" or "mask" -> checksum of the voxels in its file


def files_of(case: Case) -> dict[str, Path]:
    """Returns all files of a case: modality, "seg" or "mask" -> path."""
    others = {"seg": case.label, "mask": case.mask}
    return case.images | {key: path for key, path in others.items() if path is not None}


def state_of(case: Case) -> str | None:
    """Returns a checksum of what is known of a case without reading it: all of `case`, and each file's size and times.

    A file that is written anew has another time, even if a copy has kept that of its content. None if a file is gone.
    """
    digest = hashlib.blake2b(f"{VERSION} {case}".encode(), digest_size=16)
    try:
        for key, path in files_of(case).items():
            stat = path.stat()
            digest.update(f"{key} {path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}".encode())
    except OSError:
        return None
    return digest.hexdigest()


def recall(case: Case) -> Checksums | None:
    """Returns the checksums of a case that was found good, if its files are as they were then; else None."""
    state, folder = state_of(case), _folder()
    if state is None or folder is None:
        return None
    try:
        found = json.loads((folder / f"{state}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and found.keys() == files_of(case).keys()
    return found if whole and all(isinstance(checksum, str) for checksum in found.values()) else None


def remember(state: str | None, checksums: Checksums) -> None:
    """Keeps the checksums of a case that is good. `state`: as it was before the case was read."""
    folder = _folder()
    if state is None or folder is None:
        return
    # without a cache, on a home that is read-only or full, each start reads everything: slower, and right
    with contextlib.suppress(OSError), replacing(folder / f"{state}.json") as unfinished:
        unfinished.write_text(json.dumps(checksums), encoding="utf-8")


def _folder() -> Path | None:
    """Returns the folder of the results; None for a user without a home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # the standard says to ignore a relative path
        cache = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return cache / "gmd" / "checked_cases"
