"""gmd.GMD in several processes: DistributedDataParallel averages what it merges, and what cannot work is refused."""

from collections.abc import Iterator
from contextlib import nullcontext
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


def losses_without(outputs: dict, target: torch.Tensor, unused: str) -> list[torch.Tensor]:
    """Two that conflict, of all outputs but one."""
    value = sum(output for name, output in outputs.items() if name != unused)
    return [(value - target).square().mean(), (value + target).square().mean()]


UNUSED = {  # how DistributedDataParallel is made, what is in no loss of rank 0 and of rank 1, whether outputs are given
    "the same everywhere": ({}, "cc", False),
    "the same, views": ({"gradient_as_bucket_view": True}, "cc", False),
    "outputs": ({}, "cc", True),
    "another in each": ({}, "ab", False),
    "another in each, views, outputs": ({"gradient_as_bucket_view": True}, "ab", True),
}


def several_steps(backward: str, case: str, no_sync: bool = False) -> list[list[torch.Tensor | None]]:
    """.grad on this rank after each of three steps in which a modality is computed that no loss uses.

    backward: "plain", Tensor.backward of the first loss; "one", surgery on it alone; "two", surgery on both.
    """
    options, unused, given = UNUSED[case]
    model = Multimodal()
    network = DistributedDataParallel(model, find_unused_parameters=True, **options)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    surgeon = surgeon_of(optimizer)
    x, target = DATA[dist.get_rank()]
    mine = unused[dist.get_rank()]
    found = []
    for _ in range(3):
        optimizer.zero_grad()
        for last in (False, True) if no_sync else (True,):
            with nullcontext() if last else network.no_sync():
                outputs = network(x)
                losses = losses_without(outputs, target, mine if last else "a")
                if backward == "plain":
                    losses[0].backward()
                else:
                    used = {name: output for name, output in outputs.items() if name != (mine if last else "a")}
                    kept = losses[:1] if backward == "one" else losses
                    surgeon.generator.manual_seed(4)
                    surgeon.backward(kept, outputs=used if given else None)
        found.append([None if grad is None else grad.clone() for grad in grads_of(model)])
    return found


def part_of_the_parameters(find_unused_parameters: bool) -> list[torch.Tensor | None]:
    """Two steps of an optimizer that has the shared parameters only."""
    model = Multimodal()
    network = DistributedDataParallel(model, find_unused_parameters=find_unused_parameters)
    optimizer = torch.optim.SGD(model.shared.parameters(), lr=0.1)
    x, target = DATA[dist.get_rank()]
    for _ in range(2):
        optimizer.zero_grad()
        surgeon_of(optimizer).backward(losses_of(network(x), target))
    return [param.grad for param in model.shared.parameters()]


def hooked_after_accumulation() -> list[float]:
    """Whether there was a gradient, each time when a hook on a shared parameter ran."""
    model = Multimodal()
    network = DistributedDataParallel(model)
    seen = []
    for param in model.shared.parameters():
        param.register_post_accumulate_grad_hook(lambda param: seen.append(param.grad is not None))
    x, target = DATA[dist.get_rank()]
    surgeon_of(torch.optim.SGD(network.parameters(), lr=0.1)).backward(losses_of(network(x), target))
    return seen


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


def now_and_then(given: bool) -> list[dict]:
    """Four steps, of which each takes weights at every third; rank 1 lacks an objective in the second and the third.

    What this rank would have by itself comes from autograd alone, with the weights that the surgeon says it has.
    """
    model = Multimodal()
    network = DistributedDataParallel(model, find_unused_parameters=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    surgeon = surgeon_of(optimizer, every=3)
    x, target = DATA[dist.get_rank()]
    params, found = list(model.parameters()), []
    for step in range(4):
        optimizer.zero_grad()
        outputs = network(x)
        losses = dict(enumerate(losses_of(outputs, target)))
        if dist.get_rank() == 1 and step in (1, 2):
            del losses[4]
        rows = [torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True) for loss in losses.values()]
        report = surgeon.backward(losses, outputs if given else None)
        alone = []
        for column in zip(*rows, strict=True):
            factor = 1 if all(g is not None for g in column) else len(losses)
            products = [w * g for w, g in zip(report.weights.float(), column, strict=True) if g is not None]
            alone.append(factor * sum(products))
        found.append({"refreshed": report.refreshed, "alone": alone, "grads": [g.clone() for g in grads_of(model)]})
        optimizer.step()
    return found


