"""The gradients of earlier passes are kept elsewhere than where their pass has put them, and nothing else changes."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import gmd
from gmd.surgery._kept import ALIGNMENT, LARGE, KeptRows
from gmd.surgery._passes import gradients_of
from helpers.places import with_tests_on_path


def tensors():
    torch.manual_seed(0)
    channels_last = torch.randn(3, 4, 2, 5, 6).to(memory_format=torch.channels_last_3d)
    return {
        "vector": torch.randn(7),
        "scalar": torch.randn(()),
        "channels last": channels_last,
        "transposed": torch.randn(5, 3).t(),
        "bfloat16": torch.randn(9, 3).bfloat16(),
        "float64": torch.randn(2, 3, dtype=torch.float64),
        "empty": torch.randn(0, 3),
        "one column": torch.randn(4, 1),
    }


@pytest.mark.parametrize("kind", tensors())
def test_a_copy_has_the_values_strides_and_alignment_of_its_gradient(kind):
    gradient = tensors()[kind]
    kept = KeptRows(2, [torch.zeros(3), gradient])
    for value in (1, 2):
        _, copy = kept.keep([torch.ones(3), gradient * value])
        assert torch.equal(copy, gradient * value)
        assert copy.dtype == gradient.dtype
        assert copy.stride() == gradient.stride()
        assert copy.data_ptr() % ALIGNMENT == 0
        assert copy.data_ptr() != gradient.data_ptr() or not gradient.numel()


def test_rows_do_not_lie_on_each_other():
    params = list(tensors().values())
    kept = KeptRows(3, params)
    rows = [kept.keep([param * k for param in params]) for k in range(3)]
    for k, row in enumerate(rows):
        assert all(torch.equal(copy, param * k) for copy, param in zip(row, params, strict=True))


def test_a_gradient_that_is_none_stays_none_and_takes_no_room():
    kept = KeptRows(1, [torch.zeros(3), torch.zeros(3)])
    assert kept.keep([None, torch.ones(3)])[0] is None
    assert torch.equal(kept.keep([torch.ones(3), None])[0], torch.ones(3))


class Weight(torch.Tensor):
    """A subclass, as wrappers of torch are."""


@pytest.mark.parametrize(
    "gradient",
    [
        torch.ones(()).expand(3, 4),
        torch.ones(3, 8)[:, ::2],
        torch.ones(3, 4).to_sparse(),
        torch.ones(3, 4, device="meta"),
        torch.ones(3, 4).as_subclass(Weight),
    ],
    ids=["expanded", "with gaps", "sparse", "another device", "subclass"],
)
def test_what_is_unusual_stays_as_it_came(gradient):
    assert KeptRows(1, [torch.zeros(3, 4)]).keep([gradient])[0] is gradient


def test_a_large_gradient_is_not_copied_and_gets_no_room():
    large = torch.empty(LARGE // 4)
    kept = KeptRows(1000, [large, torch.zeros(3)])
    assert kept.keep([large, None])[0] is large
    assert kept._room.nbytes == 1000 * ALIGNMENT


class Tied(nn.Module):
    """Two parameters with one gradient tensor, a frozen one, one in channels last, and one that few losses reach."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.one, self.two = (nn.Parameter(torch.zeros(4)) for _ in range(2))
        self.private = nn.Parameter(torch.ones(4))
        self.head = nn.Linear(4, 3)
        self.head.bias.requires_grad_(False)

    def outputs(self):
        x = torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        a, b = (self.conv(v).mean(dim=(2, 3)) + (self.one + self.two) for v in x)
        return [a, b * self.private]

    def losses(self, outputs):
        a, b = outputs
        return [self.head(a).square().mean(), -self.head(b).mean(), (self.head(a + b) - 1).square().mean()]


@pytest.mark.parametrize("with_outputs", [False, True])
@pytest.mark.parametrize("tol", [0.0, 0.3])
def test_the_step_is_the_same_to_the_bit(monkeypatch, with_outputs, tol):
    def step():
        model = Tied()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        outputs = model.outputs()
        surgeon = gmd.GMD(optimizer, tol=tol, generator=torch.Generator().manual_seed(3))
        report = surgeon.backward(model.losses(outputs), outputs=outputs if with_outputs else None)
        return [p.grad for p in model.parameters()], report.gram

    moved, moved_gram = step()
    monkeypatch.setattr(KeptRows, "keep", lambda self, row: list(row))
    as_they_come, gram = step()
    assert torch.equal(moved_gram, gram)
    for ours, theirs in zip(moved, as_they_come, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert torch.equal(ours, theirs)
            assert ours.stride() == theirs.stride()


def test_no_gradient_of_a_parameter_lies_in_the_common_block():
    """torch.save writes a view with all of its storage, and the block would live as long as any `.grad`."""
    model = Tied()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    gmd.GMD(optimizer).backward(model.losses(model.outputs()))
    for param in model.parameters():
        assert param.grad is None or param.grad.untyped_storage().nbytes() == param.grad.nbytes


def test_all_rows_but_the_last_are_moved():
    weight = nn.Parameter(torch.ones(5))
    rows = gradients_of([weight.sum() * 2, weight.square().sum(), weight.prod()], [weight])
    sizes = [row[0].untyped_storage().nbytes() for row in rows]
    assert sizes[0] < sizes[1], "the first is expanded from one element, and stays"
    assert sizes[1] == 2 * ALIGNMENT
    assert sizes[2] == weight.nbytes


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units, and malloc another one")
def test_many_passes_do_not_fragment_the_heap():
    """Two steps of SegResNet with 15 losses, whose gradients are 71 MB: 1500 MB with all of them left where they came.

    900 MB with them moved; what remains is the 15 forward passes' own.
    """
    command = [sys.executable, "-m", "helpers.measure_passes", "24"]
    run = subprocess.run(command, env=with_tests_on_path(), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 1100
