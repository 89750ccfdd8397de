"""Links of pages that lead out of docs/, where the site would not have them."""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# pages that lie elsewhere, from the root of the repository, and their places in the site
PAGES = {
    "README.md": "project/readme.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "bench/ROOFLINE.md": "project/roofline.md",
}
SHOWN = frozenset((".png", ".svg", ".csv"))  # a browser shows or saves these as they are; others as text
LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)\s#]+)((?:#[^)\s]*)?\))")


def left(markdown: str, folder: str) -> Iterator[str]:
    """Yields files outside docs/ that a page links to, from the root of the repository, PAGES left out.

    folder: of the page, from the root of the repository
    """
    for _, target, _ in LINK.findall(markdown):
        path = posixpath.normpath(posixpath.join(folder, target))
        if path not in PAGES and not path.startswith("docs/") and (ROOT / path).is_file():
            yield path


def turned(markdown: str, folder: str, uri: str) -> str:
    """Returns a page whose links lead to the places in the site.

    folder: of the page, from the root of the repository; uri: its place in the site
    """

    def place(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        if not (ROOT / path).exists():
            return match[0]  # mkdocs says that it leads nowhere
        return before + posixpath.relpath(place_of(path), posixpath.dirname(uri) or ".") + after

    return LINK.sub(place, markdown)


def place_of(path: str) -> str:
    """Returns where in the site something lies, from its path in the repository."""
    if path in PAGES:
        return PAGES[path]
    if path == "docs" or path.startswith("docs/"):
        inside = posixpath.relpath(path, "docs")
        return posixpath.normpath(posixpath.join(inside, "README.md")) if (ROOT / path).is_dir() else inside
    return copied(path)


def copied(path: str) -> str:
    """Returns where in the site a file that is no page is copied to: source code as text, which a browser shows."""
    return f"files/{path}" if Path(path).suffix in SHOWN else f"files/{path}.txt"
