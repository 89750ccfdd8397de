"""Fixed weights of the modalities' decisions: by hand, and where modalities are missing."""

import math

import pytest
import torch

from gmd.models.weighted_fusion import weighted_fusion

LOGITS = torch.tensor([[[2.0, 0.0], [1.0, -1.0]], [[-1.0, 1.0], [math.nan, math.nan]]], dtype=torch.float64)
PRESENT = torch.tensor([[True, True], [True, False]])
WEIGHTS = torch.tensor([0.55, 0.45], dtype=torch.float64)


def test_by_hand():
    fused = weighted_fusion(LOGITS, PRESENT, WEIGHTS)
    first = torch.tensor([0.55 * 2 - 0.45, 0.45], dtype=torch.float64).softmax(0)
    torch.testing.assert_close(fused[0], first)
    torch.testing.assert_close(fused[1], LOGITS[0, 1].softmax(0), msg="a modality that is alone has all the weight")


def test_only_the_ratios_of_the_weights_count():
    torch.testing.assert_close(weighted_fusion(LOGITS, PRESENT, 7 * WEIGHTS), weighted_fusion(LOGITS, PRESENT, WEIGHTS))


def test_scores_are_averaged():
    fused = weighted_fusion(LOGITS[..., :1], PRESENT, WEIGHTS)
    assert fused.flatten().tolist() == pytest.approx([0.55 * 2 - 0.45, 1.0])


def test_steps_are_fused_each_by_itself():
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    fused = weighted_fusion(logits, torch.ones(2, 3, dtype=torch.bool), WEIGHTS.float())
    expected = weighted_fusion(logits[:, 1:2, 2], torch.ones(2, 1, dtype=torch.bool), WEIGHTS.float())
    torch.testing.assert_close(fused[1, 2], expected[0])


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"weights: expected \[M\] = \[2\], got \[3\]"):
        weighted_fusion(LOGITS, PRESENT, torch.ones(3))
    with pytest.raises(ValueError, match=r"present: expected a modality of each sample"):
        weighted_fusion(LOGITS, torch.zeros_like(PRESENT), WEIGHTS)
