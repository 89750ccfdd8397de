"""The tables of predictions on sequences: means over what is there, for people and for programs."""

import csv
import io
import math

import pytest
import torch
from torch import Tensor

from gmd.scoring.outcomes import Outcome
from gmd.scoring.sequences.metrics import CLASS_METRICS, SENTIMENT_METRICS, class_metrics, sentiment_metrics
from gmd.scoring.sequences.tables import (
    Predictions,
    mean_over_subsets,
    predictions_csv,
    subset_table,
    table_csv,
    table_markdown,
    table_row,
)

MODALITIES = ("text", "audio")
MOSI, CLASSES = [Outcome("", None, 3.0)], [Outcome("", ("no", "yes"))]
X, Y, BOTH = ("text",), ("audio",), ("text", "audio")
NAN = math.nan
# two steps of sample a, which has no audio, and one of b
SCORES = Predictions(
    ["a", "a", "b"],
    [0, 1, 0],
    torch.tensor([0.1, -1.0, 2.0]),
    {
        X: torch.tensor([[0.5], [-0.7], [1.0]]),
        Y: torch.tensor([[NAN], [NAN], [-2.0]]),
        BOTH: torch.tensor([[NAN], [NAN], [0.25]]),
        None: torch.tensor([[0.5], [-0.7], [0.25]]),
    },
)
PROBABILITIES = Predictions(
    ["a", "b"],
    [0, 0],
    torch.tensor([1, 0]),
    {
        X: torch.tensor([[0.25, 0.75], [0.4, 0.6]]),
        Y: torch.full((2, 2), NAN),
        BOTH: torch.full((2, 2), NAN),
    },
)


def cells_of(markdown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_rows_are_the_metrics_of_those_that_have_the_subset():
    rows = subset_table(SCORES, MODALITIES, MOSI)
    assert [(row.subset, row.scored) for row in rows] == [(X, 3), (Y, 1), (BOTH, 1)]
    assert rows[0].metrics == pytest.approx(sentiment_metrics(SCORES.subsets[X][:, 0], SCORES.targets))
    assert rows[1].metrics == pytest.approx(sentiment_metrics(torch.tensor([-2.0]), torch.tensor([2.0])))
    row = table_row(SCORES, None, MOSI)
    assert row.scored == 3
    assert row.metrics == pytest.approx(sentiment_metrics(SCORES.subsets[None][:, 0], SCORES.targets))


def test_each_subset_that_is_there_counts_once_in_the_mean():
    rows = subset_table(SCORES, MODALITIES, MOSI)
    assert mean_over_subsets(rows)["MAE"] == pytest.approx((1.7 / 3 + 4 + 1.75) / 3)
    absent = SCORES._replace(subsets=SCORES.subsets | {BOTH: torch.full((3, 1), NAN)})
    assert mean_over_subsets(subset_table(absent, MODALITIES, MOSI))["MAE"] == pytest.approx((1.7 / 3 + 4) / 2)
    rows = subset_table(PROBABILITIES, MODALITIES, CLASSES)
    assert [(row.scored, bool(row.metrics)) for row in rows] == [(2, True), (0, False), (0, False)]
    expected = class_metrics(PROBABILITIES.subsets[X], PROBABILITIES.targets)
    assert mean_over_subsets(rows) == rows[0].metrics == expected
    assert mean_over_subsets(rows[1:]) == {}


def test_table_for_people():
    text = table_markdown(
        subset_table(PROBABILITIES, MODALITIES, CLASSES),
        MODALITIES,
        CLASSES,
        {"30 % absent, seed 0": dict(zip(CLASS_METRICS, (0.25, 0.125, 0.5), strict=True))},
    )
    assert len({len(line) for line in text.splitlines()}) == 1, "columns are aligned"
    assert cells_of(text) == [
        ["text", "audio", "accuracy", "macro F1", "ECE"],
        [":-:", ":-:", "--:", "--:", "--:"],
        ["●", "○", "0.500", "0.333", "0.425"],
        ["○", "●", "absent", "absent", "absent"],
        ["●", "●", "absent", "absent", "absent"],
        ["mean of 1", "", "0.500", "0.333", "0.425"],
        ["30 % absent, seed 0", "", "0.250", "0.125", "0.500"],
    ]
    header, _, first, *_ = cells_of(table_markdown(subset_table(SCORES, MODALITIES, MOSI), MODALITIES, MOSI))
    assert header == ["text", "audio", "scored", *SENTIMENT_METRICS], "numbers that differ have a column"
    assert first[:4] == ["●", "○", "3", "0.567"]


def test_table_for_programs():
    rows = subset_table(SCORES, MODALITIES, MOSI)
    extra = {"half absent": dict.fromkeys(SENTIMENT_METRICS, 0.5)}
    lines = read(table_csv(rows, MODALITIES, MOSI, extra))
    assert lines[0] == ["subset", "text", "audio", "scored", *SENTIMENT_METRICS]
    assert [line[:4] for line in lines[1:]] == [
        ["text", "1", "0", "3"],
        ["audio", "0", "1", "1"],
        ["text+audio", "1", "1", "1"],
        ["mean", "", "", ""],
        ["half absent", "", "", ""],
    ]
    for line, metrics in zip(lines[1:], [*(row.metrics for row in rows), mean_over_subsets(rows)], strict=False):
        assert [float(cell) for cell in line[4:]] == list(metrics.values()), "all digits"
    assert read(table_csv(subset_table(PROBABILITIES, MODALITIES, CLASSES), MODALITIES, CLASSES))[2] == [
        *["audio", "0", "1", "0"],
        *["absent"] * 3,
    ]


def test_every_prediction_of_scores_with_all_digits():
    lines = read(predictions_csv(SCORES, MOSI))
    assert lines[0] == ["sample", "step", "target", "text", "audio", "text+audio", "present"]
    assert [line[:2] for line in lines[1:]] == [["a", "0"], ["a", "1"], ["b", "0"]]
    assert [line[4:6] for line in lines[1:]] == [["", ""], ["", ""], ["-2.0", "0.25"]]

    def column(number: int) -> Tensor:
        return torch.tensor([float(line[number]) for line in lines[1:]], dtype=torch.float64)

    assert torch.equal(column(2), SCORES.targets.double())
    assert torch.equal(column(3), SCORES.subsets[X][:, 0].double())
    assert torch.equal(column(6), SCORES.subsets[None][:, 0].double())


def test_every_prediction_of_classes():
    assert read(
        predictions_csv(
            PROBABILITIES._replace(subsets={X: PROBABILITIES.subsets[X], Y: PROBABILITIES.subsets[Y]}), CLASSES
        )
    ) == [
        ["sample", "step", "target", "text", "text p(no)", "text p(yes)", "audio", "audio p(no)", "audio p(yes)"],
        ["a", "0", "yes", "yes", "0.25", "0.75", "", "", ""],
        [
            "b",
            "0",
            "no",
            "yes",
            str(PROBABILITIES.subsets[X][1, 0].item()),
            str(PROBABILITIES.subsets[X][1, 1].item()),
            "",
            "",
            "",
        ],
    ]
