"""gmd.GMD in several processes: DistributedDataParallel averages what it merges, and what cannot work is refused."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gmd
from helpers.multimodal_cases import (
    NAMES,
    Multimodal,
    assert_equal,
    batches,
    grads_of,
    losses_of,
    merged_of,
    surgeon_of,
)

DATA = batches(2)  # one batch for each process
RANKS = range(2)


def averaged(given: bool, **options) -> list[torch.Tensor | None]:
    """.grad on this rank, of DistributedDataParallel with options."""
    model = Multimodal()
    network = DistributedDataParallel(model, **options)
    x, target = DATA[dist.get_rank()]
    outputs = network(x)
    surgeon = surgeon_of(torch.optim.SGD(network.parameters(), lr=0.1))
    surgeon.backward(losses_of(outputs, target), outputs=outputs if given else None)
    return grads_of(model)


def lacking_a_modality() -> list[torch.Tensor | None]:
    """Rank 1 has no modality c."""
    model = Multimodal()
    network = DistributedDataParallel(model, find_unused_parameters=True)
    x, target = DATA[dist.get_rank()]
    outputs = network({name: x[name] for name in NAMES[: 3 - dist.get_rank()]})
    losses = [(output - target).square().mean() for output in outputs.values()]
    surgeon_of(torch.optim.SGD(network.parameters(), lr=0.1), reduction="sum").backward(losses)
    return grads_of(model)


def accumulated() -> list[torch.Tensor | None]:
    """Of two passes, the first without communication."""
    model = Multimodal()
    network = DistributedDataParallel(model)
    x, target = DATA[dist.get_rank()]
    surgeon = surgeon_of(torch.optim.SGD(network.parameters(), lr=0.1))
    with network.no_sync():
        surgeon.backward(losses_of(network(x), target))
    surgeon.generator.manual_seed(4)
    surgeon.backward(losses_of(network(x), target))
    return grads_of(model)


def step_with_a_scaler(overflow: bool) -> tuple[float, list[torch.Tensor]]:
    """The scale, and the parameters, after a step in which a gradient of rank 1 is infinite, or none."""
    model = Multimodal()
    network = DistributedDataParallel(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x, target = DATA[dist.get_rank()]
    losses = losses_of(network(x), target)
    losses[3] = losses[3] * (torch.inf if overflow and dist.get_rank() == 1 else 1.0)
    surgeon_of(optimizer, scaler=scaler).backward(losses)
    scaler.step(optimizer)
    scaler.update()
    return scaler.get_scale(), [param.detach() for param in model.parameters()]


def message_of(function, *args, **options) -> str:
    try:
        function(*args, **options)
    except ValueError as error:
        return str(error)
    return "no error"


def work(rank: int, folder: Path) -> dict:
    """What this rank finds, together with the other one."""
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=len(RANKS), timeout=timedelta(minutes=2))
    found = {
        "losses": averaged(given=False),
        "outputs": averaged(given=True),
        "outputs, unused": averaged(given=True, find_unused_parameters=True),
        "lacking": lacking_a_modality(),
        "accumulated": accumulated(),
        "scaler": step_with_a_scaler(overflow=False),
        "overflow": step_with_a_scaler(overflow=True),
        "static": message_of(averaged, given=False, static_graph=True),
    }
    dist.destroy_process_group()
    return found


def other_process(index: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.save(work(1, folder), folder / "1.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Of each rank."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        other = torch.multiprocessing.spawn(other_process, (folder,), nprocs=1, join=False)
        ours = work(0, folder)
        while not other.join():
            pass
    return [ours, torch.load(folder / "1.pt")]


def mean_over_ranks(given: bool = False) -> list[torch.Tensor]:
    ours = [merged_of(Multimodal(), DATA[rank], given) for rank in RANKS]
    return [sum(of_one) / len(RANKS) for of_one in zip(*ours, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["losses", "outputs", "outputs, unused"])
def test_distributed_data_parallel_averages_the_merged_gradients(results, way):
    expected = mean_over_ranks(given=way != "losses")
    alone = merged_of(Multimodal(), DATA[0])
    assert not any(torch.allclose(a, b) for a, b in zip(expected, alone, strict=True)), "this test would show nothing"
    assert_equal(results[0][way], results[1][way])
    for got, value in zip(results[0][way], expected, strict=True):
        torch.testing.assert_close(got, value, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_a_modality_that_one_process_lacks(results):
    """Its private layer gets the average over all processes, zero where it is not there, as with Tensor.backward."""
    assert_equal(results[0]["lacking"], results[1]["lacking"])
    x, target = DATA[0]
    model = Multimodal()
    losses = [(output - target).square().mean() for output in model(x).values()]
    surgeon_of(torch.optim.SGD(model.parameters(), lr=0.1), reduction="sum").backward(losses)
    names = [name for name, _ in model.named_parameters()]
    of_c = names.index("private.c.weight")
    torch.testing.assert_close(results[0]["lacking"][of_c], model.private["c"].weight.grad / 2, rtol=1e-5, atol=1e-7)


def test_passes_accumulate_before_the_processes_average(results):
    assert_equal(results[0]["accumulated"], results[1]["accumulated"])
    for got, value in zip(results[0]["accumulated"], mean_over_ranks(), strict=True):
        torch.testing.assert_close(got, 2 * value, rtol=1e-5, atol=1e-7)


def test_an_overflow_in_one_process_is_skipped_by_all(results):
    start = [param.detach() for param in Multimodal().parameters()]
    for result in results:
        scale, params = result["scaler"]
        assert scale == 8.0
        for param, value, grad in zip(params, start, mean_over_ranks(), strict=True):
            torch.testing.assert_close(param, value - 0.1 * grad, rtol=1e-5, atol=1e-7)
        scale, params = result["overflow"]
        assert scale == 4.0
        assert_equal(params, start)


def test_a_static_graph_is_refused(results):
    """It would leave the gradients as they are, each process its own."""
    assert all("static_graph=True, which would not average gradients" in result["static"] for result in results)


# Refusals, in this process: a group of two without communication


@pytest.fixture
def two_processes() -> Iterator[None]:
    dist.init_process_group("fake", rank=0, world_size=2)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("two_processes")
def test_sharded_parameters_are_refused():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    sharded = fully_shard(Multimodal(), mesh=init_device_mesh("cpu", (2,)))
    flat = FullyShardedDataParallel(Multimodal(), device_id=torch.device("cpu"), use_orig_params=True)
    for network in (sharded, flat):
        with pytest.raises(TypeError, match=r"parameter 0 is sharded over processes .*DistributedDataParallel works"):
            gmd.GMD(torch.optim.SGD(network.parameters(), lr=0.1))


@pytest.mark.usefixtures("two_processes")
def test_a_hook_on_a_parameter_is_refused_among_processes():
    """It would see each objective's gradient, and then the merged one: twice as much as in a single process."""
    model = Multimodal()
    model.shared[1].bias.register_hook(lambda gradient: 2 * gradient)
    with pytest.raises(ValueError, match=r"parameter 7, \[6\], has a hook, which would run twice"):
        merged_of(model, DATA[0])
    assert all(grad is None for grad in grads_of(model))


@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("MLA", lambda optimizer: gmd.MLA(optimizer, nn.Linear(6, 2))),
        ("OGM-GE", lambda optimizer: gmd.OGMGE(optimizer, 0.1, score=None)),
        ("CGGM", lambda optimizer: gmd.CGGM(optimizer, nn.Linear(6, 2), None, None, NAMES)),
    ],
)
def test_what_would_drift_apart_is_refused_among_processes(name, make):
    with pytest.raises(RuntimeError, match=f"{name}: works in one process only"):
        make(torch.optim.SGD(Multimodal().parameters(), lr=0.1))


def test_a_hook_on_a_parameter_sees_each_objective_in_one_process():
    plain, hooked = Multimodal(), Multimodal()
    hooked.shared[1].bias.register_hook(lambda gradient: 0 * gradient)
    merged_of(plain, DATA[0])
    merged_of(hooked, DATA[0])
    assert plain.shared[1].bias.grad.any()
    assert not hooked.shared[1].bias.grad.any()
