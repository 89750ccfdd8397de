"""QMF's fusion of logits by their own energy: by hand, and where modalities are missing."""

import math

import pytest
import torch

from gmd.models.confidence_fusion import confidence, confidence_fusion

LOGITS = torch.tensor([[[2.0, 0.0], [1.0, -1.0]], [[-1.0, 3.0], [math.nan, math.nan]]], dtype=torch.float64)
PRESENT = torch.tensor([[True, True], [True, False]])


def test_the_confidence_by_hand():
    assert float(confidence(LOGITS[0, 0])) == pytest.approx(math.log(math.exp(2) + 1) / 10)
    assert math.isfinite(float(confidence(torch.tensor([2000.0, 0.0])))), "the published code takes exp of the logits"


def test_the_fusion_by_hand():
    first, second = (math.log(sum(math.exp(x) for x in row)) / 10 for row in ([2.0, 0.0], [-1.0, 3.0]))
    fused = confidence_fusion(LOGITS, PRESENT)
    assert fused[0].tolist() == pytest.approx([2 * first - second, 3 * second])
    assert torch.equal(fused[1], LOGITS[0, 1]), "a modality that is alone keeps its logits"


def test_the_confidence_gets_no_gradient():
    logits = LOGITS.nan_to_num(0.0).requires_grad_()
    confidence_fusion(logits, PRESENT)[0, 0].backward()
    expected = [confidence(LOGITS[0, 0]), 0.0]
    assert logits.grad[0, 0].tolist() == pytest.approx([float(value) for value in expected])


def test_bad_arguments():
    with pytest.raises(ValueError, match="present: expected a modality of each sample"):
        confidence_fusion(LOGITS, torch.zeros_like(PRESENT))
