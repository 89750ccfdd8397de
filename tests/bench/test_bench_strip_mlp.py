"""bench.measure.strip_mlp: the ways compute the same, and who is wrong is not timed."""

import copy

import pandas as pd
import pytest
import torch

from bench.measure.strip_mlp import (
    GROUPED,
    OURS,
    PUBLISHED,
    GroupedStrip,
    as_published,
    measured,
    values,
    with_grouped_strips,
)
from bench.tables.strip_mlp import strip_mlp_markdown
from gmd.models.strip_mlp import Depthwise, Pointwise, Strip, StripMLP

pytestmark = pytest.mark.usefixtures("one_thread")


def test_published_strip_layers_compute_the_same_with_the_same_parameters():
    network = StripMLP(64, 3, 16, (1, 1, 1, 1), drop_path=0.0).double()
    grouped = with_grouped_strips(copy.deepcopy(network))
    assert sum(isinstance(module, GroupedStrip) for module in grouped.modules()) == 8
    assert not any(isinstance(module, Strip) for module in grouped.modules())
    assert list(grouped.state_dict()) == list(network.state_dict())
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(values(grouped, x), values(network, x), rtol=1e-9, atol=1e-9)


def test_the_published_way_has_none_of_our_parts_and_computes_the_same():
    network = StripMLP(32, 3, 16, (1, 1, 1, 1), drop_path=0.0).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("gamma", "beta")):
                parameter.normal_()
    published = as_published(copy.deepcopy(network))
    assert not any(isinstance(module, Strip | Pointwise | Depthwise) for module in published.modules())
    assert list(published.state_dict()) == list(network.state_dict())
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(values(published, x), values(network, x), rtol=1e-9, atol=1e-9)


def test_a_wrong_way_has_an_error_in_the_place_of_times():
    strip = Strip(4, 8)
    wrong = GroupedStrip(Strip(4, 8))
    rows = measured("strips", {GROUPED: GroupedStrip(strip), OURS: strip, PUBLISHED: wrong}, torch.randn(2, 8, 8, 8), 2)
    assert [bool(row["error"]) for row in rows] == [False, False, True]
    assert rows[0]["of_first"] == 1
    assert rows[1]["of_first"] > 0
    assert "median_ms" not in rows[2]


def test_the_table_says_so_if_nothing_was_measured():
    assert strip_mlp_markdown(pd.DataFrame([{"case": "c", "contestant": "o", "off_by": 1.0}])).startswith(
        "not measured"
    )
