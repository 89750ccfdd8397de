"""bench.measure.mfeat: every arm trains on the same samples from the same weights, and is scored on all 63 subsets."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from bench.measure import mfeat
from bench.measure.arms import Arm, arms_for
from bench.measure.mfeat import MODALITIES, Setting
from bench.measure.paired_runs import measure

FEATURES = (5, 3, 2, 4, 3, 1)
SMALL = Setting(width=8, epochs=2, batch=6, training=12, validation=3, test=9)
BY_NAME = {arm.name: arm for arm in arms_for(MODALITIES)}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """30 digits, each modality of which tells it by its first feature."""
    rng = np.random.default_rng(0)
    digits = np.arange(30) % mfeat.CLASSES
    values = {m: rng.normal(size=(30, number)) for m, number in zip(MODALITIES, FEATURES, strict=True)}
    for value in values.values():
        value[:, 0] = digits
    path = tmp_path_factory.mktemp("mfeat") / "mfeat.npz"
    np.savez(path, digit=digits, **values)
    return mfeat.read(path)


def trained(samples, name, setting=SMALL, seed=2):
    split = mfeat.draw_split(30, seed, setting)
    network = mfeat.make_network(samples[0], split, seed, setting)
    return mfeat.train(network, BY_NAME[name], seed, samples, split, setting)


def test_samples_are_sequences_of_one_step(samples):
    values, digits = samples
    assert {m: tuple(value.shape) for m, value in values.items()} == {
        m: (30, 1, number) for m, number in zip(MODALITIES, FEATURES, strict=True)
    }
    assert all(value.dtype == torch.float32 for value in values.values())
    assert digits.dtype == torch.int64


def test_no_sample_that_trains_is_tested_on():
    split = mfeat.draw_split(30, 2, SMALL)
    assert (len(split.training), len(split.test)) == (12, 9)
    assert not set(split.training) & set(split.test)
    again = mfeat.draw_split(30, 2, SMALL)
    assert (split.test == again.test).all()
    assert (split.test != mfeat.draw_split(30, 3, SMALL).test).any()


def test_inputs_are_standardised_by_the_samples_that_train(samples):
    split = mfeat.draw_split(30, 2, SMALL)
    network = mfeat.make_network(samples[0], split, 2, SMALL)
    steps = samples[0]["kar"][split.training, 0]
    projection = network.inputs[MODALITIES.index("kar")]
    assert torch.allclose(projection.mean, steps.mean(dim=0))
    assert torch.allclose(projection.std, steps.std(dim=0))


def test_runs_of_a_seed_are_paired(samples):
    """Same weights, batches and dropout: so the first step has the same losses."""
    plain, exact = trained(samples, "enumerate"), trained(samples, "gmd")
    assert len(plain) == len(exact) == 4
    assert len(exact[0].losses) == 63
    assert torch.equal(plain[0].losses, exact[0].losses)


def test_steps_between_refreshes_take_no_weights(samples):
    reports = trained(samples, "gmd, every 8")
    assert [report.refreshed for report in reports] == [True, False, False, False]
    columns = mfeat.training_columns(reports)
    assert columns["refreshed"] == 0.25
    assert columns["conflicts_last"] is None, "no gradients were compared there"
    assert 0 <= columns["conflicts_first"] <= 1


def test_dropout_leaves_each_sample_some_of_its_modalities(samples, monkeypatch):
    dropped = []

    def watched(inputs, generator):
        left = drop_modalities(inputs, generator)
        dropped.append(left)
        return left

    drop_modalities = mfeat.drop_modalities
    monkeypatch.setattr(mfeat, "drop_modalities", watched)
    reports = trained(samples, "dropout")
    assert len(dropped) == len(reports) == 4
    assert all(len(report.losses) == 1 for report in reports)
    assert not all(pairs.present().all() for pairs in dropped)
    columns = mfeat.training_columns(reports)
    assert columns["conflicts_first"] is columns["refreshed"] is None


@pytest.mark.parametrize("arm", BY_NAME.values(), ids=lambda arm: arm.name)
def test_every_arm_trains_and_is_scored(samples, arm, tmp_path):
    row = mfeat.run(arm, 0, tmp_path, samples=samples, setting=replace(SMALL, epochs=1))
    shares = [row[name] for name in ("mean", "worst", "full", *(f"alone_{m}" for m in MODALITIES))]
    assert all(0 <= share <= 1 for share in shares)
    assert row["worst"] <= row["mean"]
    assert row["skipped"] == 0
    assert row["cpu_s_per_step"] > 0
    assert not list(tmp_path.iterdir())


def test_scores_are_of_all_subsets(samples):
    split = mfeat.draw_split(30, 2, SMALL)
    network = mfeat.make_network(samples[0], split, 2, SMALL)
    shares = mfeat.score(network, samples, split.test)
    assert len(shares) == 63
    shares |= dict.fromkeys(shares, 0.5) | {"fou+zer": 0.25, "mor": 0.75, "+".join(MODALITIES): 1.0}
    columns = mfeat.score_columns(shares)
    assert (columns["worst"], columns["worst_subset"], columns["full"]) == (0.25, "fou+zer", 1.0)
    assert (columns["alone_mor"], columns["alone_fou"]) == (0.75, 0.5)
    assert columns["mean"] == pytest.approx((60 * 0.5 + 0.25 + 0.75 + 1) / 63)


def test_finished_runs_are_not_done_again(samples, tmp_path):
    out, setting = tmp_path / "mfeat.csv", {"width": 8}
    run = partial(mfeat.run, samples=samples, setting=SMALL)
    runs = [(5, BY_NAME["dropout"]), (4, BY_NAME["joint"])]
    measure("mfeat", runs, run, setting, tmp_path / "work", out)
    table = pd.read_csv(out)
    assert list(zip(table["seed"], table["arm"], strict=True)) == [(4, "joint"), (5, "dropout")]

    def never(arm: Arm, seed: int, folder) -> dict:
        raise AssertionError(f"{arm.name} of seed {seed} is done again")

    measure("mfeat", runs, never, setting, tmp_path / "work", out)
    pd.testing.assert_frame_equal(pd.read_csv(out), table)
