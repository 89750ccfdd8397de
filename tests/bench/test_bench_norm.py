"""bench.measure.norm: values are judged before speed, and the table says what the rows say."""

from collections import Counter

import pandas as pd
import pytest
import torch

from bench.measure import norm
from bench.measure.norm import BOTH_PHASES, DTYPES, LAYOUTS, NORMS, OURS, PYTORCH, NormCase, cases, measure_case
from bench.tables.norm import norm_markdown
from gmd.models.modality_norms import ModalityGroupNorm
from gmd.models.unet3d import UNet3d

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch", [1, 4])
def test_a_case(batch: int, layout: str, dtype: torch.dtype):
    rows = measure_case(NormCase(32, 64, 2, batch, dtype, layout), rounds=1)
    assert [(row["phase"], row["contestant"]) for row in rows] == [
        (phase, who) for phase in norm.PHASES for who in (OURS, PYTORCH)
    ]
    for row in rows:
        assert row["error"] == ""
        assert 0 < row["p20_ms"] <= row["median_ms"] <= row["p80_ms"]
        assert row["fraction_of_floor"] == pytest.approx(row["floor_ms"] / row["median_ms"])
        assert row["case"] == f"{batch}x64x8^3"
    assert [row["ratio_to_ours"] for row in rows if row["contestant"] == OURS] == [1, 1]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_who_forgets_a_term_is_not_timed(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype):
    """Or adds one: the values are right, the gradient of x is not."""

    def forgetful(given):
        return norm.ours(given) + 0.3 * (given.x - given.x.detach())

    monkeypatch.setitem(norm.WAYS, OURS, forgetful)
    rows = measure_case(NormCase(32, 64, 2, 1, dtype, "channels-last"), rounds=1)
    wrong = {(row["phase"], row["contestant"]) for row in rows if row["error"]}
    assert wrong == {(BOTH_PHASES, OURS)}
    [row] = [row for row in rows if row["error"]]
    assert row["median_ms"] is None
    assert "values differ from float64" in row["error"]


def test_the_norms_are_those_of_the_network():
    network, seen = UNet3d(("flair", "t1"), ("WT",), width=0.5), Counter()
    for module in network.modules():
        if isinstance(module, ModalityGroupNorm):
            module.register_forward_pre_hook(lambda _, inputs: seen.update([tuple(inputs[0].shape)]))
    network(torch.zeros(1, 1, 16, 16, 16), 0)
    assert seen == {(1, channels, *[16 >> level] * 3): count for (channels, level), count in NORMS.items()}


def test_there_is_a_case_for_every_norm():
    assert {(case.size, case.channels, case.side) for case in cases()} == {
        (size, channels, size // 2**level) for size in (32, 48) for channels, level in NORMS
    }
    assert len({tuple(case.columns().values()) for case in cases()}) == 128


def test_the_table():
    rows = [
        {"size": 32, "dtype": "bfloat16", "layout": "channels-last", "batch": 1, "phase": BOTH_PHASES}
        | {"C": channels, "level": level, "contestant": who, "median_ms": ms}
        for channels, level in NORMS
        for who, ms in ((OURS, 1.0), (PYTORCH, 2.5))
    ]
    host = dict.fromkeys(("date", "cpu", "cores", "threads", "isa", "torch", "torchjd", "commit"), "?")
    head, _, line, *_ = norm_markdown(pd.DataFrame([row | host for row in rows])).splitlines()
    assert head.startswith("| ms, PyTorch's over ours | 16, s | 16, s/2 | 32, s/2 |")
    assert head.endswith("| 128, s/8 | 128, s/16 | all 18 |")
    assert line == f"| 32³, bfloat16, channels-last, batch 1 |{' 1, 2.5x |' * 8} 18, 2.5x |"