METHODS = {
    "mmpareto": gmd.MMPareto,
    "stch": lambda optimizer: gmd.Scalarised(optimizer, "stch"),
    "gls": lambda optimizer: gmd.Scalarised(optimizer, "gls"),
}


def by_method(name: str, rank: int, alone: bool) -> list[torch.Tensor | None]:
    """.grad on this rank, of the loss of all modalities and one of each: averaged, or as if it were alone."""
    model = Multimodal()
    network = model if alone else DistributedDataParallel(model)
    x, target = DATA[rank]
    outputs = network(x)
    losses = [(sum(outputs.values()) - target).square().mean()]
    losses += [(output + target).square().mean() for output in outputs.values()]
    METHODS[name](torch.optim.SGD(network.parameters(), lr=0.1)).backward(losses)
    return grads_of(model)


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
        "unused": {
            case: {way: several_steps(way, case) for way in ("plain", "one", "two")}
            | {f"{way}, no_sync": several_steps(way, case, no_sync=True) for way in ("plain", "one")}
            for case in UNUSED
        },
        "part": [part_of_the_parameters(find) for find in (True, False)],
        "now and then": {given: now_and_then(given) for given in (False, True)},
        "methods": {name: by_method(name, rank, alone=False) for name in METHODS},
        "hooked": hooked_after_accumulation(),
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


@pytest.mark.parametrize("given", [False, True], ids=["losses alone", "with outputs"])
def test_steps_between_are_averaged_too_and_each_process_takes_weights_when_it_has_to(results, given):
    of_rank = [result["now and then"][given] for result in results]
    assert [[step["refreshed"] for step in steps] for steps in of_rank] == [
        [True, False, False, True],
        [True, True, False, True],
    ]
    for steps in zip(*of_rank, strict=True):
        expected = [sum(of_one) / len(RANKS) for of_one in zip(*(step["alone"] for step in steps), strict=True)]
        for step in steps:
            for got, value in zip(step["grads"], expected, strict=True):
                torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_other_methods_are_averaged_too(results, name):
    alone = [by_method(name, rank, alone=True) for rank in RANKS]
    expected = [sum(of_one) / len(RANKS) for of_one in zip(*alone, strict=True)]
    for rank in RANKS:
        assert all(
            torch.allclose(a, b, atol=1e-6) for a, b in zip(results[rank]["methods"][name], expected, strict=True)
        )


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


def assert_close_or_none(got, expected) -> None:
    for a, b in zip(got, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("case", UNUSED)
def test_an_output_that_no_loss_uses(results, case):
    """Step after step it is as with Tensor.backward, with None where no process has a gradient."""
    of_rank = [result["unused"][case] for result in results]
    for first, second in zip(*(ways["two"] for ways in of_rank), strict=True):
        assert_equal(first, second)
    for ways in of_rank:
        for suffix in ("", ", no_sync"):
            for got, expected in zip(ways["one" + suffix], ways["plain" + suffix], strict=True):
                assert_close_or_none(got, expected)
    unused = UNUSED[case][1]
    nowhere = [name.startswith(f"private.{unused[0]}") for name, _ in Multimodal().named_parameters()]
    if unused[0] == unused[1]:
        assert [grad is None for grad in of_rank[0]["two"][0]] == nowhere
    else:
        assert not any(grad is None for grad in of_rank[0]["two"][0])


def test_what_is_averaged_then_is_what_each_process_has_merged(results):
    """Zero where a process has no gradient and another one has."""
    expected = []
    for rank, unused in enumerate("ab"):
        model = Multimodal()
        x, target = DATA[rank]
        surgeon = surgeon_of(torch.optim.SGD(model.parameters(), lr=0.1))
        surgeon.backward(losses_without(model(x), target, unused))
        expected.append([torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()])
    mean = [(a + b) / 2 for a, b in zip(*expected, strict=True)]
    for grads in results[0]["unused"]["another in each"]["two"]:
        assert_close_or_none(grads, mean)


def test_an_optimizer_of_a_part_of_the_parameters(results):
    for found in zip(*(result["part"] for result in results), strict=True):
        assert_equal(*found)


def test_hooks_after_accumulation_run_once_in_each_process(results):
    count = len(list(Multimodal().shared.parameters()))
    assert all(result["hooked"] == [True] * count for result in results)


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
        ("rule 'famo'", lambda optimizer: gmd.Scalarised(optimizer, "famo")),
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
