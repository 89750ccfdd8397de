"""The benchmark of a step of each method: right values before times, kinds of steps, tables and verdicts."""

from collections import Counter
from collections.abc import Iterator

import pandas as pd
import pytest
import torch
from torch import nn

from helpers.bench_host import HOST

pytest.importorskip("torchjd", reason="the benchmark's extras are not installed")
pytest.importorskip("matplotlib", reason="the benchmark's extras are not installed")

from bench.measure import auto_interval, sequences, step_methods, step_networks
from bench.measure.auto_interval import QUIET, Counted, count_refreshes
from bench.measure.autogram import Autogram
from bench.measure.step_methods import MEASURED, WAYS, Run, measure_step_methods
from bench.measure.step_names import (
    AUTO_CONFLICTING,
    AUTO_QUIET,
    AUTOGRAM,
    BOTH,
    DROPOUT,
    ENUMERATE,
    EVERY4,
    EVERY8,
    EXACT,
    JOINT,
)
from bench.tables import targets
from bench.tables.step import step_methods_markdown
from gmd.models.conv import quick_lone_samples
from gmd.subsets import all_subsets

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTED = {AUTO_QUIET: Counted(100, 5, 0.0), AUTO_CONFLICTING: Counted(100, 20, 0.1)}


@pytest.fixture(scope="module")
def setup() -> Iterator[step_networks.Setup]:
    """A transformer of few numbers, on few samples."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (sequences, step_networks):
            patch.setattr(module, "FEATURES", {"text": 9, "audio": 4, "vision": 3})
        patch.setattr(sequences, "BATCH", 6)
        patch.setattr(sequences, "LENGTH", 5)
        yield step_networks.transformer(8, 1)


@pytest.fixture(scope="module")
def rows(setup) -> dict[str, dict]:
    return {row["contestant"]: row for row in measure_step_methods(setup, 1, COUNTED, int)}


def test_every_method_has_a_row_with_right_values_and_a_time(rows):
    assert list(rows) == list(MEASURED)[1:], "all but the published one, which is the U-Net's"
    for row in rows.values():
        assert row["error"] == row["cannot"] == ""
        assert row["median_ms"] > 0
        assert row["value_error"] < 1e-5 or "tol" in row["contestant"]
    assert rows[JOINT]["of_joint"] == 1
    assert rows[BOTH]["value_error"] < 1e-5, "directions serve the Gramian alone"
    assert rows[EVERY8]["memory_of_enumerate"] == pytest.approx(1, abs=0.02)
    assert rows[EVERY8]["refresh_MB"] == pytest.approx(rows[EXACT]["ordinary_MB"], rel=0.05)
    assert rows[EVERY8]["calls"] == 8


def test_a_mean_over_a_cycle_is_made_of_its_two_kinds(rows):
    for name, share in {EVERY4: 1 / 4, EVERY8: 1 / 8, AUTO_QUIET: 0.05, AUTO_CONFLICTING: 0.2}.items():
        row = rows[name]
        assert row["refreshes"] == share
        assert row["median_ms"] == pytest.approx(share * row["refresh_ms"] + (1 - share) * row["ordinary_ms"])
        assert (row["refresh_ms"], row["ordinary_ms"]) == (rows[EVERY8]["refresh_ms"], rows[EVERY8]["ordinary_ms"])
    assert "refresh_ms" not in rows[ENUMERATE]


def test_steps_of_a_cycle_are_one_refresh_and_the_others(setup):
    run = Run(setup, WAYS[EVERY8])
    assert [run.step()[1] for _ in range(17)] == [number % 8 == 0 for number in range(17)]


def test_weights_that_are_not_those_of_the_report_are_found(setup, monkeypatch):
    def skewed(run):
        surgeon = WAYS[EXACT].make(run)
        backward = surgeon.backward

        def wrong(losses, outputs):
            report = backward(losses, outputs)
            run.params[-1].grad += 0.1
            return report

        surgeon.backward = wrong
        return surgeon

    some = {name: WAYS[name] for name in (JOINT, ENUMERATE)}
    monkeypatch.setattr(step_methods, "WAYS", some | {EXACT: WAYS[EXACT]._replace(make=skewed)})
    rows = {row["contestant"]: row for row in measure_step_methods(setup, 1, COUNTED, int)}
    assert "merged gradient differs" in rows[EXACT]["error"]
    assert "median_ms" not in rows[EXACT]
    assert rows[ENUMERATE]["of_joint"] > 0, "the others are measured all the same"


def test_a_step_that_kept_old_gradients_with_its_weights_is_found(setup, monkeypatch):
    """The step after a refresh is judged at other parameters than those that the weights come from."""
    kept = []

    def replay(run):
        """Leaves the gradients of the first step at every step."""
        report = backward(run)
        kept.extend([] if kept or run.way is not WAYS[EVERY8] else [param.grad.clone() for param in run.params])
        if run.way is WAYS[EVERY8]:
            for param, grad in zip(run.params, kept, strict=True):
                param.grad = grad.clone()
        return report

    backward = Run.backward
    monkeypatch.setattr(Run, "backward", replay)
    rows = step_methods._check(setup, {name: Run(setup, WAYS[name]) for name in (ENUMERATE, EVERY8)})
    assert "merged gradient differs" in rows[EVERY8]["error"]
    assert rows[ENUMERATE]["error"] == ""


def test_dropout_s_turns_give_each_sample_every_subset(setup):
    subsets = all_subsets(setup.network.modalities)
    counts = [Counter() for _ in range(setup.inputs.num_samples)]
    for turn in range(len(subsets)):
        dropped = setup.dropped(turn)
        for sample, count in enumerate(counts):
            count[tuple(m for m in setup.network.modalities if sample in dropped.samples.get(m, ()))] += 1
    assert counts == [Counter(subsets)] * setup.inputs.num_samples
    run = Run(setup, WAYS[DROPOUT])
    run.step()
    assert run.inputs.samples == setup.dropped(1).samples


def test_autogram_sees_all_parameters_but_those_in_lists(setup):
    run = Run(setup, WAYS[AUTOGRAM])
    assert isinstance(run.surgeon, Autogram)
    seen = {id(param) for param in run.surgeon.seen}
    assert all((id(param) in seen) == ("norm" not in name) for name, param in run.network.named_parameters())


def test_autograms_gramian_has_all_layers_of_a_network_made_for_lone_samples():
    """TorchJD's engine passes by an autograd function in Python, as one of ours is, without a word."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 1))
    quick_lone_samples(network)
    surgeon, y = Autogram(network), network(torch.randn(1, 1, 8, 8, 8))
    losses = [y[:, 0].square().mean(), y.mean()]
    rows = [torch.autograd.grad(loss, list(network.parameters()), retain_graph=True) for loss in losses]
    exact = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()
    torch.testing.assert_close(surgeon.backward(losses).gram, exact @ exact.T, rtol=1e-5, atol=0)


