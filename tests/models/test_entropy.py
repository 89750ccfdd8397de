"""entropy_fusion: probabilities, per sample, absent modalities, extremes; the published code's traps by name."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gmd.models.entropy_fusion import entropy_fusion


def some(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits [M, n, ..., C], and who is present: each sample has the first modality at least."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(shape[:2], generator=generator) < 0.6
    present[0] = True
    return 3 * torch.randn(shape, generator=generator), present


def one_by_one(logits: Tensor, present: Tensor) -> Tensor:
    """METHODS' formula in float64, sample by sample."""
    fused = torch.zeros(logits.shape[1:], dtype=torch.float64)
    for sample in range(logits.shape[1]):
        probabilities = logits[present[:, sample], sample].double().softmax(dim=-1)
        entropies = -(probabilities * probabilities.log()).sum(dim=-1, keepdim=True)
        weights = (entropies.max(dim=0).values - entropies).exp()
        fused[sample] = (weights * probabilities).sum(dim=0) / weights.sum(dim=0)
    return fused


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 5, 10), (3, 7, 2), (3, 4, 6, 5), (2, 3, 1)])
def test_the_formula(shape: tuple[int, ...]):
    logits, present = some(*shape)
    assert torch.allclose(entropy_fusion(logits, present).double(), one_by_one(logits, present), atol=1e-6)


def test_the_surer_one_counts_for_more():
    sure, unsure = torch.tensor([4.0, 0.0]), torch.tensor([-1.0, 0.0])
    fused = entropy_fusion(torch.stack([sure, unsure])[:, None], torch.ones(2, 1, dtype=torch.bool))
    assert fused[0, 0] > torch.stack([sure, unsure]).softmax(dim=-1).mean(dim=0)[0]


def test_one_modality_alone_is_its_softmax():
    logits, _ = some(3, 6, 5)
    for m in range(3):
        present = torch.zeros(3, 6, dtype=torch.bool)
        present[m] = True
        assert torch.allclose(entropy_fusion(logits, present), logits[m].softmax(dim=-1))


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_probabilities_whatever_the_order_of_the_modalities(seed: int, modalities: int, samples: int, classes: int):
    logits, present = some(modalities, samples, classes, seed=seed)
    fused = entropy_fusion(logits, present)
    assert torch.allclose(fused.sum(dim=-1), torch.ones(samples), atol=1e-5)
    assert (fused >= 0).all()
    assert torch.allclose(entropy_fusion(logits.flip(0), present.flip(0)), fused, atol=1e-6)
    assert torch.allclose(entropy_fusion(logits + 7, present), fused, atol=1e-5), "a constant changes no softmax"


def test_entropy_is_of_the_sample_and_not_of_the_batch():
    """Published: one scalar over the batch axis, so that a prediction depends on who shares the batch."""
    logits, present = some(2, 64, 6)
    together = entropy_fusion(logits, present)
    for sample in range(64):
        alone = entropy_fusion(logits[:, sample : sample + 1], present[:, sample : sample + 1])
        assert torch.allclose(alone[0], together[sample], rtol=1e-6, atol=0), "no more than the last bit"


def test_steps_are_each_alone():
    logits, present = some(2, 5, 7, 4)
    together = entropy_fusion(logits, present)
    for step in range(7):
        assert torch.allclose(entropy_fusion(logits[:, :, step], present), together[:, step], atol=1e-7)


@pytest.mark.parametrize("size", [200.0, 1e4, 3e38])
def test_large_logits_give_no_nan(size: float):
    """Published: a logit of 200 gives NaN, as log of a probability of 0 does."""
    logits = torch.tensor([[[size, 0.0, -size]], [[0.0, 0.1, 0.0]]])
    fused = entropy_fusion(logits, torch.ones(2, 1, dtype=torch.bool))
    assert torch.allclose(fused, one_by_one(logits.clamp(-50, 50), torch.ones(2, 1, dtype=torch.bool)).float())


@pytest.mark.parametrize("rest", [torch.nan, torch.inf, 1e30])
def test_what_is_absent_does_not_matter(rest: float):
    logits, present = some(3, 8, 4)
    assert not present.all()
    filled = logits.masked_fill(~present[..., None], rest)
    assert torch.equal(entropy_fusion(filled, present), entropy_fusion(logits, present))


def test_nan_of_a_modality_that_is_there_is_seen():
    logits, present = some(2, 3, 4)
    logits[0, 1, 2] = torch.nan
    fused = entropy_fusion(logits, present)
    assert fused[1].isnan().all()
    assert fused[[0, 2]].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types(dtype: torch.dtype):
    logits, present = some(2, 5, 4)
    fused = entropy_fusion(logits.to(dtype), present)
    assert fused.dtype is dtype
    assert torch.allclose(fused.double(), one_by_one(logits.to(dtype), present), atol=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("logits", "present", "message"),
    [
        (torch.ones(2, 3), torch.ones(2, 3).bool(), r"logits: expected floating \[M, n, ..., C\], got .* \[2, 3\]"),
        (torch.ones(2, 3, 4).int(), torch.ones(2, 3).bool(), r"logits: expected floating .*, got torch.int32"),
        (torch.ones(2, 3, 4), torch.ones(2, 3), r"present: expected bool \[M, n\] = \[2, 3\], got torch.float32"),
        (torch.ones(2, 3, 4), torch.ones(3).bool(), r"present: expected bool \[M, n\] = \[2, 3\], got .* \[3\]"),
        (torch.ones(1, 3, 4), torch.tensor([[True, False, False]]), r"present: .*, got none of samples \[1, 2\]"),
    ],
)
def test_bad_arguments(logits: Tensor, present: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        entropy_fusion(logits, present)
