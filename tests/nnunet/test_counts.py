"""Voxels right and wrong, beside a count voxel by voxel."""

import pytest
import torch

from gmd.nnunet.counts import voxel_counts

IGNORED = 3


def counted(predicted: list[bool], true: list[bool]) -> list[int]:
    pairs = list(zip(predicted, true, strict=True))
    return [pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True))]


@pytest.mark.parametrize("ignored", [None, IGNORED])
@pytest.mark.parametrize("sizes", [(3, 5, 2), (7, 4)], ids=["3d", "2d"])
def test_of_labels(sizes, ignored):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, *sizes)
    target = torch.randint(0, 3 + (ignored is not None), (2, 1, *sizes)).float()
    counts = voxel_counts(logits, target, regions=False, ignore_label=ignored)
    labels, predicted = target.flatten().tolist(), logits.argmax(1).flatten().tolist()
    for label in (1, 2):
        kept = [(p == label, t == label) for p, t in zip(predicted, labels, strict=True) if t != ignored]
        expected = counted(*(list(column) for column in zip(*kept, strict=True)))
        assert counts[:, label - 1].tolist() == expected


@pytest.mark.parametrize("ignored", [None, IGNORED])
def test_of_regions(ignored):
    torch.manual_seed(0)
    logits = torch.randn(2, 2, 3, 5, 2)
    target = torch.rand(2, 2 + (ignored is not None), 3, 5, 2) > 0.5
    counts = voxel_counts(logits, target, regions=True, ignore_label=ignored)
    skipped = target[:, 2].flatten().tolist() if ignored else [False] * logits[:, 0].numel()
    for region in (0, 1):
        voxels = zip(logits[:, region].flatten().tolist(), target[:, region].flatten().tolist(), skipped, strict=True)
        kept = [(logit > 0, true) for logit, true, skip in voxels if not skip]
        expected = counted(*(list(column) for column in zip(*kept, strict=True)))
        assert counts[:, region].tolist() == expected
