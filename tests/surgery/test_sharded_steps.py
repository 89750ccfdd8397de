"""Steps of a sharded network, one by one: what travels, what fails and leaves everything usable, what is refused."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, fully_shard
from torch.distributed.tensor.debug import CommDebugMode

import gmd
from gmd.surgery import MeanGradient
from gmd.surgery.processes.units import Units
from helpers.several_processes import in_processes
from helpers.sharded_cases import Whole, fsdp, losses_of, mesh_of, tensor_parallel
from helpers.sharded_cases import batch as batch_of

OBJECTIVES = 3


def layers() -> tuple[nn.Module, list[nn.Module]]:
    """A network of three units and the root, each called once; and the units."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3), nn.Linear(3, 3))
    network.double()
    mesh = mesh_of((dist.get_world_size(),), ("shards",))
    units = [fully_shard(network[k], mesh=mesh) for k in (0, 2, 4)]
    fully_shard(network, mesh=mesh)
    return network, units


def batch() -> torch.Tensor:
    return torch.randn(3 + dist.get_rank(), 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def losses(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    output = network(x)
    return [(output[:, k] - (-1) ** k).square().mean() for k in range(OBJECTIVES)]


def surgeon_of(network: nn.Module, **options: Any) -> gmd.GMD:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(3)
    return gmd.GMD(optimizer, generator=generator, model=network, scope="global", **options)


def collectives(given: bool, **options: Any) -> list[dict[str, int]]:
    """How many collectives of each kind the backward pass of each of three steps makes."""
    network, _ = layers()
    surgeon = surgeon_of(network, **options)
    found = []
    for _ in range(3):
        output = network(batch())
        terms = [(output[:, k] - (-1) ** k).square().mean() for k in range(OBJECTIVES)]
        with CommDebugMode() as debug:
            surgeon.backward(terms, outputs=[output] if given else None)
        counts = debug.get_comm_counts()
        found.append({str(op): count for op, count in counts.items()})
    return found


@contextmanager
def _failing(tensor: torch.Tensor, at: int) -> Iterator[None]:
    """In a backward pass through a tensor, the one of number `at` fails."""
    passes = []

    def fail(gradient: torch.Tensor) -> None:
        passes.append(1)
        if len(passes) == at:
            raise ArithmeticError("this pass fails")

    handle = tensor.register_hook(fail)
    yield
    handle.remove()


def after_a_failure(given: bool) -> dict[str, Any]:
    """A step whose second pass fails, and then a good one; beside a good one alone."""
    found = {}
    for fails in (True, False):
        network, _ = layers()
        surgeon = surgeon_of(network)
        first = losses(network, batch())
        surgeon.backward(first)
        before = [param.grad.to_local().clone() for param in network.parameters()]
        if fails:
            output = network(batch())
            hidden = output * 1
            terms = [(hidden[:, k] - (-1) ** k).square().mean() for k in range(OBJECTIVES)]
            with _failing(hidden, at=2):
                found["message"] = message_of(surgeon.backward, terms, outputs=[output] if given else None)
            after = [param.grad.to_local() for param in network.parameters()]
            found["kept"] = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        surgeon.generator.manual_seed(5)
        surgeon.backward(losses(network, batch()))
        found[fails] = [param.grad.to_local().clone() for param in network.parameters()]
    return found


def message_of(function: Callable, *args: Any, **options: Any) -> str:
    try:
        function(*args, **options)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def other_objectives() -> str:
    """Rank 1 lacks one."""
    network, _ = layers()
    surgeon = surgeon_of(network)
    given = dict(zip("abc", losses(network, batch()), strict=True))
    if dist.get_rank() == 1:
        del given["b"]
    return message_of(surgeon.backward, given)


def other_units() -> tuple[str, list]:
    """An objective reaches the path of another modality on each rank."""
    whole = Whole()
    fsdp(whole)
    surgeon = surgeon_of(whole)
    given, counts, _ = losses_of(whole, batch_of(dist.get_rank(), 2, 0), ())
    # when all units are gathered already, and through as many calls of the trunk: so nothing waits
    given["x"] = given["a"] + given["b" if dist.get_rank() == 0 else "c"]
    counts["x"] = 1
    message = message_of(surgeon.backward, given, counts=counts)
    return message, [param.grad is None for param in whole.parameters()]


def hooked() -> str:
    network, _ = layers()
    network[0].weight.register_post_accumulate_grad_hook(lambda param: None)
    return message_of(surgeon_of(network).backward, losses(network, batch()))


def unsynced() -> str:
    network, _ = layers()
    network.set_requires_gradient_sync(False)
    return message_of(surgeon_of(network).backward, losses(network, batch()))


def ignored() -> str:
    """A parameter that no unit has."""
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3)).double()
    fully_shard(network, mesh=mesh_of((2,), ("shards",)), ignored_params={network[0].bias})
    return message_of(surgeon_of(network).backward, losses(network, batch()))


