"""The version stands in one place, and CITATION.cff says what its format allows, and nothing of its own."""

import re
import subprocess
import sys

import pytest
import yaml
from setuptools.config.pyprojecttoml import load_file

import gmd
from helpers.places import ROOT

VERSION = re.compile(rf"(?<![\d.]){re.escape(gmd.__version__)}(?![\d.]*\d)")
# what tells of versions, this one among others, and what other packages' versions stand in
MAY_SAY_IT = {"gmd/__init__.py", "CITATION.cff", "CHANGELOG.md", "docs/versions.md", "constraints.txt"}
TEXTS = {".py", ".md", ".toml", ".cff", ".yml", ".yaml", ".txt", ".in", ".cpp", ".h", ".cu", ".cuh", ".html"}


def test_the_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", gmd.__version__)


def test_the_package_takes_its_version_from_the_module_without_importing_it():
    """Where sources are packed there need be no torch: setuptools reads the line, it does not run it."""
    code = (
        "import sys; from setuptools.config.pyprojecttoml import read_configuration;"
        "print(read_configuration('pyproject.toml')['project']['version']);"
        "assert 'torch' not in sys.modules and 'gmd' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == gmd.__version__
    assert "version" not in load_file(ROOT / "pyproject.toml")["project"]


def test_no_other_file_says_which_version_this_is():
    folders = [
        ROOT,
        *(ROOT / name for name in ("gmd", "gmd_kernels", "docs", "examples", "bench", "gpu", "csrc", ".github")),
    ]
    paths = [path for folder in folders for path in (folder.glob("*") if folder == ROOT else folder.rglob("*"))]
    texts = {path.relative_to(ROOT).as_posix(): path for path in paths if path.suffix in TEXTS and path.is_file()}
    assert len(texts) > 300, "this test would see nothing"
    says = [name for name, path in texts.items() if VERSION.search(path.read_text(encoding="utf-8"))]
    assert set(says) <= MAY_SAY_IT
    assert {"gmd/__init__.py", "CITATION.cff", "CHANGELOG.md", "docs/versions.md"} <= set(says)


def test_the_changelog_begins_with_this_version():
    heads = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heads[0] == gmd.__version__ or (heads[0] == "Unreleased" and heads[1] == gmd.__version__)


# CITATION.cff, by the schema of version 1.2.0 as far as the file goes


OF_THE_FILE = {
    *("cff-version", "message", "type", "title", "abstract", "authors", "version", "license", "keywords", "references"),
}
OF_A_REFERENCE = {"type", "notes", "title", "authors", "collection-title", "year", "identifiers"}


@pytest.fixture(scope="module")
def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_citation_has_what_the_format_asks_for(citation):
    assert {"cff-version", "message", "title", "authors"} <= citation.keys() <= OF_THE_FILE
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    for name in ("message", "title", "abstract"):
        assert isinstance(citation[name], str)
        assert citation[name].strip()
    assert citation["keywords"] == list(dict.fromkeys(citation["keywords"])), "unique, as the schema has it"
    for entry in (citation, *citation["references"]):
        assert entry["authors"]
        for author in entry["authors"]:  # a person has family-names, an entity a name
            assert author.keys() in ({"name"}, {"family-names"}, {"family-names", "given-names"})
            assert all(isinstance(value, str) for value in author.values())


def test_the_citation_is_of_this_version_license_and_these_authors(citation):
    project = load_file(ROOT / "pyproject.toml")["project"]
    assert citation["version"] == gmd.__version__
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]


def test_every_method_of_a_paper_has_a_reference(citation):
    notes = " ".join(reference["notes"] for reference in citation["references"])
    assert all(f"gmd.{name}" in notes for name in ("GMD", "share", "CGGM", "MLA", "OGMGE", "QMF", "MMPareto"))


def test_references_of_the_citation_are_those_of_the_docs(citation):
    docs = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= reference.keys() <= OF_A_REFERENCE
        assert reference["type"] == "conference-paper"
        names = [author["family-names"] for author in reference["authors"] if "family-names" in author]
        others = " et al." if {"name": "and others"} in reference["authors"] else ""
        named = f"{' and '.join(names)}{others}, {reference['collection-title']} {reference['year']}"
        assert named in docs
        for identifier in reference.get("identifiers", ()):
            assert identifier.keys() == {"type", "value"}
            assert identifier["type"] == "other"
            assert re.fullmatch(r"arXiv:\d{4}\.\d{5}", identifier["value"])
            assert f"arxiv.org/abs/{identifier['value'].removeprefix('arXiv:')}" in docs
