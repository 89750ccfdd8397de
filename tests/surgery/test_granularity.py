"""GMD per model, per module and per tensor."""

import pytest
import torch
from torch import nn

import gmd
import gmd_kernels as gk
from helpers.oracle import flat, merge, project


class Branches(nn.Module):
    """A trunk that every objective reaches and heads of their own; the trunk's modules are nested."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Sequential(nn.Linear(8, 5), nn.LayerNorm(5)))
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(3))

    def losses(self, x):
        h = self.trunk(x)
        return [(head(h) - target).square().mean() for head, target in zip(self.heads, (1.0, -1.0, 0.3), strict=True)]


@pytest.fixture
def setting():
    torch.manual_seed(0)
    model = Branches()
    return model, torch.randn(16, 6, generator=torch.Generator().manual_seed(1))


MODULES = {
    "model": [0] * 12,
    "module": [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5],
    "tensor": list(range(12)),
}


@pytest.mark.parametrize("granularity", MODULES)
def test_each_group_is_operated_on_by_itself(setting, granularity):
    """Against the paper's procedure on the gradients of one group at a time, in float64."""
    model, x = setting
    params = list(model.parameters())
    grads = [torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True) for loss in model.losses(x)]
    optimizer = torch.optim.SGD(params, lr=0.1)
    groups = MODULES[granularity]
    count = max(groups) + 1
    surgeon = gmd.GMD(optimizer, generator=torch.Generator().manual_seed(5), granularity=granularity, model=model)
    report = surgeon.backward(model.losses(x))
    orders = gk.projection_order(3, torch.Generator().manual_seed(5), num_groups=None if count == 1 else count)
    orders = orders[None] if count == 1 else orders
    for group in range(count):
        mine = [p for p, g in enumerate(groups) if g == group]
        part = [[row[p] for p in mine] for row in grads]
        expected = merge(part, project(flat(part), orders[group]), "mean")
        for p, value in zip(mine, expected, strict=True):
            assert torch.allclose(params[p].grad.double(), value, rtol=1e-5, atol=1e-7)
    jacobian = flat(grads)
    assert torch.allclose(report.gram, jacobian @ jacobian.T, rtol=1e-5, atol=1e-7)
    assert report.grams.shape == ((3, 3) if count == 1 else (count, 3, 3))
    assert bool(report.finite)


def test_conflicts_are_counted_where_they_are(setting):
    """Two halves that cancel out: no conflict in the model, one in a tensor."""
    a, b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    by = {g: gmd.GMD(torch.optim.SGD([a, b], lr=1), granularity=g) for g in ("model", "tensor")}
    reports = {}
    for name, surgeon in by.items():
        a.grad = b.grad = None
        losses = [(2 * a).sum() + b.sum(), (2 * a).sum() - b.sum()]
        reports[name] = surgeon.backward(losses)
    assert float(reports["model"].conflicts) == 0.0
    assert float(reports["tensor"].conflicts) == 0.5
    assert torch.equal(b.grad, torch.zeros(3)), "opposite gradients of a tensor cancel"


def test_an_optimizer_made_from_named_parameters_knows_its_modules(setting):
    model, x = setting
    if "param_names" not in torch.optim.SGD(model.named_parameters(), lr=0.1).param_groups[0]:
        pytest.skip("this torch's optimizers keep no names")
    gradients = []
    for arguments in ({"model": model}, {}):
        optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
        optimizer.zero_grad()
        surgeon = gmd.GMD(optimizer, generator=torch.Generator().manual_seed(0), granularity="module", **arguments)
        surgeon.backward(model.losses(x))
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_parameters_that_are_frozen_later_leave_the_groups_right(setting):
    model, x = setting
    surgeon = gmd.GMD(torch.optim.SGD(model.parameters(), lr=0.1), granularity="module", model=model)
    model.trunk[0].weight.requires_grad_(False)
    report = surgeon.backward(model.losses(x))
    assert report.grams.shape == (6, 3, 3)
    assert model.trunk[0].weight.grad is None


def test_bad_arguments(setting):
    model, _ = setting
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="granularity: expected 'model', 'module' or 'tensor', got 'layer'"):
        gmd.GMD(optimizer, granularity="layer")
    with pytest.raises(ValueError, match=r"granularity='module': which modules .* give model=, or make the optimizer"):
        gmd.GMD(optimizer, granularity="module")
    with pytest.raises(
        ValueError, match=r"parameter 0 of the optimizer, \[8, 6\], belongs to no module of model \(Line"
    ):
        gmd.GMD(optimizer, granularity="module", model=nn.Linear(2, 2))


def test_modules_that_came_later_are_known(setting):
    model, x = setting
    optimizer = torch.optim.SGD(model.trunk.parameters(), lr=0.1)
    surgeon = gmd.GMD(optimizer, granularity="module", model=model)
    optimizer.add_param_group({"params": model.heads.parameters()})
    assert surgeon.backward(model.losses(x)).grams.shape == (6, 3, 3)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    with pytest.raises(ValueError, match=r"parameter 12 of the optimizer, \[2\], belongs to no module of model"):
        surgeon.backward(model.losses(x))


def test_too_many_losses_are_refused_before_the_passes():
    w = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match="losses: expected at most 64 objectives, got 65"):
        gmd.GMD(torch.optim.SGD([w], lr=1)).backward([w * 1.0 for _ in range(65)])
    assert w.grad is None
