"""Steps standardised with the statistics of the training samples."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from gmd.data.padded import pad
from gmd.data.sequences.samples import Sample
from gmd.models.sequences.input_statistics import input_statistics
from gmd.models.sequences.shared_transformer import SharedTransformer
from helpers.transformer_cases import FEATURES, MODALITIES, NAN, noise

pytestmark = pytest.mark.usefixtures("one_thread")


def samples_of(lengths: list[int], scale: float = 1.0) -> list[Sample]:
    """Each misses one modality in turn; a feature of audio is constant."""
    samples = []
    for i, length in enumerate(lengths):
        values = {m: (3 + scale * noise(length, f, seed=i)).float() for m, f in FEATURES.items()}
        values["audio"][:, 1] = 0.1
        values.pop(MODALITIES[i % 3])
        samples.append(Sample(f"sample {i}", values, torch.zeros(())))
    return samples


@given(lengths=st.lists(st.integers(1, 9), min_size=2, max_size=6), scale=st.sampled_from([1e-6, 1.0, 1e6]))
@settings(max_examples=20, deadline=None)
def test_statistics_are_those_of_all_steps_together(lengths: list[int], scale: float):
    samples = samples_of(lengths, scale)
    for m, (mean, std) in input_statistics(samples).items():
        steps = np.concatenate([sample.values[m].double().numpy() for sample in samples if m in sample.values])
        assert mean.dtype == std.dtype == torch.float64
        np.testing.assert_allclose(mean, steps.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(std, steps.std(axis=0), rtol=1e-6, atol=1e-15)
    assert input_statistics(samples)["audio"][1][1] == 0, "not what rounding makes of a constant"
    assert input_statistics(samples_of([3])).keys() == {"audio", "vision"}


def test_inputs_are_standardised_and_constant_features_become_0():
    samples = samples_of([5, 6, 7, 8])
    network = SharedTransformer(FEATURES, 1, False, width=8)
    network.set_input_statistics(input_statistics(samples))
    seen = {}
    for projection in network.inputs:
        projection.linear.register_forward_hook(
            lambda _, inputs, __, m=projection.modality: seen.update({m: inputs[0]})
        )
    for m in MODALITIES:
        padded = pad([sample.values[m] for sample in samples if m in sample.values])
        network(padded, MODALITIES.index(m))
        steps = seen[m][padded.mask]
        torch.testing.assert_close(steps.mean(dim=0), torch.zeros(FEATURES[m]), atol=1e-5, rtol=0)
        spread = torch.tensor([0.0 if (m, f) == ("audio", 1) else 1.0 for f in range(FEATURES[m])])
        torch.testing.assert_close(steps.std(dim=0, correction=0), spread, atol=1e-4, rtol=0)
        assert not seen[m][~padded.mask].any()


def test_statistics_are_saved_with_the_network_and_kept_where_none_are_given():
    network = SharedTransformer(FEATURES, 1, False, width=8)
    network.set_input_statistics({"text": (torch.arange(5.0), torch.arange(5.0))})
    assert network.inputs[0].std.tolist() == [1, 1, 2, 3, 4]
    assert network.inputs[1].std.tolist() == [1, 1, 1]
    other = SharedTransformer(FEATURES, 1, False, width=8)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.inputs[0].mean, torch.arange(5.0))
    network.set_input_statistics({"audio": (torch.zeros(3), torch.full((3,), 1e-200, dtype=torch.float64))})
    assert network(torch.ones(1, 2, 3), 1).isfinite().all(), "0 in float32, and not to be divided by"


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({"smell": (torch.zeros(5), torch.ones(5))}, "statistics: expected some of text, audio, vision, got smell"),
        ({"text": (torch.zeros(4), torch.ones(4))}, r"text: expected a mean of 5 finite numbers, got shape \[4\]"),
        ({"text": (torch.zeros(5), torch.ones(1))}, r"text: expected a standard deviation of 5 .* got shape \[1\]"),
        ({"text": (torch.full((5,), NAN), torch.ones(5))}, "text: expected a mean of 5 finite numbers, got .nan, nan"),
        (
            {"text": (torch.full((5,), 1e200, dtype=torch.float64), torch.ones(5))},
            "text: expected a mean of 5 finite numbers, got .inf",
        ),
        ({"text": (torch.zeros(5), -torch.ones(5))}, "text: expected standard deviations of at least 0, got -1"),
    ],
)
def test_bad_statistics_raise_and_change_nothing(statistics: dict, message: str):
    network = SharedTransformer(FEATURES, 1, False, width=8)
    with pytest.raises(ValueError, match=message):
        network.set_input_statistics({"audio": (torch.ones(3), torch.ones(3))} | statistics)
    assert not network.inputs[1].mean.any()