def other_network() -> str:
    network, _ = layers()
    surgeon = gmd.GMD(torch.optim.SGD(network.parameters(), lr=0.1), model=nn.Linear(2, 2), scope="global")
    return message_of(surgeon.backward, losses(network, batch()))


def loss_in_parts() -> str:
    whole = Whole()
    tensor_parallel(whole)
    weight = whole.network.trunk[1].weight
    return message_of(surgeon_of(whole).backward, [weight.square().sum()])


def with_old_torch() -> str:
    network, _ = layers()
    x = torch.ones(1, 4, dtype=torch.float64, requires_grad=True)
    network(x).sum().backward()

    def fail() -> None:
        with Units(network).usable_after_errors([]):
            raise RuntimeError("sizes differ")

    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(FSDPModule, "set_reduce_scatter_unused_params")
        return message_of(fail)


def part_of_the_mesh() -> str:
    """Two processes, of which each has a whole network of its own, cut into one piece."""
    network = nn.Linear(3, 3).double()
    fully_shard(network, mesh=mesh_of((2, 1), ("others", "shards"))["shards"])
    return message_of(surgeon_of(network).backward, [network(torch.ones(1, 3, dtype=torch.float64)).sum()])


def work(rank: int) -> dict[str, Any]:
    torch.manual_seed(rank)
    return {
        "hooks": collectives(given=False),
        "outputs": collectives(given=True),
        "now and then": collectives(given=False, every=3),
        "failure": after_a_failure(given=False),
        "failure, outputs": after_a_failure(given=True),
        "objectives": other_objectives(),
        "hooked": hooked(),
        "unsynced": unsynced(),
        "ignored": ignored(),
        "network": other_network(),
        "loss": loss_in_parts(),
        "old": with_old_torch(),
        "group": part_of_the_mesh(),
        "units": other_units(),
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of each of two processes."""
    return in_processes(2, work, tmp_path_factory.mktemp("processes"))


@pytest.mark.slow
def test_collectives_of_a_step(results):
    """Three units and the root; the first step has some more, which learn names and units."""
    own = {"c10d._allgather_base_": 3}  # of the units' parameters, but for the root's, in the first pass
    by_hooks = own | {"c10d._reduce_scatter_base_": 4 * OBJECTIVES, "c10d.allreduce_": 3, "c10d.broadcast_": 1}
    by_autograd = own | {"c10d._reduce_scatter_base_": OBJECTIVES, "c10d.allreduce_": 2, "c10d.broadcast_": 1}
    between = own | {"c10d._reduce_scatter_base_": 4, "c10d.allreduce_": 2}
    for result in results:
        assert result["hooks"][1:] == [by_hooks, by_hooks]
        assert result["outputs"][1:] == [by_autograd, by_autograd]
        assert result["now and then"][2] == between


@pytest.mark.slow
@pytest.mark.parametrize("case", ["failure", "failure, outputs"])
def test_a_pass_that_fails_leaves_gradients_and_units_as_they_were(results, case):
    for result in results:
        found = result[case]
        assert found["message"] == "ArithmeticError: this pass fails"
        assert found["kept"]
        for a, b in zip(found[True], found[False], strict=True):
            assert torch.equal(a, b)


REFUSALS = {
    "objectives": "ValueError: scope='global': expected the same on all processes, got process 0: .* losses 'a', 'b', "
    "'c'; process 1: .* losses 'a', 'c'$",
    "hooked": r"ValueError: optimizer: parameter 0, \[8, 4\], has a hook .* would run it for each objective",
    "unsynced": r"ValueError: losses: .* no gradient of parameter '0.weight', .* set_requires_gradient_sync\(True\)",
    "ignored": r"ValueError: optimizer: parameter 1, \[3\], is in no unit of fully_shard",
    "network": r"ValueError: optimizer: parameter 0, \[8, 4\], is none of model \(Linear\)",
    "loss": r"ValueError: .* losses\[0\]: expected a plain tensor, .* got a DTensor; give its full_tensor\(\)",
    "group": "ValueError: group: expected one of all processes .* got one of 2, while batches differ between 1",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_refused_is_refused_by_all(results, case):
    for result in results:
        assert re.match(REFUSALS[case], result[case]), result[case]


@pytest.mark.slow
def test_an_objective_that_reaches_a_unit_on_some_processes_only(results):
    """Its reductions may have met those of another unit: nothing of them gets into `.grad`."""
    for result in results:
        message, empty = result["units"]
        assert re.match("ValueError: losses: objective 'x' reaches unit 'network.private.[bc]' .* on some", message)
        assert all(empty)


# Refusals before any step, in this process: a group of two without communication


@pytest.fixture
def two_processes() -> Iterator[None]:
    dist.init_process_group("fake", rank=0, world_size=2)
    yield
    dist.destroy_process_group()


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.1)


@pytest.mark.usefixtures("two_processes")
def test_a_sharded_network_has_to_be_given():
    network, _ = layers()
    with pytest.raises(ValueError, match=r"model: parameter 0 of the optimizer is sharded .* model=network"):
        gmd.GMD(sgd(network), scope="global")
    MeanGradient(sgd(network), scope="global")  # one ordinary pass, which needs to know nothing


@pytest.mark.usefixtures("two_processes")
def test_a_surgery_of_own_batches_is_refused():
    network, _ = layers()
    makes = [gmd.GMD, gmd.Surgeon, MeanGradient, gmd.MMPareto, lambda optimizer: gmd.Scalarised(optimizer, "stch")]
    for make in makes:
        with pytest.raises(TypeError, match=r"parameter 0 is sharded over processes .* Use scope='global'"):
            make(sgd(network))


@pytest.mark.usefixtures("two_processes")
def test_the_first_version_of_fsdp_is_refused():
    flat = FullyShardedDataParallel(nn.Linear(3, 3), device_id=torch.device("cpu"), use_orig_params=True)
    for scope in ("local", "global"):
        with pytest.raises(TypeError, match=r"in a FullyShardedDataParallel.* Use torch.distributed.fsdp.fully_shard"):
            gmd.GMD(sgd(flat), model=flat, scope=scope)


@pytest.mark.usefixtures("two_processes")
def test_directions_of_gradients_are_refused_under_fully_shard():
    """They need a second derivative through units, and classifiers that are the same everywhere."""
    network, _ = layers()
    with pytest.raises(RuntimeError, match="CGGM: works in one process only"):
        gmd.CGGM(sgd(network), network[5], None, None, ("a", "b"), direction="gradient")


@pytest.mark.slow
def test_an_old_torch_is_named(results):
    """Where fully_shard fails, and the torch is one that has no gradients of unused parameters."""
    expected = "RuntimeError: sizes differ (if a process has no gradient of a parameter that another has one of, "
    for result in results:
        assert result["old"].startswith(f"{expected}fully_shard needs torch 2.13 or newer, this is {torch.__version__}")
