"""gmd in two processes of Accelerate, whose model is a DistributedDataParallel and whose optimizer is a wrapper."""

import pytest
from torch import Tensor

from helpers import two_processes
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
            case.backward(surgeon, network(x), target)
            optimizer.step()
            optimizer.zero_grad()
    return parameters_of(model)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return two_processes.run_pair(train, tmp_path_factory.mktemp("accelerate"))


@pytest.mark.parametrize("name", CASES)
def test_the_parameters_are_those_of_a_plain_loop(results, name):
    check_case(results, name)
