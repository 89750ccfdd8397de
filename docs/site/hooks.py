"""What mkdocs does beside its own: pages from outside docs/, links that leave it, the commands' help, formulas.

mkdocs.yml names this file, and mkdocs calls the functions whose names begin with `on_`.
"""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # mkdocs loads this file by its path, from wherever it was called

from docs.site import commands, formulas, links  # noqa: E402


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages that lie outside docs/, and every file there that a page links to."""
    for source, uri in links.PAGES.items():
        files.append(File.generated(config, uri, content=(ROOT / source).read_text(encoding="utf-8")))
    pages = [file for file in files if file.is_documentation_page()]
    for path in sorted({path for file in pages for path in links.left(file.content_string, folder_of(file.src_uri))}):
        files.append(File.generated(config, links.copied(path), content=(ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links that leave docs/ to where the site has what they lead to, and fills in the help of commands."""
    markdown = links.turned(markdown, folder_of(page.file.src_uri), page.file.src_uri)
    return commands.filled(markdown)


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes MathML of formulas."""
    return formulas.in_mathml(html)


def folder_of(uri: str) -> str:
    """Returns the folder in which a page's file lies, from the root of the repository: "docs/from"."""
    outside = {uri: source for source, uri in links.PAGES.items()}
    path = Path(outside[uri]) if uri in outside else Path("docs", uri)
    return path.parent.as_posix()
