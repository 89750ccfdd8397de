"""The bench of nnU-Net's trainers: its table and targets, and, where nnU-Net is, one quick round."""

import pandas as pd
import pytest

from bench import run
from bench.measure import nnunet
from bench.measure.nnunet import DROPOUT, ENUMERATE, EXACT, GMD, JOINT, PLAIN
from bench.parts import PARTS
from bench.tables.nnunet import nnunet_markdown
from bench.tables.targets import nnunet_verdicts
from helpers.bench_host import HOST

MS = {PLAIN: 400.0, JOINT: 1440.0, DROPOUT: 880.0, ENUMERATE: 1520.0, GMD: 1800.0, EXACT: 8700.0}


def rows(**changed: float) -> pd.DataFrame:
    taken = MS | changed
    return pd.DataFrame(
        [
            {"case": "patch 8x8x8, 3 stages", "contestant": name, "median_ms": ms, "of_plain": ms / taken[PLAIN]}
            | {"N": 1, "calls": 3, "peak_MB": 70.0, "error": ""}
            | HOST
            | {"commit": "abc"}
            for name, ms in taken.items()
        ]
    )


def test_the_table_has_a_row_for_each_trainer():
    table = nnunet_markdown(rows()).splitlines()
    assert table[2] == "| patch 8x8x8, 3 stages: nnUNetTrainer | 1 | 400 | 70 | 3 |"
    assert f"| patch 8x8x8, 3 stages: {GMD} | 4.5 | 1800 | 70 | 3 |" in table


def test_what_is_expected_of_a_step():
    sentences = nnunet_verdicts(rows())
    assert f"{GMD}, of_plain at most 5: reached, 4.5 in patch 8x8x8, 3 stages" in sentences
    missed = nnunet_verdicts(rows(**{GMD: 2400.0}))
    assert f"{GMD}, of_plain at most 5: MISSED in 1 of 1 cases, 6 in patch 8x8x8, 3 stages" in missed


def test_without_nnunet_it_says_so_and_leaves_the_results_alone(monkeypatch, capsys):
    [part] = [part for part in PARTS if part.name == "nnunet"]
    monkeypatch.setattr(nnunet, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["bench.run", "nnunet"])
    monkeypatch.setattr(run, "_memory", dict)
    monkeypatch.setattr(run, "write_csv", None)
    assert run.main() == 0
    assert part.lacking() in capsys.readouterr().out
    assert "nnunetv2 is not installed" in part.lacking()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.interface.*:DeprecationWarning")
def test_a_quick_round():
    pytest.importorskip("nnunetv2", reason="needs the extra nnunet")
    measured = {row["contestant"]: row for row in nnunet.measure_nnunet((8, 8, 8), (4, 4, 8), 1, int)}
    assert set(measured) == set(MS)
    assert not any(row["error"] for row in measured.values())
    assert measured[PLAIN]["of_plain"] == 1
    assert all(row["median_ms"] > 0 and row["peak_MB"] > 0 for row in measured.values())
    assert (measured[GMD]["calls"], measured[DROPOUT]["calls"], measured[EXACT]["calls"]) == (8, 16, 2)
