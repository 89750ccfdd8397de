"""owm_update_ on a GPU: values, what is not finite, no waiting, graphs; and the same on the CPU."""

import pytest
import torch
from test_gpu_streams import captured, no_waiting

import gmd_kernels as gk
from gmd.surgery import MLA
from helpers.gpu_cases import KERNELS, ON_CPU, REFERENCE, home, on_each
from helpers.owm_cases import SIZES, TYPES, Case, errors, make_case

TRITON = KERNELS[1]
place = on_each(ON_CPU, TRITON, REFERENCE)
gpu = on_each(TRITON)


def there(case: Case, place) -> Case:
    return Case(*place.put(list(case[:3])), case.alpha)


def update(case: Case, place) -> Case:
    found = there(case, place)
    with no_waiting(place):
        gk.owm_update_(*found)
    return Case(*home(list(found[:3])), case.alpha)


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("classes", [10, 101])
def test_values(place, classes: int, d: int, types: str):
    case = make_case(d, classes, types)
    found = update(case, place)
    assert max(errors(case, found)) <= 1
    assert torch.equal(found.projector, found.projector.T)
    again = update(case, place)
    assert torch.equal(again.projector, found.projector)
    assert torch.equal(again.weight_grad, found.weight_grad)


@pytest.mark.parametrize("which", ["projector", "weight_grad", "mean_input"])
def test_a_bad_step_leaves_the_projector_and_shows_in_the_gradient(place, which: str):
    case = make_case(129)
    getattr(case, which)[(7,) * getattr(case, which).ndim] = torch.inf
    found = update(case, place)
    assert torch.equal(found.projector, case.projector)
    assert found.weight_grad.isnan().all()


def test_many_updates(place):
    """Symmetric, and closed where it has met."""
    case = there(make_case(64, alpha=1.0), place)
    inputs = torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    for h in place.put(inputs):
        gk.owm_update_(*case[:2], h, case.alpha)
    projector = home(case.projector)
    assert torch.equal(projector, projector.T)
    assert torch.linalg.eigvalsh(projector.double())[0] > -1e-6
    left = ((inputs @ projector) * inputs).sum(dim=1)
    assert (left <= 1).all()


def test_a_captured_graph(gpu):
    case = there(make_case(65), gpu)
    expected = there(make_case(65), gpu)
    graph, _ = captured(lambda: gk.owm_update_(*case))
    for tensor, fresh in zip(case[:3], make_case(65)[:3], strict=True):
        tensor.copy_(fresh)
    graph.replay()
    gk.owm_update_(*expected)
    assert torch.equal(case.projector, expected.projector)
    assert torch.equal(case.weight_grad, expected.weight_grad)


def test_a_turn_of_mla_does_not_wait(place):
    head = torch.nn.Linear(32, 5).to(place.device)
    rows = torch.randn(6, 32, device=place.device, requires_grad=True)
    mla = MLA(torch.optim.SGD(head.parameters(), lr=0.1), head)
    with no_waiting(place):
        report = mla.backward([head(rows).square().mean()], outputs={"a": rows})
    assert report.finite
    assert not torch.equal(home(mla.projector), torch.eye(32))
