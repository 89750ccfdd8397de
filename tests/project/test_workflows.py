"""What GitHub is told to run: commands that exist here, versions that fit each other, no more rights than needed.

Nothing of it can be run here; what can be compared with the rest of the repository is.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from setuptools.config.pyprojecttoml import load_file

from gmd.cli.overview import COMMANDS
from helpers.places import ROOT

FOLDER = ROOT / ".github"
if not FOLDER.exists():
    pytest.skip("the archive of the sources has no .github", allow_module_level=True)
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FOLDER.glob("workflows/*.yml")}
FORMS = sorted(path for path in (FOLDER / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
PROJECT = load_file(ROOT / "pyproject.toml")["project"]


def jobs() -> Iterator[dict]:
    return (job for workflow in WORKFLOWS.values() for job in workflow["jobs"].values())


def steps() -> Iterator[dict]:
    return (step for job in jobs() for step in job["steps"])


def lines() -> list[str]:
    """Every command, those that cibuildwheel is handed among them."""
    handed = [value for step in steps() for name, value in step.get("env", {}).items() if "COMMAND" in name]
    return [step["run"] for step in steps() if "run" in step] + handed


def test_make_knows_its_targets():
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    targets = {target for line in lines() for target in re.findall(r"\bmake ([a-z-]+)", line)}
    assert {"lint", "test", "docs"} <= targets
    for target in targets:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_what_is_run_of_this_repository_is_here():
    words = [word for line in lines() for word in re.findall(r"(?<!\w)tests/[\w/.]+", line)]
    assert len(words) > 5, "this test would see nothing"
    assert not [word for word in words if not (ROOT / word).exists()]
    commands = {command for line in lines() for command in re.findall(r"\bgmd ([a-z]+)", line)}
    assert "doctor" in commands
    assert commands <= COMMANDS.keys()


def test_every_wanted_python_is_tried_and_no_other():
    rows = WORKFLOWS["checks"]["jobs"]["versions"]["strategy"]["matrix"]["include"]
    pythons = [row["python"] for row in rows]
    assert pythons == ["3.10", "3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    said = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)}
    assert said <= set(pythons), "pyproject.toml says a Python that nobody tries"
    built = next(step["env"] for step in steps() if "cibuildwheel" in step.get("uses", ""))["CIBW_BUILD"]
    assert built == " ".join(f"cp{python.replace('.', '')}-*" for python in pythons)


def test_torch_is_pinned_and_wheels_are_built_against_the_one_that_the_tests_have():
    pinned = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert WORKFLOWS["release"]["env"]["TORCH"] == pinned
    torches = [row["torch"] for row in WORKFLOWS["checks"]["jobs"]["versions"]["strategy"]["matrix"]["include"]]
    [oldest] = [line.partition(">=")[2] for line in PROJECT["dependencies"]]
    assert torches[0] == f"{oldest}.0"
    assert torches[-1] == pinned
    installs = [line for line in lines() if "pip install" in line and "[train]" in line]
    assert installs
    assert all("--no-build-isolation" in line for line in installs)


def test_nobody_has_more_rights_than_needed_and_no_secret_is_named():
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {"contents": "read"}
        assert workflow["concurrency"]["group"]
    assert all(0 < job["timeout-minutes"] <= 90 for job in jobs())
    writing = [name for name, job in WORKFLOWS["release"]["jobs"].items() if "permissions" in job]
    assert writing == ["publish"]
    publish = WORKFLOWS["release"]["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert "github.ref_type == 'tag'" in publish["if"]
    assert all("secrets." not in path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.yml"))
    assert [job for job in jobs() if "permissions" in job] == [publish]


def test_actions_are_pinned_by_a_version_that_there_is():
    used = {step["uses"] for step in steps() if "uses" in step}
    assert used
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@(release/)?v\d+(\.\d+)?", action) for action in used)
    [wheels] = [action for action in used if "cibuildwheel" in action]
    assert re.search(r"@v\d+\.\d+$", wheels), "it has tags of minor versions only"


@pytest.mark.parametrize("path", FORMS, ids=[path.stem for path in FORMS])
def test_a_form_is_one(path: Path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form.keys() == {"name", "description", "labels", "body"}
    assert len({field["id"] for field in form["body"]}) == len(form["body"])
    assert all(field["type"] in ("textarea", "input") and field["attributes"]["label"] for field in form["body"])


def test_who_reports_a_bug_is_asked_for_the_doctor():
    assert [path.stem for path in FORMS] == ["bug", "method", "question"]
    assert "gmd doctor" in (FOLDER / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")


def test_the_pull_request_names_what_is_there():
    text = (FOLDER / "PULL_REQUEST_TEMPLATE.md").read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:docs/)?[\w-]+\.md\b", text):
        assert (ROOT / name).exists(), name
