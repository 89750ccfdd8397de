"""bench.measure.share: values are judged before speed, and the tables and verdicts say what the rows say."""

from functools import partial

import pandas as pd
import pytest
from torch import nn

from bench.measure import share
from bench.measure.share import BY_HAND, LONE, PLAIN, QUICK, SHARED, SHARING, TORCH, OneModality, lone, sharing
from bench.measure.step import MODALITIES, REGIONS
from bench.tables import targets
from bench.tables.share import share_markdown
from gmd.models.conv import Conv3d
from gmd.models.unet3d import UNet3d

WIDTH = 0.125

pytestmark = pytest.mark.usefixtures("one_thread")


def our_network() -> share.Case:
    return sharing("ours", partial(OneModality, WIDTH), partial(UNet3d, MODALITIES, REGIONS, WIDTH))


def test_sharing_is_compared_with_the_same_arithmetic():
    rounds = []
    rows = our_network().measure(16, rounds=2, on_round=lambda: rounds.append(1))
    assert [row["contestant"] for row in rows] == [PLAIN, SHARED, BY_HAND]
    assert len(rounds) == 2
    for row in rows:
        assert row["error"] == ""
        assert row["case"] == "ours, 16³"
        assert row["what"] == SHARING
        assert max(row["output_error"], row["gradient_error"]) < 1e-5
        assert 0 < row["p20_ms"] <= row["median_ms"] <= row["p80_ms"]
    assert rows[1]["N"] == rows[2]["N"] > rows[0]["N"]
    assert rows[0]["of_first"] == 1


def small() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.GELU(), nn.Conv3d(4, len(REGIONS), 1))


def test_a_lone_sample_with_torchs_convolutions_and_with_ours():
    case = lone("small", small)
    classes = {name: type(rival.network[0]) for name, rival in case.rivals.items()}
    assert classes == {TORCH: nn.Conv3d, QUICK: Conv3d}
    rows = case.measure(8, rounds=1, on_round=lambda: None)
    assert [(row["contestant"], row["what"], row["error"]) for row in rows] == [(TORCH, LONE, ""), (QUICK, LONE, "")]
    assert rows[0]["N"] == rows[1]["N"]


@pytest.mark.parametrize("wrong", ["output", "gradient"])
def test_who_is_wrong_is_not_timed(wrong: str):
    case = lone("small", small)
    first, *_ = case.rivals[QUICK].network
    if wrong == "output":
        first.register_forward_hook(lambda module, given, y: y + y.square())
    else:
        first.weight.register_hook(lambda gradient: gradient * 1.1)
    plain, quick = case.measure(8, rounds=1, on_round=lambda: None)
    assert plain["error"] == ""
    assert plain["median_ms"] > 0
    assert "its gradient by" in quick["error"]
    assert "median_ms" not in quick


def test_the_cases(monkeypatch: pytest.MonkeyPatch):
    for name in ("segresnet", "dynunet", "basic_unet", "unetr"):
        monkeypatch.setattr(share, name, lambda *_: small())
    made = list(share.cases(32))
    assert len(made) == share.CASES
    assert [(case.network, case.what) for case in made] == [
        *((name, SHARING) for name in ("SegResNet", "DynUNet", "gmd's U-Net")),
        *((name, LONE) for name in ("SegResNet", "DynUNet", "BasicUNet", "UNETR")),
    ]


def table(shared: float, quick: float) -> pd.DataFrame:
    host = dict.fromkeys(("date", "cpu", "cores", "threads", "isa", "torch", "torchjd", "commit"), "?")
    ways = ((SHARING, PLAIN, 1.0), (SHARING, SHARED, shared), (LONE, TORCH, 1.0), (LONE, QUICK, quick))
    rows = [
        {"case": f"{name}, 32³", "what": what, "contestant": who, "N": 1000, "median_ms": 200 * of, "of_first": of}
        for name in ("SegResNet", "DynUNet")
        for what, who, of in ways
    ]
    return pd.DataFrame(rows).assign(output_error=1e-7, gradient_error=0.0, error="", **host)


def test_the_tables():
    first, second, note = share_markdown(table(1.02, 0.2)).split("\n\n")
    assert first.splitlines()[3] == "| SegResNet, 32³: gmd.share | 204 | 1.020 | 1,000 | 1.0e-07 |  |"
    assert second.splitlines()[3] == "| SegResNet, 32³: quick_lone_samples | 40 | 0.200 | 1,000 | 1.0e-07 |  |"
    assert note.startswith("Measured")
    assert share_markdown(table(1, 1).drop(columns="median_ms")) == "not measured: wrong values"


def test_the_verdicts():
    assert all("reached" in verdict for verdict in targets.share_verdicts(table(1.03, 0.5)))
    missed = targets.share_verdicts(table(1.04, 0.6))
    assert "MISSED in 2 of 2 cases, 1.04" in missed[0]
    assert "MISSED in 1 of 1 cases, 0.6 in SegResNet, 32³" in missed[1]
    assert targets.share_verdicts(table(1, 1).drop(columns="of_first")) == ["sharing: not measured, wrong values"]
