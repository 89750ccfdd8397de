"""A fingerprint of the C++ sources. setup.py notes it beside what it builds, and runs this file by itself: no torch."""

import hashlib
from pathlib import Path

SUFFIXES = (".cpp", ".h", ".inl", ".cu", ".cuh")


def fingerprint(folder: Path) -> str:
    """Returns 16 hexadecimal digits that stand for all sources in a folder, by their names and contents.

    folder: csrc/ of a source tree
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]
