"""What a commit waits for, .pre-commit-config.yaml, is what `make lint` runs."""

import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from helpers.places import ROOT

TOOL = re.compile(r"\.venv/bin/(?:ruff|clang-format|mypy)\b.*")


@pytest.fixture(scope="module")
def linted() -> list[str]:
    """The commands of `make lint`; what would make the environment first is none of them."""
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    done = subprocess.run(["make", "-n", "lint"], cwd=ROOT, capture_output=True, text=True, check=True)
    commands = [line for line in done.stdout.splitlines() if TOOL.fullmatch(line)]
    assert len(commands) == 4, done.stdout
    return commands


@pytest.fixture(scope="module")
def hooks() -> list[dict]:
    [repo] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repo["repo"] == "local", "nothing is fetched"
    return repo["hooks"]


def test_the_hooks_run_the_commands_of_make_lint(linted, hooks):
    assert [hook["language"] for hook in hooks] == ["system"] * len(linted)
    for hook, command in zip(hooks, linted, strict=True):
        if hook.get("pass_filenames", True):
            assert command.startswith(f"{hook['entry']} ")
        else:
            assert hook["entry"] == command


def test_the_hook_of_clang_format_takes_the_files_of_make_lint(linted, hooks):
    [hook] = [hook for hook in hooks if hook.get("pass_filenames", True)]
    [command] = [command for command in linted if command.startswith(hook["entry"])]
    files = {word for word in shlex.split(command) if word.startswith(("csrc/", "tests/"))}
    assert len(files) > 50, "this test would see nothing"
    there = {path.relative_to(ROOT).as_posix() for name in ("csrc", "tests") for path in (ROOT / name).rglob("*.*")}
    assert {path for path in there if re.search(hook["files"], path)} == files
