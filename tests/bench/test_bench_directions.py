"""bench.measure.directions: what each rule promises, and that the table says what the rows say."""

import pandas as pd
import pytest
import torch

from bench.measure import directions
from bench.measure.directions import RULES, rows_of
from bench.measure.phantom_cotangents import Setting, phantom_grams
from bench.tables.directions import directions_markdown

BOUNDED = ("subset of the objectives", "principal directions", "reweighted (gmd)")


def gram_of(t=8, scales=1.0):
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(1, 30, dtype=torch.float64, generator=generator)
    rows = rows + 0.3 * torch.randn(t, 30, dtype=torch.float64, generator=generator)
    rows[-1] = 0.0
    rows = rows * scales
    return rows @ rows.T


@pytest.mark.parametrize("tol", [0.01, 0.1, 0.3])
def test_each_rule_keeps_its_promise(tol):
    gram = gram_of()
    found = {name: rule(gram, tol) for name, rule in RULES.items()}
    for name in BOUNDED:
        assert found[name].error <= tol
        assert found["at least"].directions <= found[name].directions <= 7
    assert found["reweighted (gmd)"].directions <= found["principal directions"].directions
    assert found["energy of all together"].directions >= 1


def test_scales_deceive_the_energy_of_all_and_nobody_else():
    scales = torch.logspace(0, -3, 8, dtype=torch.float64)[:, None]
    plain, scaled = gram_of(), gram_of(scales=scales)
    for name in BOUNDED:
        assert RULES[name](scaled, 0.1).directions == RULES[name](plain, 0.1).directions
    assert RULES["energy of all together"](scaled, 0.1).error > 0.2


def test_all_directions_are_needed_where_cotangents_have_nothing_in_common():
    for rule in RULES.values():
        assert rule(torch.eye(5, dtype=torch.float64), 0.1).directions == 5


def test_rows_and_their_table():
    table = pd.DataFrame(rows_of("some", [gram_of()[None].expand(3, -1, -1)] * 2))
    assert len(table) == len(directions.TOLS) * len(RULES)
    assert (table["own"] == 7).all()
    assert (table["outputs"] == 3).all()
    head, _, *lines = directions_markdown(table).splitlines()
    assert len(lines) == len(directions.TOLS)
    cells = [cell.strip() for cell in lines[-1].split("|")[1:-1]]
    assert cells[:3] == ["some", "0.1", "7.0"]
    assert len(cells) == len(head.split("|")) - 2
    ours = table[(table["tol"] == 0.1) & (table["rule"] == "reweighted (gmd)")]
    assert cells[-2] == f"{ours['directions'].item():.1f}"


@pytest.mark.slow
def test_the_gramians_of_a_training():
    grams = phantom_grams(Setting(steps=2, width=0.125, shape=16, batch=1, train_cases=2))
    assert [tuple(gram.shape) for gram in grams] == [(4, 15, 15)] * 2
    reached = (grams[0].diagonal(dim1=1, dim2=2) > 0).sum(dim=1)
    assert reached.tolist() == [8] * 4, "each modality is in 8 of the 15 subsets"
