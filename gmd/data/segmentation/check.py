"""Reads every case once before anything is done with them, and says of all at once which cannot be used."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import torch
from tqdm import tqdm

from gmd.data.segmentation.case import Case
from gmd.data.segmentation.checked_files import Checksums, forget_old, recall, remember, state_of
from gmd.data.segmentation.nifti import voxel_checksum
from gmd.data.segmentation.volumes import memory_of, prepare_case, read_files
from gmd.errors import UserError
from gmd.memory_limit import most_bytes

MOST_AT_ONCE = 8  # cases that are read at the same time; each takes half a GB where it is as large as BraTS's
SHOWN = 10  # bad cases that an error tells of

_one_large_case = threading.Lock()


class Checked(NamedTuple):
    """What was found of some cases.

    Attributes:
        checksums: those that are good: name -> the checksums of their files.
        bad: those that cannot be used: name -> why, for people.
    """

    checksums: dict[str, Checksums]
    bad: dict[str, str]


def check_cases(cases: Sequence[Case], read: Callable[[Sequence[Case]], Checked] | None = None) -> dict[str, Checksums]:
    """Reads every case as training and evaluation do, and returns the checksums of their files, by the cases' names.

    cases: with labels and what these mean
    read: what reads them in the place of `read_cases`
    Raises UserError if a case cannot be used; it gives the number of those, and the reasons of the first ten.
    """
    checked = (read or read_cases)(cases)
    if bad := checked.bad:
        shown = {name: reason.split("\n") for name, reason in list(bad.items())[:SHOWN]}
        reasons = [f"  {name}: {first}" for name, (first, *_) in shown.items()]
        # what explains the first line may be long, and the same for all
        explained = dict.fromkeys(line for _, *rest in shown.values() for line in rest)
        more = [f"  and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
        advice = "Mend or remove them. Nothing was trained or changed; --no-check would begin without this check"
        raise UserError(f"{len(bad)} of {len(cases)} cases cannot be used:", [*reasons, *explained, *more, advice])
    return checked.checksums


def read_cases(cases: Sequence[Case]) -> Checked:
    """Reads every case, several at once but for those whose files are as they were when they were read before.

    No case stays in memory. A bar on stderr shows how far it is, if there is anything to read.
    """
    found = {case.name: recall(case) for case in cases}
    checksums = {name: sums for name, sums in found.items() if sums is not None}
    unread = [case for case in cases if case.name not in checksums]
    bad = {}
    for case, result in _read_all(unread):
        if isinstance(result, UserError):
            bad[case.name] = str(result)
        else:
            checksums[case.name] = result
    return Checked(checksums, bad)


def _read_all(cases: Sequence[Case]) -> Iterator[tuple[Case, Checksums | UserError]]:
    """Reads some cases, behind a bar, and yields each with the result of `_read`."""
    if not cases:
        return
    forget_old()
    # numpy and zlib let go of Python's lock, and each case is one thread's: no more threads than torch may have
    pool = ThreadPoolExecutor(min(torch.get_num_threads(), MOST_AT_ONCE))
    desc = f"checking {len(cases)} case{'s' * (len(cases) > 1)}"
    try:
        results = tqdm(pool.map(_read, cases), desc=desc, total=len(cases), unit="case", leave=False)
        yield from zip(cases, results, strict=True)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C those that have begun are waited for, and no others


def _read(case: Case) -> Checksums | UserError:
    """Reads one case, and returns the checksums of its files, or what is wrong with it."""
    state = state_of(case)
    try:
        with _turn(memory_of(case)):
            volumes = read_files(case)
            prepare_case(case, volumes)
            checksums = {key: voxel_checksum(volume) for key, volume in volumes.items()}
            del volumes  # before the next large one
    except UserError as error:
        return error
    except MemoryError as error:
        return UserError(f"{error or 'no memory is left to read it'}; free some, or take the case out")
    remember(state, checksums)
    return checksums


@contextmanager
def _turn(claimed: int) -> Iterator[None]:
    """Waits until a case may be read: large ones one after the other, the small ones between them as they come.

    claimed: bytes that it takes. All that are small, at the same time, take no more than a single file may.
    """
    if claimed <= most_bytes() / MOST_AT_ONCE:
        yield
    else:
        with _one_large_case:
            yield