def test_what_autogram_cannot_run_is_told_and_not_timed(setup, monkeypatch):
    def refuse(*_):
        raise NotImplementedError("no\n  rule")

    monkeypatch.setattr(Autogram, "backward", refuse)
    monkeypatch.setattr(step_methods, "WAYS", {name: WAYS[name] for name in (JOINT, ENUMERATE, EVERY8, AUTOGRAM)})
    rows = {row["contestant"]: row for row in measure_step_methods(setup, 1, COUNTED, int)}
    assert rows[AUTOGRAM]["cannot"] == "no rule"
    assert "median_ms" not in rows[AUTOGRAM]
    table = step_methods_markdown(pd.DataFrame([row | HOST | {"commit": "abc"} for row in rows.values()]))
    assert "| transformer: TorchJD's autogram | cannot: no rule |" in table


@pytest.mark.slow
@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
def test_the_u_net_s_values_are_right_too(bfloat16):
    rows = measure_step_methods(step_networks.unet(0.0625, 16, bfloat16), 1, COUNTED, int)
    assert [row["contestant"] for row in rows] == list(MEASURED)[bfloat16:]
    assert all(row["error"] == row["cannot"] == "" for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["segresnet", "dynunet"])
def test_monai_s_networks_train_in_a_loop_of_one_s_own(network):
    rows = measure_step_methods(getattr(step_networks, network)(16), 1, COUNTED, int)
    assert all(row["error"] == row["cannot"] == "" for row in rows)


def test_refreshes_are_counted(monkeypatch):
    monkeypatch.setattr(auto_interval, "WIDTH", 1 / 32)
    assert count_refreshes(QUIET._replace(steps=5))[:2] == (5, 2)


# Tables


def method_rows() -> list[dict]:
    told = {
        "T": 15,
        "N": 100,
        "error": "",
        "cannot": "",
        "commit": "abc",
        "value_error": 2e-7,
        "ordinary_MB": 5.0,
    } | HOST
    rows = []
    for case in (*targets.UNETS, *targets.NETWORKS):
        of_case = told | {"case": case, "memory_of_enumerate": 1.0}
        rows.append(of_case | {"contestant": JOINT, "median_ms": 100.0, "of_joint": 1.0, "value_error": 0.0})
        of_two = {"ordinary_ms": 110.0, "refresh_ms": 510.0, "refresh_MB": 80.0}
        rows.append(of_case | of_two | {"contestant": EVERY8, "median_ms": 160.0, "of_joint": 1.6, "refreshes": 0.125})
        counted = {"counted_steps": 128, "counted_conflicts": 0.1, "refreshes": 0.25}
        rows.append(of_case | of_two | counted | {"contestant": AUTO_CONFLICTING, "median_ms": 210.0, "of_joint": 2.1})
    return rows


def test_the_table_shows_both_kinds_of_steps():
    table = step_methods_markdown(pd.DataFrame(method_rows())).splitlines()
    assert "| transformer: joint | 1 | 100 |  |  |  | 5.0 |  |  |" in table
    assert "| transformer: gmd, every=8 | 1.60 | 160 | 110 | 510 | 12.5 % | 5.0 | 80 | 2e-05 % |" in table
    assert "Refreshes of auto were counted: 32 of 128 steps, 10.0 % of the pairs in conflict. Measured" in table[-1]


def test_verdicts_compare_with_joint_and_enumerate():
    sentences = targets.step_methods_verdicts(pd.DataFrame(method_rows()))
    assert "gmd, every=8, of_joint at most 1.9: reached, 1.6 in U-Net, float32" in sentences
    assert "gmd, every=8, of_joint at most 1.5: MISSED in 1 of 1 cases, 1.6 in transformer" in sentences
    assert "gmd, auto, conflicts, of_joint at most 2.2: reached, 2.1 in U-Net, float32" in sentences
    assert "gmd, every=8, memory_of_enumerate at most 1.01: reached, 1 in U-Net, float32" in sentences
    assert sum("not measured" in sentence for sentence in sentences) == 1, "auto without conflicts"


def test_wrong_values_everywhere_leave_no_table():
    rows = pd.DataFrame([{"case": "transformer", "contestant": JOINT, "error": "merged gradient differs"}])
    assert step_methods_markdown(rows) == "not measured: wrong values"
    assert "not measured, wrong values" in targets.step_methods_verdicts(rows)[0]
