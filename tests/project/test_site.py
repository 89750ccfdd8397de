"""The site of `make docs`: built without a warning, with every public name, and nothing of it from other hosts."""

import html
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.places import ROOT

pytest.importorskip("mkdocs", reason="the extra docs is not installed")

from docs.site import commands, formulas, links

REFERENCE = ROOT / "docs" / "reference"
PUBLIC = ("gmd", "gmd_kernels", "gmd_kernels.weightings")
BLOCK = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
# what a page takes from elsewhere while it is shown; a link that a reader may click is none
FETCHED = re.compile(r"""<(?:script|img|iframe|source)[^>]*\ssrc="(https?:)?//|<link[^>]*\shref="(https?:)?//""")


def documented() -> list[str]:
    return [name for page in sorted(REFERENCE.glob("*.md")) for name in BLOCK.findall(page.read_text("utf-8"))]


# The reference


def test_the_reference_has_every_public_name_once():
    expected = {f"{module}.{name}" for module in PUBLIC for name in importlib.import_module(module).__all__}
    expected.remove("gmd_kernels.weightings")  # a page of its own
    assert sorted(documented()) == sorted(expected)


@pytest.mark.parametrize("path", documented())
def test_a_public_name_is_described(path: str):
    module, name = path.rsplit(".", 1)
    found = getattr(importlib.import_module(module), name)
    if not inspect.isclass(found) and not callable(found):
        return  # a number or names, which the text above them describes
    assert own_description(found), f"{path} has no docstring"
    if inspect.isclass(found):
        members = {key: value for key, value in vars(found).items() if not key.startswith("_")}
        for key, member in members.items():
            if callable(member) or isinstance(member, property | classmethod | staticmethod):
                assert inspect.getdoc(getattr(found, key)), f"{path}.{key} has no docstring"


def own_description(found: object) -> str | None:
    """Not that of a class above it, as of tuple."""
    return vars(found)["__doc__"] if inspect.isclass(found) else inspect.getdoc(found)


# Pages


def test_links_that_leave_docs_lead_to_copies_in_the_site():
    page = "[a](../gmd_kernels/ops.py) [b](../bench/results/surgery_cpu.csv) [c](../README.md#how-fast) [d](start.md#x)"
    assert list(links.left(page, "docs")) == ["gmd_kernels/ops.py", "bench/results/surgery_cpu.csv"]
    assert links.turned(page, "docs", "page.md") == (
        "[a](files/gmd_kernels/ops.py.txt) [b](files/bench/results/surgery_cpu.csv) [c](project/readme.md#how-fast) "
        "[d](start.md#x)"
    )
    assert links.turned("[a](../../README.md)", "docs/from", "from/monai.md") == "[a](../project/readme.md)"
    assert links.turned("![a](docs/demo/curves.png)", "", "project/readme.md") == "![a](../demo/curves.png)"


@pytest.mark.parametrize("target", ["https://example.org/a", "#part", "/absolute", "mailto:a@b.c", "nowhere.md"])
def test_other_links_stay_as_they_are(target: str):
    text = f"[a]({target})"
    assert links.turned(text, "docs", "page.md") == text
    assert not list(links.left(text, "docs"))


def test_formulas_become_mathml():
    inline = r'<p>of <span class="arithmatex">\(g_1 &lt; 0\)</span></p><div class="arithmatex">\[w = f(G)\]</div>'
    made = formulas.in_mathml(inline)
    assert made.count("<math") == 2
    assert 'display="block"' in made
    assert "arithmatex" not in made
    assert "&#x0003C;" in made or "&lt;" in made


def test_a_command_whose_help_fails_stops_the_build(monkeypatch):
    monkeypatch.setattr(commands.cli, "main", lambda words: 2)
    with pytest.raises(RuntimeError, match="gmd train brats --help ended with status 2"):
        commands.filled("<!-- help: gmd train brats -->")


def test_the_page_of_commands_has_all_of_them():
    from gmd.cli.overview import COMMANDS
    from gmd.config import TASKS

    found = commands.HELP.findall((REFERENCE / "commands.md").read_text("utf-8"))
    expected = [name for name in COMMANDS if name != "train"] + [f"train {task}" for task in TASKS]
    assert sorted(found) == sorted(["", *expected])


# The whole


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """As `make docs` builds it, elsewhere; without a network, as nothing of it needs one."""
    folder = tmp_path_factory.mktemp("site")
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    environment = {**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_every_page_and_every_public_name(site):
    for page in (ROOT / "docs").rglob("*.md"):
        uri = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix().replace("README", "index")
        assert (site / uri).exists() or uri == "demo/table.html", page
    shown = "".join(page.read_text("utf-8") for page in (site / "reference").glob("*.html"))
    missing = [name for name in documented() if f'id="{name}"' not in shown]
    assert not missing
    assert "usage: gmd train brats" in html.unescape((site / "reference" / "commands.html").read_text("utf-8"))
    assert "<math" in (site / "idea.html").read_text("utf-8")


@pytest.mark.slow
def test_pages_take_nothing_from_other_hosts(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 35, "this test would see nothing"
    for page in pages:
        assert not FETCHED.search(page.read_text("utf-8")), page
