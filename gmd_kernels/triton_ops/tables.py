"""Tables of numbers on the device: sent there without waiting, and only when they are not there yet.

A table is never written again once it is there. The cache keeps tables of each stream apart, since it is the stream's
order that puts an upload before its uses, and the reuse of the memory behind them.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from gmd_kernels.uploads import upload

MOST = 64  # entries, a few KB each

_T = TypeVar("_T")

_cache: OrderedDict[Hashable, object] = OrderedDict()
_captured: list[Tensor] = []  # what CUDA graphs read at every replay: for good, as nothing tells when a graph is gone


def cached(device: torch.device, key: Hashable, make: Callable[[], _T]) -> _T:
    """Returns what `make` returned for the same key on the current stream, or returns now."""
    if _is_capturing(device):
        return make()
    place = (*_place(device), key)
    # under a key there is only what the same `make` returned
    return _remember(place, cast("_T", _cache[place]) if place in _cache else make())


def pointer_table(device: torch.device, name: str, pointers: list[int]) -> Tensor:
    """Returns [len(pointers)] int64, the table of the last call of this name if the pointers are still the same."""
    if _is_capturing(device):
        return send(device, pointers)
    place = (*_place(device), name)
    entry = _cache.get(place)
    if isinstance(entry, _PointerTable) and entry.pointers == pointers:
        return _remember(place, entry).table
    return _remember(place, _PointerTable(pointers, send(device, pointers))).table


def send(device: torch.device, numbers: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
    """Returns the numbers on the device, int64, of the shape that the lists have."""
    table = upload(torch.tensor(numbers, dtype=torch.int64, device="cpu"), device)
    if _is_capturing(device):
        _captured.append(table)
    return table


class _PointerTable(NamedTuple):
    pointers: list[int]
    table: Tensor


def _remember(place: Hashable, entry: _T) -> _T:
    """Makes the entry the newest of the cache, and returns it; the oldest may go."""
    _cache.pop(place, None)
    _cache[place] = entry
    if len(_cache) > MOST:
        _cache.popitem(last=False)
    return entry


def _place(device: torch.device) -> tuple[torch.device, int]:
    return device, 0 if device.type == "cpu" else torch.cuda.current_stream(device).cuda_stream


def _is_capturing(device: torch.device) -> bool:
    return device.type != "cpu" and torch.cuda.is_current_stream_capturing()
