"""A process on each core, on one thread each, that does one run after the other."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait

import torch

from bench.evidence.once import Order, fulfil
from gmd import threads

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
LEAVE = 20.0  # seconds that a process has to end by itself
DIED = "its process died: killed for memory, perhaps"


class Workers:
    """Processes that stay, as libraries take longer to import than a small network to train."""

    def __init__(self, number: int | None = None) -> None:
        """number: of processes; None: one for each core that this process may use."""
        self.number = threads.machine().cpus if number is None else number
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    @property
    def in_work(self) -> list[Order]:
        """The orders that are being done."""
        return [worker.order for worker in self._busy if worker.order is not None]

    @property
    def free(self) -> int:
        """How many more orders can be begun now."""
        return self.number - len(self._busy)

    def begin(self, order: Order) -> None:
        """Has an order done by a process that is free."""
        while self._idle and not self._idle[-1].is_alive:
            self._idle.pop().end()
        worker = self._idle.pop() if self._idle else _Worker()
        worker.give(order)
        self._busy.append(worker)

    def ended(self, seconds: float) -> Iterator[tuple[Order, str | None]]:
        """Waits for orders to end, at most so long, and yields those: None as done, or why one failed."""
        ready = wait([worker.connection for worker in self._busy], max(0.0, seconds))
        for worker in [worker for worker in self._busy if worker.connection in ready]:
            assert worker.order is not None
            self._busy.remove(worker)
            try:
                failure = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                worker.end()
                yield worker.order, DIED
                continue
            self._idle.append(worker)
            yield worker.order, failure

    def end(self) -> None:
        """Ends all processes, whatever they do."""
        for worker in self._idle:
            worker.leave()
        for worker in self._busy:
            worker.end()
        self._idle, self._busy = [], []


class _Worker:
    """One process, and what it does now."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.order: Order | None = None
        self._process = context.Process(target=_work, args=(theirs,))
        with _environment(ONE_THREAD):  # which libraries read when they are loaded
            self._process.start()
        theirs.close()

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def give(self, order: Order) -> None:
        self.order = order
        self.connection.send(order)

    def leave(self) -> None:
        """Ends a process that waits: one that is killed leaves semaphores, of which Python warns."""
        self.connection.close()
        self._process.join(LEAVE)
        self.end()

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _work(connection: Connection) -> None:
    """Does what is sent, until nobody is there who sends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which the process that sends gets too
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            order = connection.recv()
        except EOFError:
            return
        connection.send(fulfil(order))


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, be it killed: nobody would wait for its run."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets variables of the environment for what is started in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
