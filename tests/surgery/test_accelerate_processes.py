"""gmd in two processes of Accelerate, whose model is a DistributedDataParallel and whose optimizer is a wrapper."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from helpers import two_processes
from helpers.multimodal_cases import Multimodal, assert_equal, batches, losses_of, surgeon_of
from helpers.two_processes import CASES, Case, check_case, data_of, model_of, optimizer_of, parameters_of

pytest.importorskip("accelerate")

pytestmark = pytest.mark.slow


def train(case: Case) -> list[Tensor]:
    """The parameters after Accelerate's loop, with the surgeon in the place of `accelerator.backward`."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    unused = DistributedDataParallelKwargs(find_unused_parameters=case.lacking)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=case.accumulated, kwargs_handlers=[unused])
    assert accelerator.num_processes == 2
    model = model_of()
    network, optimizer = accelerator.prepare(model, optimizer_of(model))
    surgeon = case.make(optimizer)
    for x, target in data_of(accelerator.process_index, case.lacking):
        with accelerator.accumulate(network):
            case.backward(surgeon, network(x), target, accelerator.sync_gradients)
            optimizer.step()
            optimizer.zero_grad()
    return parameters_of(model)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return two_processes.run_pair(train, tmp_path_factory.mktemp("accelerate"))


@pytest.mark.parametrize("name", CASES)
def test_the_parameters_are_those_of_a_plain_loop(results, name):
    check_case(results, name)


@pytest.fixture
def accelerate_alone() -> Iterator[None]:
    """What it keeps for the process is gone afterwards."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("accelerate_alone")
def test_its_optimizer_steps_through_the_scaler_that_the_surgeon_was_given():
    """An overflow in the first steps is skipped; scales and bits are those of a plain loop."""
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    Accelerator(cpu=True)
    found = []
    for wrapped in (False, True):
        model = Multimodal()
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**17)  # float16 overflows
        inner = torch.optim.SGD(model.parameters(), lr=0.01)
        optimizer = AcceleratedOptimizer(inner, scaler=scaler) if wrapped else inner
        surgeon, scales = surgeon_of(optimizer, scaler=scaler), []
        for x, target in batches(4):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                losses = losses_of(model(x), target)
            surgeon.backward(losses)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if wrapped:
                optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()
            scales.append(scaler.get_scale())
        found.append((scales, parameters_of(model)))
    (scales, expected), (got_scales, got) = found
    assert scales[0] < 2.0**17, "no overflow: this test would show nothing"
    assert scales[-1] == scales[-2], "nothing but overflows: this test would show nothing"
    assert got_scales == scales
    assert_equal(got, expected)
