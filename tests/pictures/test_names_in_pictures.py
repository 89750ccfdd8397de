"""Whatever a case, a run or a modality is called, there is a picture, with that name as text."""

import warnings
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from gmd.evaluation.compare.comparison import Comparison, ComparisonRow
from gmd.evaluation.compare.forest_plot import draw_comparison
from gmd.evaluation.compare.paired import paired_difference
from gmd.pictures.case import draw_case
from gmd.pictures.cosines import draw_cosines
from gmd.pictures.dominance import draw_dominance
from gmd.pictures.style import STYLE, drawn, save_figure
from gmd.scoring.segmentation.tables import Score
from gmd.subsets import all_subsets, subset_name
from helpers.pictures import is_picture, step_line

NAMES = {
    "mathtext": "cost_$5_1_and_$6",
    "mathtext with a fault": r"b$x_1_2$ \frac{ $\undefined$",
    "bytes and half of a pair": "f\udcffolder \ud83d",
    "directions and other scripts": "abc\u202egpj.exe שלום 🧠 病例",
    "lines and escapes": "_x\nline: 1 done\t\x1b[31m\x00",
    "very long": "p" * 10_000,
}


@pytest.fixture(params=NAMES.values(), ids=NAMES)
def name(request: pytest.FixtureRequest):
    """No warning is left to whoever looks on."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield request.param


def small_case(name: str, modalities: list[str]) -> dict:
    brain = torch.ones(1, 8, 8, 4, dtype=torch.bool)
    target = torch.zeros(1, 8, 8, 4)
    target[:, 2:5, 3:6, 2] = 1
    images = {m: torch.arange(256.0).reshape(1, 8, 8, 4) for m in modalities}
    return {"name": name, "affine": np.eye(4), "brain": brain, "target": target} | images


def test_a_case(name: str, tmp_path: Path):
    case = small_case(name, [name, "t2"])
    subsets = all_subsets((name, "t2"))
    scores = [Score(name, subset, name, 0.5) for subset in subsets]
    masks = dict.fromkeys(subsets, case["target"].bool())
    assert is_picture(draw_case(case, masks, scores, [name], tmp_path / "case.png", "worst of 3 cases"))


def test_objectives_and_modalities(name: str, tmp_path: Path):
    names = [subset_name(subset) for subset in all_subsets((name, "t2"))]
    step = step_line(1, names)
    quantities = {name: {name: 1.0, "t2": 2.0}}
    step["dominance"] = {"norms": dict.fromkeys(names, 1.0), "projected": 0.1, "modality": quantities}
    assert is_picture(draw_cosines([step], [name, "t2"], tmp_path / "cosines.png"))
    assert is_picture(draw_dominance([step], [name, "t2"], tmp_path / "dominance.png"))


@pytest.mark.parametrize("others", [1, 2])
def test_runs(name: str, others: int, tmp_path: Path):
    found = paired_difference(np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.3, 0.5]), ["a", "b", "c"], 0)
    runs = [f"{name}{k}" for k in range(others)]
    rows = [ComparisonRow(run, subset, ("Dice", "mean"), found) for run in runs for subset in ((name,), None)]
    comparison = Comparison([name, *runs], (name,), [("Dice", "mean")], "case", "patient", [(name,)], rows, [], 0)
    assert matplotlib.image.imread(draw_comparison(comparison, tmp_path / "compare.png")).std() > 0.1


def test_a_name_is_one_line_of_some_letters():
    for name in NAMES.values():
        text = drawn(name)
        assert len(text) <= 41
        assert "\n" not in text
        text.encode("utf-8")
    assert drawn(NAMES["mathtext"]) == NAMES["mathtext"]
    assert drawn("a\nb\udcff") == r"a\nb\xff"
    assert drawn("_t1") == " _t1"
    ends = drawn("first" + "x" * 200 + "last")
    assert ends.startswith("first")
    assert ends.endswith("last"), "names often differ in their ends"


def test_a_dollar_is_a_dollar():
    """In every kind of text of a picture, as far as a picture is made within the style."""
    with matplotlib.rc_context(STYLE):
        figure = Figure()
        ax = figure.subplots()
        ax.plot([0, 1], label="$a$")
        texts = [figure.suptitle("$b$"), ax.set_title("$c$"), ax.set_xlabel("$d$"), ax.text(0, 0, "$e$")]
        texts += [*ax.legend().get_texts(), *ax.get_xticklabels()]
    assert not any(text.get_parse_math() for text in texts)


def test_warnings_of_other_kinds_are_not_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(Figure, "savefig", lambda *_: warnings.warn("something else", stacklevel=1))
    with pytest.warns(UserWarning, match="something else"):
        save_figure(Figure(), tmp_path / "x.png")
