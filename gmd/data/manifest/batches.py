"""Batches of samples whose files are read when they are needed, by worker processes if asked."""

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gmd.data.manifest.inputs import Input, Preparation
from gmd.data.manifest.load import Batch, Replaced, load_batch
from gmd.data.pairs import Pairs, nothing
from gmd.data.sequences.samples import Sample
from gmd.data.shares import ALL, Share
from gmd.errors import UserError
from gmd.printing import say

_Order = tuple[int, list[int]]  # the epoch, and the numbers of a batch's samples


class ManifestBatches:
    """The batches of an epoch, which have every sample once; the last batch may be smaller.

    Set `epoch` before each: in training the order depends on (seed, epoch) alone, otherwise it is that of the samples;
    and `start` to leave out the first batches. What is random of a sample depends on (seed, epoch, its number) alone.
    So the batches are the same for any number of workers, and after a start in the middle. `len` is the number of
    batches of a whole epoch.

    Args:
        samples: of a manifest, at least one.
        modalities: their names, in canonical order; others are ignored.
        inputs: of each modality.
        preparation: of the files.
        batch: samples in a batch, at least 1.
        seed: of the order of the samples and of their augmentation.
        workers: processes that read files while others compute; they live as long as this object. 0: none.
        training: whether the order, frames and, if `preparation` says so, parts of pictures and sound are random.
        share: of each batch, the part that is wanted; it may be empty, and there are no pairs then.

    Iterating gives the pairs and targets that `load_batch` returns. Raises UserError for files that cannot be decoded,
    with the lines of their rows, and if a worker is killed; ValueError for a batch below 1, no samples, or a sample
    without any of the modalities.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        modalities: Sequence[str],
        inputs: Mapping[str, Input],
        preparation: Preparation,
        batch: int,
        seed: int,
        workers: int,
        training: bool,
        share: Share = ALL,
    ):
        if batch < 1 or not samples:
            raise ValueError(f"expected a batch of at least 1 and a sample, got {batch} and {len(samples)} samples")
        for sample in samples:
            if not any(m in sample.values for m in modalities):
                raise ValueError(f"sample {sample.name} has none of {', '.join(modalities)}")
        self.epoch, self.start = 0, 0
        self._orders = _Orders(len(samples), batch, seed if training else None, share)
        files = _Files(samples, tuple(modalities), inputs, preparation, seed if training else None)
        self._replaced = Replaced()
        self._loader = DataLoader(
            files,
            batch_size=None,
            sampler=self._orders,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_signals_to_the_parent,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # or iterating would draw from torch's own
        )

    def __len__(self) -> int:
        return len(self._orders)

    def __iter__(self) -> Iterator[tuple[Pairs, Tensor]]:
        self._orders.epoch, self._orders.start = self.epoch, self.start
        with _told_if_killed():
            with _own_handler(), _told_if_not_started():
                epoch = iter(self._loader)
            for loaded in epoch:
                if isinstance(loaded, str):
                    raise UserError(loaded)
                pairs, targets, replaced = loaded
                _tell_replaced(replaced, self._replaced)
                yield pairs, targets


def collate_cells(
    samples: Sequence[Sample], modalities: Sequence[str], inputs: Mapping[str, Input], preparation: Preparation
) -> tuple[Pairs, Tensor]:
    """Loads samples, and makes them a batch of the pairs that exist, without anything random, as `load_batch`."""
    with one_thread():
        pairs, targets, _ = load_batch(samples, modalities, inputs, preparation)
    return pairs, targets


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch compute on one thread, as it does in workers: on several it would round otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Files(Dataset):
    """Batches by the numbers of their samples. What cannot be read is handed over as a text: a worker's error would
    lose its message."""

    def __init__(
        self,
        samples: Sequence[Sample],
        modalities: Sequence[str],
        inputs: Mapping[str, Input],
        preparation: Preparation,
        seed: int | None,
    ):
        self._samples, self._seed = samples, seed
        self._how = modalities, dict(inputs), preparation

    def __getitem__(self, order: _Order) -> Batch | str:
        epoch, members = order
        if not members:
            return *nothing(), Replaced()
        random = None if self._seed is None else [(self._seed, epoch, member) for member in members]
        try:
            with one_thread():
                pairs, targets, replaced = load_batch([self._samples[i] for i in members], *self._how, random)
                return replace(pairs, numbers=members), targets, replaced
        except UserError as error:
            return str(error)


class _Orders:
    """What the loader asks for in an epoch: the epoch and the numbers of each batch's samples, from `start` on.

    It knows nothing of who sets `epoch` and `start`: in a circle of objects, Python would not end the workers in time.

    count: of samples; seed: of their order, None: it is their own; share: the part of each batch
    """

    def __init__(self, count: int, batch: int, seed: int | None, share: Share):
        self._count, self._batch, self._seed, self._share = count, batch, seed, share
        self.epoch, self.start = 0, 0

    def __iter__(self) -> Iterator[_Order]:
        order: np.ndarray = np.arange(self._count)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, self.epoch]).permutation(self._count)
        for first in range(self.start * self._batch, self._count, self._batch):
            yield self.epoch, self._share.of(order[first : first + self._batch].tolist())

    def __len__(self) -> int:
        return -(-self._count // self._batch)


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _leave_signals_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent ends its workers


def _tell_replaced(new: Replaced, told: Replaced) -> None:
    """Says, once of each modality, that values are replaced by 0. told: gets what is told of"""
    for modality, count in new.items():
        if count and not told[modality]:
            say(f"{modality}: values that are NaN, infinite or beyond 1e18 are replaced by 0, {count} in this batch")
        told[modality] += count


@contextmanager
def _own_handler() -> Iterator[None]:
    """Keeps torch from handling the end of its workers: it would raise wherever the process is at that moment.

    Without it the end of a worker is noticed where a batch is waited for, within some seconds.
    """
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)


@contextmanager
def _told_if_not_started() -> Iterator[None]:
    """Makes the error of a worker that cannot be forked, as for want of memory, one that a user can mend."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--workers: a process that reads files cannot be started ({error.strerror}); give --workers 0, with which "
            "files are read in between, or free memory"
        ) from error


@contextmanager
def _told_if_killed() -> Iterator[None]:
    """Makes torch's error for a worker that has died one that a user can mend."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a worker that reads files has ended ({str(error).splitlines()[0]}), perhaps for want of memory; give "
            "fewer --workers, or a smaller --batch"
        ) from error
