"""Every code block in docs/ and README.md runs, and every link in them leads somewhere."""

import functools
import importlib.util
import inspect
import json
import math
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import get_args
from unittest import mock

import pytest
from matplotlib.testing.compare import compare_images

import gmd
import gmd_kernels as gk
from docs.figures import idea
from examples import train_images
from gmd import cli
from gmd.cli import parse, prediction, runs, training, view
from gmd.config import TASKS
from gmd.config.train_config import Method
from helpers.doc_blocks import (
    DOCS,
    PAGES,
    README,
    ROOT,
    anchors_of,
    blocks_of,
    commands_of,
    links_of,
    name_of,
    run_python,
    shown_lines,
)
from helpers.places import HELPERS

README_NEEDS = HELPERS / "readme_needs.py"
FROM = [page for page in PAGES if page.parent == DOCS / "from"]
SCREEN, WIDE = 60, 120  # lines, of so many letters
# whose commands take hours of a GPU: tests/recipes runs them on small data, with options that make them short
RECIPES = DOCS / "recipes.md"
LINKED = [*PAGES, *sorted(ROOT.glob("*.md"))]
LANGUAGES = ("python", "sh", "yaml", "text", "math")
# of pip, tensorboard and python -m bench.*
OTHERS_OPTIONS = (
    *("--no-build-isolation", "--no-binary", "--no-deps", "--reinstall-package", "--sdist", "--index-url"),
    *("--hours", "--plan", "--tasks", "--arms"),  # of bench.evidence
    *("--any-build", "--only", "--keep"),  # of bench.compat
    *("--logdir", "--quick", "--seeds", "--mosi", "--fsdd", "--mfeat", "--part"),
    *("--nproc-per-node", "--standalone", "--max-restarts"),  # of torchrun
    "--verify",  # --verify_dataset_integrity of nnU-Net, whose options have underscores
)
OTHER_PROGRAMS = (  # which are asked whether they would
    *("make", "pip", "python", "python3"),
    *("nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_predict"),
)
# commands that need what nnU-Net has trained, for which tests/nnunet has the minutes: their options are parsed
OF_MODELS = {("nnunet", name): f"gmd.nnunet.{name}.{name}" for name in ("train", "evaluate", "predict")}
OPTION = r"(?<![\w-])--[a-z][a-z-]+"
CODE = re.compile(r"^(\$ |gmd |pip |make |python |import |from \w+ import)", re.MULTILINE)


@pytest.fixture
def place(tmp_path, monkeypatch, one_thread):
    """An empty folder to stand in, as a reader would; what is imported from it is looked for there first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def run_command(block, environment, words):
    """As a reader's shell would, in this process, which has loaded torch already; other programs: see below."""
    if words[0] == "gmd":
        assert not environment, f"{block.where}: an environment for a process that runs already"
        instead = OF_MODELS.get(tuple(words[1:3]))
        with mock.patch(instead, return_value=0) if instead else nullcontext():
            assert cli.main(words[1:]) == 0, f"{block.where}: {shlex.join(words)}"
    elif words[0] == "torchrun":  # several processes are others than this one
        command = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block.where}: {shlex.join(words)}\n{done.stderr}"
    else:
        assert words[0] in OTHER_PROGRAMS, f"{block.where}: nothing here runs {words[0]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page != RECIPES], ids=name_of)
