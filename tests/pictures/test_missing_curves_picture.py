"""The picture of scores over the missing rate: a panel for each metric, a line for each run."""

from pathlib import Path

import numpy as np
import pytest

from gmd.pictures.missing_curves import draw_missing_curves
from gmd.scoring.missing_curve import CurvePoint
from helpers.pictures import axes_drawn, is_picture

NAN = float("nan")


def curve(*values: tuple[float, float], metrics=("MAE", "Corr", "hd95_WT")) -> list[CurvePoint]:
    return [
        CurvePoint(place / 10, 5, place / 20, dict.fromkeys(metrics, mean), dict.fromkeys(metrics, deviation))
        for place, (mean, deviation) in enumerate(values)
    ]


def test_each_metric_has_a_panel_with_the_means_and_their_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    panels = axes_drawn(monkeypatch, "gmd.pictures.missing_curves")
    path = draw_missing_curves({"": curve((0.5, 0.0), (0.25, 0.125), (NAN, NAN))}, tmp_path / "missing.png")
    assert is_picture(path)
    assert [ax.get_title() for ax in panels] == ["MAE (lower is better)", "Corr", "HD95 WT, mm (lower is better)"]
    for ax in panels:
        [line] = ax.lines
        np.testing.assert_array_equal(line.get_xydata(), [(0.0, 0.5), (0.1, 0.25), (0.2, NAN)])
        [band] = ax.collections
        corners = band.get_paths()[0].vertices
        assert (corners[:, 1].min(), corners[:, 1].max()) == (0.125, 0.5)


@pytest.mark.parametrize("metrics", [1, 5])
def test_any_number_of_metrics_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metrics: int):
    names = tuple(f"metric {number}" for number in range(metrics))
    curves = {name: curve((0.5, 0.1), (0.4, 0.2), metrics=names) for name in ("a", "_b $x^$ \udcff", *"cdefghi")}
    panels = axes_drawn(monkeypatch, "gmd.pictures.missing_curves")
    assert is_picture(draw_missing_curves(curves, tmp_path / "missing.png"))
    assert sum(ax.axison for ax in panels) == metrics


def test_lists_are_hollow_signs_over_what_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    panels = axes_drawn(monkeypatch, "gmd.pictures.missing_curves")
    drawn = curve((0.5, 0.0), (0.25, 0.125), metrics=("Corr",))
    listed = drawn[1]._replace(rate=0.3, absent=0.3, means={"Corr": 0.75}, deviations={"Corr": 0.0}, listed="Annas.csv")
    assert is_picture(draw_missing_curves({"a": [*drawn, listed], "b": drawn}, tmp_path / "missing.png"))
    [ax] = panels
    first, hollow, second = ax.lines
    np.testing.assert_array_equal(first.get_xydata(), [(0.0, 0.5), (0.05, 0.25)])
    np.testing.assert_array_equal(second.get_xydata(), first.get_xydata())
    np.testing.assert_array_equal(hollow.get_xydata(), [(0.3, 0.75)])
    assert (hollow.get_linestyle(), hollow.get_color()) == ("None", first.get_color())
    assert ax.get_xlabel() == "part of the modalities that is absent"
    assert [line.get_label() for line in ax.lines] == ["a", "as a list says", "b"], "the list is not named"
