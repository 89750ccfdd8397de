"""Several processes at one command: what they wait for each other for, and agree on, by torch.distributed.

A process by itself waits for nobody, and all of this does nothing then. What is gathered are small things, on the CPU;
gradients are none of them. An error that one process has, or an interruption, is raised in all, so that none waits for
ever; the first process tells it. A process that waits in vain says who it is, and what it waited for.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn, TypeVar

import torch
import torch.distributed as dist

from gmd.errors import UserError
from gmd.printing import tell
from gmd.torchrun import Started, started

TIMEOUT = timedelta(minutes=30)  # the longest that a process waits for the others, as torch has it for gloo
# of gloo's RuntimeErrors, and of `gmd.surgery.processes`; those of NCCL have a class
_SAYINGS = ("gloo", "Connection closed by peer", "Connection reset by peer", "Timed out", "another did not come")

Item = TypeVar("Item")
Result = TypeVar("Result")
Apart = Callable[[Sequence[Any], Callable[[Any], Any]], list[Any]]  # `in_turn`, or `shared_out` with its last arguments


class Lost(UserError):
    """Another process has ended, or hangs, while this one waited for it."""


class _Outcome(NamedTuple):
    """What came of some work in one process: the text of an error, an interruption, or neither, with a result."""

    error: str | None = None
    interrupted: bool = False
    result: Any = None


def processes() -> int:
    """Returns how many processes are joined; 1 for one by itself."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Returns the number of this process among those that are joined, from 0 on."""
    return dist.get_rank() if processes() > 1 else 0


def is_first() -> bool:
    """Returns whether this process is the one that writes and tells."""
    return rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Joins the processes that torchrun has started, until the block ends, unless the program has joined them itself.

    They talk by gloo, about tensors on GPUs by NCCL, each process with the GPU of its number on the machine. Processes
    but the first print nothing from then on but errors of their own.
    Raises UserError if the others do not come.
    """
    here = started()
    own = here.processes > 1 and not dist.is_initialized()
    if own:
        _join(here)
    if processes() > 1:
        tell(text=is_first(), errors=True)
    with warnings.catch_warnings():
        if not is_first():
            warnings.simplefilter("ignore")
        try:
            yield
        except Lost:  # nobody is there to take leave of
            raise
        except BaseException:
            _leave(own)
            raise
    _leave(own)


def _join(here: Started) -> None:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() and dist.is_nccl_available() else 0
    if here.local_rank < gpus:
        torch.cuda.set_device(here.local_rank)
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
        if here.processes == here.local_processes:
            # torchrun keeps its store over restarts, with the addresses of processes that are gone (pytorch#135712);
            # on several machines the counts of restarts differ
            store = dist.PrefixStore(f"restart {here.restarts}", store)
        group = {"store": store, "rank": here.rank, "world_size": here.processes, "timeout": TIMEOUT}
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", **group)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"process {here.rank} of {here.processes} cannot join the others that torchrun has started: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _leave(own: bool) -> None:
    if own and dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def waited_for(what: str) -> Iterator[None]:
    """Raises Lost, which names this process and what it waited for, if the others do not answer in the block.

    what: in words that stand behind "at"
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if processes() == 1 or not (isinstance(error, dist.DistError) or any(saying in text for saying in _SAYINGS)):
            raise
        raise Lost(
            f"process {rank()} of {processes()} waited for the others at {what}, and one of them has ended or hangs "
            f"({text.splitlines()[0]})"
        ) from error


def gathered(value: Any, what: str) -> list[Any]:
    """Returns the values of all processes, in their order. what: it is for, as in `waited_for`"""
    if processes() == 1:
        return [value]
    found = [None] * processes()
    with waited_for(what):
        dist.all_gather_object(found, value)
    return found


def summed(numbers: Sequence[int], what: str) -> list[int]:
    """Returns the sums over the processes of some numbers, of which all have equally many, in one small all-reduce.

    what: it is for, as in `waited_for`
    """
    if processes() == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.int64, device="cpu")
    with waited_for(what):
        dist.all_reduce(total)
    return total.tolist()


def agreed(work: Callable[[], Result], what: str) -> Result:
    """Does some work in every process, and returns what came of it in this one.

    An error that the user can mend, or an interruption, of any process is raised in all of them.

    what: the work, as in `waited_for`
    """
    if processes() == 1:
        return work()
    outcome, error = _outcome(work)
    _raise_any(gathered(outcome._replace(result=None), what), error)
    return outcome.result


def by_first(work: Callable[[], Result], what: str) -> Result | None:
    """Does some work in the first process alone, as `agreed`. Returns what came of it, and None in the others."""
    return agreed(work if is_first() else _nothing, what)


def _nothing() -> None:
    pass


def _outcome(work: Callable[[], Any]) -> tuple[_Outcome, UserError | None]:
    """Does some work, and returns what came of it, and the error if it was one."""
    try:
        return _Outcome(result=work()), None
    except KeyboardInterrupt:
        return _Outcome(interrupted=True), None
    except Lost:
        raise
    except UserError as error:
        return _Outcome(error=str(error)), error


def _raise_any(outcomes: list[_Outcome], own: UserError | None) -> None:
    """Raises what one of the processes has raised, if one has. own: the error of this one"""
    if errors := [outcome.error for outcome in outcomes if outcome.error is not None]:
        first, *more = errors[0].split("\n")
        error = own or UserError(first, more)
        error.told_elsewhere = not is_first()
        raise error
    if any(outcome.interrupted for outcome in outcomes):
        raise KeyboardInterrupt


def refuse(error: UserError, what: str) -> NoReturn:
    """Raises an error that every process has, which the first one then tells. what: as in `waited_for`"""

    def fail() -> None:
        raise error

    agreed(fail, what)
    raise error


def in_turn(items: Sequence[Item], work: Callable[[Item], Result]) -> list[Result]:
    """Returns what comes of some work on each item, in this process alone."""
    return [work(item) for item in items]


def shared_out(
    items: Sequence[Item], work: Callable[[Item], Result], what: str, stop: Callable[[], bool] = lambda: False
) -> list[Result]:
    """Returns what comes of some work on each item, in their order: each process does every so manyth of them.

    what: the work, as in `waited_for`
    stop: whether to interrupt it, as asked before each item and behind the last, where there are several processes
    """
    if processes() == 1:
        return in_turn(items, work)

    def stopped_or_not() -> None:
        if stop():
            raise KeyboardInterrupt

    def unless_stopped(item: Item) -> Result:
        stopped_or_not()
        return work(item)

    def ours() -> list[Result]:
        found = in_turn(items[rank() :: processes()], unless_stopped)
        stopped_or_not()
        return found

    outcome, error = _outcome(ours)
    outcomes = gathered(outcome, what)
    _raise_any(outcomes, error)
    return [outcomes[number % len(outcomes)].result[number // len(outcomes)] for number in range(len(items))]
