"""The recipes of docs/recipes.md: their commands run on stand-ins, and ask for what was published."""

from collections.abc import Callable
from pathlib import Path

import pytest

import examples.images.training
import gmd.training.loop
from examples import brats_folds, train_images
from examples.images.options import Options
from gmd import cli
from gmd.config import TrainConfig
from gmd.config.recipes import PRESETS
from gmd.evaluation.segmentation import case_pictures
from helpers.doc_blocks import Block, commands_of, run_python
from helpers.recipe_cases import PAGE, STAND_INS, Section, sections, tiny
from helpers.recipe_operations import RECIPES, row

SECTIONS = {section.heading: section for section in sections()}
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "examples.train_images": train_images.main,
    "examples.brats_folds": brats_folds.main,
}
PAPERS = ("gmd-brats", "cggm-mosi", "cggm-iemocap", "cggm-food101", "cggm-brats", "mla-cremad", "mla-food101")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: list[str]) -> int:
    """In this process, which has loaded torch already."""
    if words[0] == "gmd":
        return cli.main(words[1:])
    assert words[:2] == ["python", "-m"], "a program that this test does not know"
    return PROGRAMS[words[2]](words[3:])


def run_section(blocks: list[Block]) -> None:
    """All of its blocks one after the other, the trainings with options that make them short."""
    namespace: dict = {"__name__": PAGE.stem}
    for block in blocks:
        if block.language == "python":
            run_python(block, namespace)
        elif block.language == "sh":
            for _, words in commands_of(block):
                assert run(tiny(words)) == 0, f"{block.where}: {' '.join(words)}"


def test_every_recipe_has_a_stand_in():
    assert set(SECTIONS) == set(STAND_INS)
    assert all(blocks_are_of(section) for section in SECTIONS.values())
    assert len(SECTIONS["CGGM on IEMOCAP"].files()) == 4


def blocks_are_of(section: Section) -> bool:
    return all(block.code in section.text for block in section.blocks)


@pytest.mark.slow
@pytest.mark.parametrize("heading", STAND_INS)
def test_the_commands_of_a_recipe_run_on_data_of_the_same_layout(
    place: Path, no_pictures: None, monkeypatch: pytest.MonkeyPatch, heading: str
):
    """Without pictures, which take longer than so short a training and have tests of their own."""
    monkeypatch.setattr(case_pictures, "choose_cases", lambda scores: {})
    STAND_INS[heading](place)
    section = SECTIONS[heading]
    run_section(section.blocks)
    for name in section.files():
        assert Path(name).exists(), f"the page names {name}, which the commands do not write"


def trainings() -> list[list[str]]:
    return [
        words
        for section in SECTIONS.values()
        for block in section.blocks
        if block.language == "sh"
        for _, words in commands_of(block)
        if words[:2] == ["gmd", "train"]
    ]


def test_the_commands_ask_for_what_was_published(monkeypatch: pytest.MonkeyPatch):
    """Each preset as it is, once at least; and each arm beside it but for what the line says."""
    seen: list[TrainConfig] = []
    monkeypatch.setattr(gmd.training.loop, "train", lambda config: seen.append(config) or config.out)
    for words in trainings():
        assert run(words) == 0
        seen[-1].check_values()
    whole = set()
    for config in seen:
        assert config.preset is not None
        if all(getattr(config, name) == value for name, value in PRESETS[config.preset].values.items()):
            whole.add(config.preset)
    assert whole == set(PAPERS)
    assert len({config.out for config in seen}) == len(seen), "two trainings of one folder"


def test_strip_mlp_is_trained_as_published(monkeypatch: pytest.MonkeyPatch):
    """The program's own options are the recipe; the page gives data, network, folder and workers alone."""
    seen: list[Options] = []
    monkeypatch.setattr(examples.images.training, "train", seen.append)
    for block in SECTIONS["Strip-MLP on CIFAR-100 and Caltech-101"].blocks:
        for _, words in commands_of(block) if block.language == "sh" else ():
            assert run(words) == 0
    free = ("data", "out", "network", "workers")
    ordinary = Options(data="", out=Path())
    for options in seen:
        options.check()
        assert {k: v for k, v in vars(options).items() if k not in free} == {
            k: v for k, v in vars(ordinary).items() if k not in free
        }
    assert len(seen) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_operations_of_the_page_are_those_that_are_counted(recipe: str):
    assert row(recipe) in PAGE.read_text(encoding="utf-8").splitlines()
