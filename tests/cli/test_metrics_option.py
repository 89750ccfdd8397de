"""What --metrics takes, and what it refuses."""

from pathlib import Path

import pytest

from gmd.cli import extras, main, runs
from gmd.config.metrics import Metrics, metric_of, parse_metrics
from gmd.errors import UserError


def test_metrics_are_named_and_the_surface_dice_may_have_a_tolerance():
    assert parse_metrics(["legacy"]) == Metrics(("legacy",))
    assert parse_metrics(["legacy"]).further == ()
    chosen = parse_metrics(["volume", "surface-dice=0.5", "legacy"])
    assert chosen == Metrics(("volume", "surface-dice", "legacy"), 0.5)
    assert chosen.further == ("volume", "surface-dice")
    assert chosen.columns_of("surface-dice") == ("surface_dice_0.5mm",)
    assert parse_metrics(["surface-dice"]).tolerance == 1.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dice"], "got 'dice', expected some of legacy, lesion-wise, lesion-wise-2023, surface-dice, volume"),
        (["volume=2"], "got 'volume=2', expected some of"),
        (["Legacy"], "got 'Legacy', expected"),
        (["\x1b[31m"], r"got '\\x1b\[31m', expected"),
        (["volume", "legacy", "volume"], "volume is given twice"),
        (["surface-dice=1", "surface-dice=2"], "surface-dice is given twice"),
        *(
            ([f"surface-dice={length}"], f"the tolerance of surface-dice is '{length}', expected mm")
            for length in ("", "mm", "0", "-1", "nan", "inf", "1e9")
        ),
    ],
)
def test_what_is_no_metric_is_refused(words: list[str], said: str):
    with pytest.raises(UserError, match=f"--metrics: {said}"):
        parse_metrics(words)


def test_every_column_tells_its_metric():
    metrics = Metrics(("lesion-wise", "lesion-wise-2023", "surface-dice", "volume"), 12.5)
    for metric in metrics.chosen:
        assert {metric_of(column) for column in metrics.columns_of(metric)} == {metric}
    assert metric_of("surface_dice_1e-05mm") == "surface-dice"
    assert not any(map(metric_of, ("dice", "", "surface_dice_mm", "surface_dice_{}mm ", "lesion")))


def test_packages_that_lack_are_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """There is no run in the folder either: that would be the next thing said. Other metrics need no package."""
    monkeypatch.setitem(extras.EXTRAS, "brats", {"no_such_module": "no-such-package>=1"})
    assert main(["evaluate", str(tmp_path / "none"), "--metrics", "legacy", "lesion-wise"]) == 2
    error = capsys.readouterr().err
    assert "--metrics lesion-wise: not installed: no-such-package>=1" in error
    assert "pip install 'no-such-package>=1'" in error
    assert runs._installed(parse_metrics(["lesion-wise-2023", "volume"])).further == ("lesion-wise-2023", "volume")