def test_the_code_blocks_run_one_after_the_other(page, place, no_pictures):
    """Without the pictures of a training, which take longer than so short a training and have tests of their own."""
    namespace = {"__name__": page.stem}
    for block in blocks_of(page):
        if block.file:
            Path(block.file).write_text(block.code, encoding="utf-8")
        elif block.language == "python":
            run_python(block, namespace)
        elif block.language == "sh":
            for environment, words in commands_of(block):
                run_command(block, environment, words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_its_language_and_no_code_passes_for_text(page):
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{block.where}: {block.language!r} is none of {LANGUAGES}"
        if block.language == "text":
            code = CODE.search(block.code)
            assert not code, f"{block.where}: {code[0]!r} in a block that nothing runs"
        if block.language == "yaml":
            assert block.file, f"{block.where}: a file without a name is not read by any command"


@pytest.mark.slow
def test_programs_other_than_gmd_are_given_what_they_know(monkeypatch, capsys):
    """`make` and benchmarks take minutes to hours, and pip changes the machine: they are asked whether they would."""
    commands = [
        (block, *command)
        for page in PAGES
        for block in blocks_of(page)
        if block.language == "sh"
        for command in commands_of(block)
    ]
    asked = [(block, words) for block, environment, words in commands if words[0] != "gmd" and not environment]
    assert {"make", "pip", "python"} <= {words[0] for _, words in asked}, "this test would see nothing"
    for block, (program, *words) in asked:
        if program == "torchrun":  # which runs, see above
            continue
        if program == "make":
            done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
            complaint = done.stderr if done.returncode else None
        elif program == "pip":
            complaint = what_pip_misses(words)
        elif program.startswith("nnUNetv2_"):
            complaint = what_nnunet_misses(program, words, monkeypatch, capsys)
        else:
            complaint = what_python_misses(words, monkeypatch, capsys)
        assert not complaint, f"{block.where}: {shlex.join([program, *words])}: {complaint}"


def what_pip_misses(words):
    """It reads the command, knows the extras, and finds every requirement met by what is installed here.

    Of nnU-Net only itself: what it needs needs a package argparse, which pip does not see, as Python has one too.
    """
    alone = ["--no-deps"] if any(word.startswith("nnunetv2") for word in words) else []
    pip = [sys.executable, "-m", "pip", "--no-input", *words, *alone, "--dry-run", "--no-index"]
    done = subprocess.run(pip, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode or "does not provide the extra" in done.stderr else None


def what_nnunet_misses(program, words, monkeypatch, capsys):
    """The command is one of nnU-Net's, and its help knows the options; nothing is asked where nnU-Net is absent."""
    if importlib.util.find_spec("nnunetv2") is None:
        return None
    [command] = metadata.entry_points(group="console_scripts", name=program)
    monkeypatch.setattr(sys, "argv", [program, "--help"])
    with pytest.raises(SystemExit):
        command.load()()
    told = re.findall(r"[\w-]+", capsys.readouterr().out)
    return ", ".join({word for word in words if word.startswith("-")}.difference(told))


def what_python_misses(words, monkeypatch, capsys):
    """`python -m MODULE`: there is such a module, and its help knows the arguments."""
    option, name, *arguments = words
    assert option == "-m"
    found = importlib.util.find_spec(name)
    if found is None:
        return "there is no such module"
    # numbers and files are the reader's, and networks of any width
    named = {word for word in arguments if not re.fullmatch(r"\d+|.*[./:].*", word)}
    if not named:
        return None
    if found.submodule_search_locations:
        name = f"{name}.__main__"
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit):
        importlib.import_module(name).main()
    told = re.findall(r"[\w-]+", capsys.readouterr().out)
    return ", ".join(named.difference(told))


def test_every_command_and_option_that_prose_names_is_there(capsys):
    """Of blocks too that nothing can run, such as those on data that nobody here has."""
    told = ""
    on_runs = ("evaluate", "predict", "compare", "report")
    of_nnunet = [f"nnunet {name}" for name in ("setup", "path", "export", "fill", "predict", "evaluate")]
    for command in ("", "phantom", "convert", "manifest", *(f"train {task}" for task in TASKS), *on_runs, *of_nnunet):
        with pytest.raises(SystemExit, match="0"):
            cli.main([*command.split(), "--help"])
        told += capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        train_images.main(["--help"])
    told += capsys.readouterr().out
    known, commands = {*re.findall(OPTION, told), *OTHERS_OPTIONS}, set(re.findall(r"• (\w+)", told))
    for page in (README, *PAGES):
        text = page.read_text(encoding="utf-8")
        unknown = set(re.findall(OPTION, text)) - known
        assert not unknown, f"{name_of(page)}: {', '.join(unknown)}"
        code = "\n".join(["", *re.findall(r"`([^`\n]+)`", text), *(block.code for block in blocks_of(page))])
        unknown = set(re.findall(r"\ngmd ([a-z]+)", code)) - commands
        assert not unknown, f"{name_of(page)}: gmd {', '.join(unknown)}"


PATHS = re.compile(r"`((?:\.ci|gmd|gmd_kernels|examples|bench|gpu|tests|csrc|docs)/[\w./]*)`")
MODULES = re.compile(r"`(?:python -m )?((?:gmd|gmd_kernels|examples|bench|gpu)(?:\.\w+)+)")
OLD = ROOT / "CHANGELOG.md"  # names what is gone


@pytest.mark.parametrize("page", sorted({*LINKED} - {OLD}), ids=name_of)
def test_every_file_and_name_of_the_code_that_prose_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    gone = [path for path in PATHS.findall(text) if "NAME" not in path and not (ROOT / path).exists()]
    gone += [name for name in MODULES.findall(text) if not is_there(name)]
    assert not gone, f"{name_of(page)} names what is not there"


def is_there(name):
    """A module, or what is in one: `gmd.GMD`, `gmd.data.segmentation.cases.Case`."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_what_is_gone_is_found():
    assert is_there("gmd.data.segmentation.cases.Case")
    assert is_there("gmd.GMD.backward")
    assert not is_there("gmd.data.segmentation.cases.NoCase")
    assert not is_there("gmd.nothing.cases")
    assert PATHS.findall("in `gmd/data/x.py` and `csrc/`, not in `data/x.py`") == ["gmd/data/x.py", "csrc/"]
    assert MODULES.findall("`gmd.GMD(optimizer)` and `python -m bench.run`") == ["gmd.GMD", "bench.run"]


def parsed_only(monkeypatch):
    """Leaves of the commands of `gmd` that README.md names the parsing of their options: they do nothing."""
    monkeypatch.setattr(training, "train", lambda *_: None)
    monkeypatch.setattr(prediction, "predict", lambda *_: None)
    for module, name in ((runs, "evaluate"), (runs, "compare"), (runs, "advise"), (view, "view")):
        does_nothing = functools.wraps(getattr(module, name))(lambda *_, **__: None)
        monkeypatch.setattr(module, name, does_nothing)


def test_the_commands_of_the_readme_are_taken_by_the_command(monkeypatch):
    """Each with its own options; they are of data that only the reader has."""
    lines = re.findall(r"^gmd ([^#\n]+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len({line.split()[0] for line in lines}) > 5, "this test would see nothing"
    parsed_only(monkeypatch)
    for line in lines:
        if line.strip() != "doctor":
            assert not parse.run(shlex.split(line)), line
    with pytest.raises(SystemExit):
        parse.run(["evaluate", "runs/brats", "--epochs", "3"])


# README.md leaves to the reader what only the reader has


def test_the_python_of_the_readme_runs_after_what_it_takes_for_granted(place):
    """Before the block that holds WORDS goes what stands under `# before WORDS` in readme_needs.py."""
    first, *parts = re.split(r"^# before (.+)\n", README_NEEDS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    needs = dict(zip(parts[::2], parts[1::2], strict=True))
    namespace = {"__name__": "readme"}
    exec(compile(first, str(README_NEEDS), "exec"), namespace)
    for block in blocks_of(README):
        if block.language == "python":
            for words in [words for words in needs if words in block.code]:
                exec(compile(needs.pop(words), str(README_NEEDS), "exec"), namespace)
            run_python(block, namespace)
    assert not needs, f"no block of README.md holds {' or '.join(needs)}"


# Links


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(page):
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}: there is no {target.name}"
        assert not anchor or anchor in anchors_of(target), f"{name_of(page)}: {link}: no such heading"


def test_the_index_has_every_page():
    linked = {link.partition("#")[0] for link in links_of(DOCS / "README.md")}
    assert {name_of(page) for page in PAGES} - {"README.md"} == {link for link in linked if link.endswith(".md")}


def test_there_is_a_page_for_each_of_the_five():
    assert {page.stem for page in FROM} == {"monai", "nnunet", "torchjd", "mmsa", "eight-gpus"}


@pytest.mark.parametrize("page", FROM, ids=name_of)
def test_a_page_for_those_who_come_from_elsewhere_is_a_screen_from_their_code_to_ours(page):
    assert sum(max(1, math.ceil(len(line) / WIDE)) for line in shown_lines(page)) <= SCREEN
    shown = "\n".join(shown_lines(page))
    theirs, ours = re.findall(r"```(?:python|sh)\n(.*?)```", shown, re.DOTALL)[:2]
    assert not re.search(r"\bgmd\b", theirs)
    assert re.search(r"\bgmd\b", ours)


def test_what_finds_blocks_links_and_anchors_finds_them(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b` and C, *once*\n## Again\n## Again\n[x](a.md#b) ![y](c.png) [w](https://d.org)\n"
        "<!-- before\n```python\nx = 1\n```\n-->\n```sh\nA=1 gmd train \\\n  'b c'  # d\n# e\n```\n```\n[n](o)\n```\n"
    )
    hidden, shell, nameless = blocks_of(page)
    assert (hidden.language, hidden.code, hidden.line) == ("python", "x = 1\n", 7)
    assert list(commands_of(shell)) == [({"A": "1"}, ["gmd", "train", "b c"])]
    assert nameless.language == ""
    assert links_of(page) == ["a.md#b", "c.png"]
    assert anchors_of(page) == {"a-b-and-c-once", "again", "again-1"}
    assert [line for line in shown_lines(page) if "x" in line] == ["[x](a.md#b) ![y](c.png) [w](https://d.org)"]


# What the pages promise beyond their blocks


def test_the_page_of_methods_names_every_method_and_every_weighting():
    page = (DOCS / "methods.md").read_text(encoding="utf-8")
    weightings = [name for name, value in vars(gk.weightings).items() if getattr(value, "batched", False) is True]
    assert len(weightings) > 10, "this test would see nothing"
    missing = [name for name in (*get_args(Method), *weightings) if f"`{name}`" not in page]
    assert not missing


def test_the_installation_without_cpp_is_what_the_page_says(tmp_path):
    """The very command, into a folder of its own."""
    page = DOCS / "installation.md"
    commands = [command for block in blocks_of(page) if block.language == "sh" for command in commands_of(block)]
    [(environment, words)] = [command for command in commands if "GMD_NO_CPP" in command[0]]
    source = tmp_path / "source"
    for name in ("csrc", "gmd", "gmd_kernels"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "*.json", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", *words, "--no-deps", "--target", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=source, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "site" / "gmd_kernels" / "build_info.json").read_text())
    assert info["cpu"] == "left out, as GMD_NO_CPP=1 asked for"
    assert info["cpu"] in page.read_text(encoding="utf-8")
    assert not list((tmp_path / "site").rglob("_C.*"))


def test_the_figure_of_the_idea_is_what_its_script_draws(tmp_path):
    drawn = tmp_path / "idea.png"
    idea.draw().savefig(drawn, dpi=idea.DPI)
    assert compare_images(str(idea.PICTURE), str(drawn), tol=2) is None, "run `python -m docs.figures.idea`"


# The documentation in the code


FUNCTIONS = {name: getattr(gk, name) for name in gk.__all__ if inspect.isfunction(getattr(gk, name))}
WEIGHTINGS = {name: value for name, value in vars(gk.weightings).items() if getattr(value, "batched", False) is True}


@pytest.mark.parametrize("name", sorted({*FUNCTIONS, *WEIGHTINGS} - {"backends"}))
def test_a_public_function_tells_its_shapes_and_its_errors(name):
    told = inspect.getdoc(FUNCTIONS.get(name) or WEIGHTINGS[name])
    assert re.search(r"\[[\w., *-]+\]|\bP tensors\b", told), "no shape"
    assert re.search(r"^Raises\b.*Error", told, re.MULTILINE | re.DOTALL), "no error"


@pytest.mark.parametrize(
    "name", sorted({*WEIGHTINGS, "surgery", "pcgrad_weights", "owm_update_", "sketch_"} - {"mean", "sum", "constant"})
)
def test_what_comes_out_of_a_paper_names_it(name):
    assert re.search(r"\b20[0-2]\d\b", inspect.getdoc(WEIGHTINGS.get(name) or FUNCTIONS[name]))


@pytest.mark.parametrize("kind", [getattr(gmd, name) for name in gmd.__all__], ids=lambda kind: kind.__name__)
def test_a_public_class_tells_its_shapes_and_what_it_is_from(kind):
    told = inspect.getdoc(kind) + "".join(
        inspect.getdoc(value) or "" for value in vars(kind).values() if callable(value)
    )
    assert re.search(r"\[[\w., *]+\]|\bT scalar", told), "no shape"
    if kind is not gmd.Report:
        assert re.search(r"\b20[0-2]\d\b", inspect.getdoc(kind) + sys.modules[kind.__module__].__doc__), "no source"
