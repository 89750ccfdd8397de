"""Remembers which cases were read to their end and found good, so that they are not read again while their files stay.

Each case has a small file in the user's cache, $XDG_CACHE_HOME/gmd or ~/.cache/gmd, whose name is a checksum of all
that the result depends on. So a data folder may be read-only, and trainings that start at the same time do not get in
each other's way. Only good results are kept; one that is damaged counts as none.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gmd.data.segmentation.case import Case
from gmd.data.text_files import read_json, write_json
from gmd.errors import UserError

VERSION = 1  # of what is checked and summed: another one makes the results from before void

MOST = 2**20  # bytes of a result, which has some hundreds
KEPT = 90 * 24 * 3600  # seconds that a result is kept

Checksums = dict[str, str]  # modality, "seg" or "mask" -> checksum of the voxels in its file


def files_of(case: Case) -> dict[str, Path]:
    """Returns all files of a case: modality, "seg" or "mask" -> path."""
    others = {"seg": case.label, "mask": case.mask}
    return case.images | {key: path for key, path in others.items() if path is not None}


def images_of(checksums: Checksums) -> set[str]:
    """Returns the checksums of a case's images, without those of label map and mask, which are alike in many cases."""
    return {checksum for key, checksum in checksums.items() if key not in ("seg", "mask")}


def copies(cases: Mapping[str, Checksums], others: Mapping[str, Checksums]) -> list[tuple[str, str]]:
    """Returns each of the cases that has an image of one of the others, voxel by voxel, and that other's name."""
    owner = {checksum: name for name, checksums in others.items() for checksum in images_of(checksums)}
    found = [(name, sorted(owner[image] for image in images_of(sums) & owner.keys())) for name, sums in cases.items()]
    return [(name, names[0]) for name, names in found if names]


def state_of(case: Case) -> str | None:
    """Returns a checksum of what is known of a case without reading it: how it is to be read, and each file's state.

    That is where the file lies, its size and its times: one that is written anew has another time, even if a copy has
    kept that of its content. None if a file is gone.
    """
    how = replace(case, name="", images={}, label=None, mask=None, home=None)
    digest = hashlib.blake2b(f"{VERSION} {how}".encode(), digest_size=16)
    try:
        for key, path in files_of(case).items():
            stat = path.stat()
            known = f"{key} {os.path.realpath(path)} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
            digest.update(os.fsencode(known))
    except OSError:
        return None
    return digest.hexdigest()


def recall(case: Case) -> Checksums | None:
    """Returns the checksums of a case that was found good, if its files are as they were then; else None."""
    state, folder = state_of(case), _folder()
    if state is None or folder is None:
        return None
    try:
        found = read_json(folder / f"{state}.json", MOST)
    except (UserError, FileNotFoundError):
        return None
    if not isinstance(found, dict) or found.keys() != files_of(case).keys():
        return None
    return found if all(isinstance(checksum, str) for checksum in found.values()) else None


def remember(state: str | None, checksums: Checksums) -> None:
    """Keeps the checksums of a case that is good. `state`: as it was before the case was read."""
    folder = _folder()
    if state is None or folder is None:
        return
    # without a cache, on a home that is read-only or full, each start reads everything: slower, and right
    with contextlib.suppress(OSError):
        write_json(folder / f"{state}.json", checksums)


def forget_old() -> None:
    """Removes the results that were written more than three months ago: most are of files that are no more."""
    folder = _folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):  # as in `remember`
        for entry in os.scandir(folder):
            if entry.is_file(follow_symlinks=False) and time.time() - entry.stat().st_mtime > KEPT:
                os.unlink(entry.path)


def _folder() -> Path | None:
    """Returns the folder of the results; None for a user without a home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # the standard says to ignore a relative path
        cache = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return cache / "gmd" / "checked_cases"
