"""scope="global" step by step: what travels, what parameters may be like, overflows, and what is refused by all."""

import re
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributed.tensor.debug import CommDebugMode
from torch.nn.parallel import DistributedDataParallel

import gmd
from bench.measure.traffic import Traffic
from gmd.surgery import MeanGradient
from helpers.several_processes import in_processes

SHARES = (slice(0, 5), slice(5, 8))  # of a batch of eight, in two processes
T = 4


class Mixed(nn.Module):
    """Parameters of two types, in an odd layout, and one that nothing reaches."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(2, 6, 3).to(memory_format=torch.channels_last)
        self.middle = nn.Linear(6, 5).bfloat16()
        self.last = nn.Linear(5, 1)
        self.unused = nn.Linear(2, 2)
        self.late = nn.Parameter(torch.ones(3))

    def forward(self, x):
        features = self.first(x).tanh().mean(dim=(2, 3))
        return self.last(self.middle(features.bfloat16()).float()) * self.late.sum()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(8, 2, 6, 6, generator=generator), torch.randn(8, 1, generator=generator)


def losses_of(out: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    return [((out - (-1) ** k * (k + 1) * y) ** 2).mean() for k in range(T)]


def step_of(
    share: slice,
    scope: str,
    make: Callable = gmd.GMD,
    prepare: Callable = lambda model: None,
    factor: float = 1.0,
    **options,
) -> tuple[nn.Module, object]:
    """The network after a backward pass on a share of the batch, and the report; factor: of the second loss."""
    model = Mixed()
    prepare(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = {"generator": torch.Generator().manual_seed(3)} if make is gmd.GMD else {}
    surgeon = make(optimizer, scope=scope, **generator, **options)
    x, y = data()
    losses = losses_of(model(x[share]), y[share])
    losses[1] = losses[1] * factor
    counts = [len(y[share])] * T if scope == "global" else None
    report = surgeon.backward(losses, counts=counts)
    return model, report


def grads_of(model: nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: None if param.grad is None else param.grad.clone() for name, param in model.named_parameters()}


def freeze(model: Mixed) -> None:
    model.last.bias.requires_grad_(False)


# ---- what each process does


def hooked(rank: int) -> list[bool]:
    """Whether there was a gradient, each time when a hook after accumulation ran."""
    seen = []

    def prepare(model: nn.Module) -> None:
        for param in model.first.parameters():
            param.register_post_accumulate_grad_hook(lambda param: seen.append(param.grad is not None))

    step_of(SHARES[rank], "global", prepare=prepare)
    return seen


def accumulated_grads(rank: int) -> dict:
    """Two backward passes without zero_grad: merged gradients add up in .grad."""
    model = Mixed()
    surgeon = gmd.Surgeon(torch.optim.SGD(model.parameters(), lr=0.1), "upgrad", scope="global")
    x, y = data()
    for _ in range(2):
        surgeon.backward(losses_of(model(x[SHARES[rank]]), y[SHARES[rank]]), counts=[len(y[SHARES[rank]])] * T)
    return grads_of(model)


def under_no_sync(rank: int) -> list[torch.Tensor]:
    """.grad of each batch of two micro-batches, of which one or the other takes weights, and one both.

    Where the second one does, what the first has left is still to be averaged.
    """
    torch.manual_seed(0)
    network = DistributedDataParallel(nn.Linear(3, 2))
    surgeon = gmd.GMD(torch.optim.SGD(network.parameters(), lr=0.1), scope="global", every=3)
    found = []
    for batch in range(4):
        network.zero_grad()
        for micro in range(2):
            with network.no_sync() if micro == 0 else nullcontext():
                out = network(torch.full((2, 3), float(1 + rank + 3 * micro + batch)))
                surgeon.backward([(out[:, 0] - 1).square().mean(), (out[:, 0] + out[:, 1] + 2).square().mean()])
        found.append(torch.cat([param.grad.flatten() for param in network.parameters()]))
    return found


def overflow(rank: int) -> dict:
    """A loss of process 1 alone is infinite."""
    model = Mixed()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    surgeon = gmd.GMD(optimizer, scaler=scaler, scope="global")
    x, y = data()
    losses = losses_of(model(x[SHARES[rank]]), y[SHARES[rank]])
    if rank == 1:
        losses[2] = losses[2] * float("inf")
    report = surgeon.backward(losses)
    before = [param.detach().clone() for param in model.parameters()]
    scaler.step(optimizer)
    scaler.update()
    same = all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    return {"finite": bool(report.finite), "scale": scaler.get_scale(), "left out": same}


def own_orders(rank: int) -> torch.Tensor:
    """GMD's weights, where each process draws from torch's own generator."""
    torch.manual_seed(100 + rank)
    _, report = step_of(SHARES[rank], "global", make=lambda optimizer, scope: gmd.GMD(optimizer, scope=scope))
    return report.weights


class Plain(nn.Module):
    """1.5e5 parameters of one type, in two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(300, 400), nn.Tanh(), nn.Linear(400, 75))

    def forward(self, x):
        return self.layers(x)


def collectives(rank: int) -> dict:
    """Counts of collectives and bytes: of a step with new weights, of one between, and of DDP's own."""
    torch.manual_seed(rank)
    network = DistributedDataParallel(Plain())
    x = torch.randn(4, 300)
    surgeon = gmd.GMD(torch.optim.SGD(network.parameters(), lr=0.1), every=3, scope="global")

    def joint() -> None:
        torch.stack(losses_of(network(x), torch.zeros(4, 1))).mean().backward()

    def global_step() -> None:
        surgeon.backward(losses_of(network(x), torch.zeros(4, 1)))

    found = {}
    for call in (joint, joint, global_step):  # buckets are sorted, and names exchanged
        call()
    for name in ("ddp", "first between", "between", "new"):
        call = joint if name == "ddp" else global_step
        network.zero_grad()
        with warnings.catch_warnings(), CommDebugMode() as debug, Traffic(2) as traffic:
            warnings.simplefilter("ignore", UserWarning)  # that torch's counter follows modules by hooks
            call()
        counts = {str(key): count for key, count in debug.get_comm_counts().items()}
        found[name] = {
            "debug": counts,
            "big": dict(traffic.big),
            "small": dict(traffic.small),
            "sent": traffic.sent,
        }
    return found


def message_of(call: Callable) -> str:
    try:
        call()
    except (ValueError, TypeError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def refused(rank: int) -> dict[str, str]:
    """The message of each case, in which the processes differ or one has something wrong."""
    x, y = data()
    share = SHARES[rank]

    def backward(
        change: Callable, wrap: Callable = lambda model: model, prepare: Callable = lambda model: None, **options
    ):
        model = Mixed()
        prepare(model)
        surgeon = gmd.GMD(torch.optim.SGD(model.parameters(), lr=0.1), scope="global", **options)
        network = wrap(model)
        for _ in range(2 if "every" in options else 1):
            out = network(x[share])
            losses = dict(zip("abcd", losses_of(out, y[share]), strict=True))
            surgeon.backward(**change(losses, out))

    first = rank == 0
    static = partial(DistributedDataParallel, static_graph=True)
    cases = {
        "lengths": lambda: backward(lambda losses, _: {"losses": list(losses.values())[: 4 - rank]}),
        "kinds": lambda: backward(lambda losses, _: {"losses": losses if first else list(losses.values())}),
        "empty": lambda: backward(lambda losses, _: {"losses": losses if first else {}}),
        "no sample": lambda: backward(lambda losses, _: {"losses": losses, "counts": dict.fromkeys("abcd", 0)}),
        "a count": lambda: backward(
            lambda losses, _: {"losses": losses, "counts": dict.fromkeys("abcd", 1 if first else -1)}
        ),
        "counts": lambda: backward(lambda losses, _: {"losses": losses, "counts": {"a": 1} if rank else None}),
        "parameters": lambda: backward(
            lambda losses, _: {"losses": losses}, prepare=(lambda model: None) if first else freeze
        ),
        "detached": lambda: backward(
            lambda losses, _: {"losses": {**losses, "b": losses["b"] if first else losses["b"].detach()}}
        ),
        "outputs": lambda: backward(lambda losses, out: {"losses": losses, "outputs": [out] if first else None}),
        "apart": lambda: backward(lambda losses, out: {"losses": losses, "outputs": {"m": out if first else out * 1}}),
        "tol": lambda: backward(lambda losses, out: {"losses": losses, "outputs": [out]}, tol=0.1 if first else 0.2),
        "static": lambda: backward(lambda losses, _: {"losses": losses}, wrap=static),
        "objectives": lambda: backward(lambda losses, _: {"losses": {(rank, k): losses["a"] for k in range(40)}}),
        "alone": lambda: backward(lambda losses, _: {"losses": list(losses.values())}, every=4),
        "mean alone": lambda: mean_alone(x[share], y[share]),
    }
    return {name: message_of(call) for name, call in cases.items()}


def mean_alone(x: torch.Tensor, y: torch.Tensor) -> None:
    model = Mixed()
    surgeon = MeanGradient(torch.optim.SGD(model.parameters(), lr=0.1), scope="global")
    surgeon.backward(losses_of(model(x), y))


def after_an_error(rank: int) -> dict:
    """Parts of a batch, of which the second is refused; then another batch in parts."""
    model = Mixed()
    surgeon = gmd.Surgeon(torch.optim.SGD(model.parameters(), lr=0.1), "upgrad", scope="global")
    x, y = data()
    share = SHARES[rank]
    surgeon.accumulate(losses_of(model(100 * x[share]), y[share]))
    message = message_of(lambda: surgeon.accumulate(losses_of(model(x[share]), y[share])[: 4 - rank]))
    surgeon.accumulate(losses_of(model(100 * x[share]), y[share]))
    surgeon.discard()
    surgeon.backward(losses_of(model(x[share]), y[share]), counts=[len(y[share])] * T)
    return {"message": message, "grads": grads_of(model)}


def work(rank: int) -> dict:
    found: dict = {}
    for name, options in {"mixed": {}, "frozen": {"prepare": freeze}}.items():
        model, report = step_of(SHARES[rank], "global", **options)
        found[name] = {"grads": grads_of(model), "gram": report.gram, "weights": report.weights}
    return found | {
        "strides": [param.grad.stride() for param in step_of(SHARES[rank], "global")[0].first.parameters()],
        "hooked": hooked(rank),
        "accumulated": accumulated_grads(rank),
        "under no_sync": under_no_sync(rank),
        "overflow": overflow(rank),
        "nan": bool(step_of(SHARES[rank], "global", factor=float("nan") if rank else 1.0)[1].finite),
        "orders": own_orders(rank),
        "collectives": collectives(rank),
        "refused": refused(rank),
        "after an error": after_an_error(rank),
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return in_processes(2, work, tmp_path_factory.mktemp("two"))


# ---- parameters of any kind


@pytest.mark.parametrize("name", ["mixed", "frozen"])
def test_parameters_of_two_types_are_as_in_one_process(found, name):
    """bfloat16 gradients are rounded before they are added up, float32 ones too."""
    options = {"prepare": freeze} if name == "frozen" else {}
    model, report = step_of(slice(0, 8), "local", **options)
    for got in found:
        torch.testing.assert_close(got[name]["gram"], report.gram, rtol=2e-2, atol=1e-3)
        for key, grad in grads_of(model).items():
            mine = got[name]["grads"][key]
            assert (mine is None) == (grad is None)
            if grad is not None:
                tolerance = 3e-2 if grad.dtype == torch.bfloat16 else 1e-2
                assert (mine.float() - grad.float()).norm() <= tolerance * grad.float().norm() + 1e-6
    for a, b in zip(found[0][name]["grads"].values(), found[1][name]["grads"].values(), strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


def test_gradients_lie_as_their_parameters_do(found):
    assert found[0]["strides"] == [param.stride() for param in Mixed().first.parameters()]


def test_hooks_after_accumulation_run_once_in_each_process(found):
    assert all(got["hooked"] == [True, True] for got in found)


def test_merged_gradients_add_up(found):
    model = Mixed()
    surgeon = gmd.Surgeon(torch.optim.SGD(model.parameters(), lr=0.1), "upgrad")
    x, y = data()
    surgeon.backward(losses_of(model(x), y))
    for name, grad in grads_of(model).items():
        got = found[1]["accumulated"][name]
        assert (got is None) == (grad is None)
        if grad is not None:
            torch.testing.assert_close(got.float(), 2 * grad.float(), rtol=3e-2, atol=1e-2)


def test_micro_batches_under_no_sync_leave_the_same_in_all_processes(found):
    for ours, theirs in zip(*(got["under no_sync"] for got in found), strict=True):
        torch.testing.assert_close(ours, theirs)
        assert ours.norm() > 0


# ---- overflows and orders


def test_an_overflow_in_one_process_is_skipped_by_all(found):
    assert all(got["overflow"] == {"finite": False, "scale": 4.0, "left out": True} for got in found)


def test_a_loss_that_is_not_a_number_shows_in_all(found):
    assert [got["nan"] for got in found] == [False, False]


def test_all_use_the_order_of_the_first(found):
    assert torch.equal(found[0]["orders"], found[1]["orders"])


# ---- what travels


N = sum(param.numel() for param in Plain().parameters())


def test_a_step_with_new_weights_is_a_scatter_for_each_objective_and_one_gather(found):
    for got in found:
        new = got["collectives"]["new"]
        assert new["big"] == {"alltoall": T, "allgather": 1}, "gloo's scatter is an all-to-all and a sum"
        assert sum(new["small"].values()) <= 3
        expected = (T + 1) * 4 * N * (2 - 1) / 2
        assert abs(new["sent"] / expected - 1) < 0.05
        assert sum(new["debug"].values()) == T + 1 + sum(new["small"].values()), "torch's own counter sees the same"


def test_a_step_between_is_that_of_the_wrapper(found):
    """After the first, at which there is one look at whether gradients were averaged."""
    for got in found:
        counted = got["collectives"]
        assert counted["between"] == counted["ddp"]
        assert sum(counted["first between"]["small"].values()) == sum(counted["ddp"]["small"].values()) + 1


# ---- refusals


REFUSED = {
    "lengths": r"expected the same on all processes, got process 0: a list of 4 losses.*process 1: a list of 3 losses",
    "kinds": r"process 0: losses by name.*process 1: a list of 4 losses",
    "empty": r"cannot take part.*process 1: ValueError: losses: expected at least one objective.*with a count of 0",
    "no sample": r"counts: expected a sample of at least one objective on some process, got none",
    "a count": r"cannot take part.*process 1: ValueError: counts\['a'\]: expected a finite number, at least 0, got -1",
    "counts": r"cannot take part.*process 1: ValueError: counts: expected one for each of 'a', 'b', 'c', 'd', got",
    "parameters": r"process 0: .*9 parameters of .*process 1: .*8 parameters of",
    "detached": r"cannot take part.*process 1: ValueError: losses\['b'\] does not require grad",
    "outputs": r"process 0: .*a list of 1 outputs.*process 1: .*no outputs",
    "apart": r"process 1: ValueError: outputs\[0\]: no loss was computed from it",
    "tol": r"process 0: .*tol 0.1.*process 1: .*tol 0.2",
    "static": r"static_graph=True",
    "objectives": r"expected at most 64 objectives, got 80 in all",
    "alone": r"RuntimeError: .*\.grad differs between processes.*DistributedDataParallel",
    "mean alone": r"RuntimeError: .*\.grad differs between processes.*DistributedDataParallel",
}


@pytest.mark.parametrize("case", REFUSED)
def test_all_processes_refuse_what_one_cannot_work_with(found, case):
    for got in found:
        assert got["refused"].keys() == REFUSED.keys()
        assert re.search(REFUSED[case], got["refused"][case]), got["refused"][case]


def test_an_error_leaves_no_part_of_a_batch(found):
    model = Mixed()
    x, y = data()
    gmd.Surgeon(torch.optim.SGD(model.parameters(), lr=0.1), "upgrad").backward(losses_of(model(x), y))
    for got in found:
        assert "a list of 3 losses" in got["after an error"]["message"]
        for name, grad in grads_of(model).items():
            mine = got["after an error"]["grads"][name]
            assert (mine is None) == (grad is None)
            if grad is not None:
                torch.testing.assert_close(mine.float(), grad.float(), rtol=3e-2, atol=1e-2)
