"""Tensors that torch.save wrote (`.pt`), made arrays: plain values and tensors only, and nothing that is executed."""

import os
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from gmd.errors import UserError, shown
from gmd.files import open_regular
from gmd.memory_limit import check_claim

_MOST_ENTRIES = 10**6  # tensors and values in all
_DEEPEST = 8  # dictionaries and lists in one another


def read_tensors(path: Path) -> Any:
    """Reads a file of torch.save: dictionaries, lists and tuples of tensors, numbers and text; tensors become arrays.

    Raises UserError for a file that is damaged or compressed, that holds code or objects, tensors that are no plain
    numbers, that stand for more numbers than they hold, or more than `gmd.memory_limit` allows.
    """
    with open_regular(path) as file:
        _check_archive(path, file)
        file.seek(0)
        content = _loaded(path, file)
    entries = 0
    for entries, value in enumerate(_values(path, content, 0)):
        if entries >= _MOST_ENTRIES:
            raise UserError(f"{path}: holds more than {_MOST_ENTRIES} values; stack tensors to one for each modality")
        if isinstance(value, Tensor):
            _check_tensor(path, value)
    return _as_arrays(content)


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Raises UserError unless the archive is as torch.save writes it, before torch looks at it."""
    size = os.fstat(file.fileno()).st_size
    check_claim(path, size, "its tensors")
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError) as error:
        raise _damaged(path, error) from error
    if any("/code/" in entry.filename for entry in entries):
        raise UserError(f"{path}: holds code, a program of TorchScript; refused, and nothing was executed")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > size:
        raise UserError(f"{path}: its entries are compressed or overlap, which those of torch.save never do; refused")


def _loaded(path: Path, file: BinaryIO) -> Any:
    """Lets torch read plain values and tensors. Raises UserError for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose words tell how to execute it
        raise UserError(
            f"{path}: holds code, or objects that only code can make; refused, and nothing was executed: save tensors, "
            "numbers and text only"
        ) from error
    except Exception as error:  # a crafted file makes torch's reader raise anything
        raise _damaged(path, error) from error


def _values(path: Path, content: Any, depth: int) -> Iterator[Any]:
    """Yields all values in dictionaries, lists and tuples. Raises UserError if these lie too deep in one another."""
    if not isinstance(content, dict | list | tuple):
        yield content
        return
    if depth == _DEEPEST:
        raise UserError(f"{path}: holds lists in lists, more than {_DEEPEST} deep; expected tensors by name")
    yield None  # a list counts, too
    for value in content.values() if isinstance(content, dict) else content:
        yield from _values(path, value, depth + 1)


def _check_tensor(path: Path, tensor: Tensor) -> None:
    """Raises UserError for a tensor that is no array of plain numbers, each of which the file holds."""
    what = f"{path}: a tensor of {tensor.dtype} {list(tensor.shape) if not tensor.is_nested else 'nested'}"
    plain = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_nested or tensor.is_quantized)
    if not plain or tensor.is_complex() or tensor.device.type != "cpu":
        raise UserError(f"{what} is no array of plain numbers; save it as one, tensor.dense and float")
    # strides of 0 make any number of entries of a single one
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(f"{what} stands for more numbers than the file holds; save tensor.contiguous()")


def _as_arrays(content: Any) -> Any:
    """Returns the same values with arrays for tensors. bfloat16, which numpy does not have, becomes float32."""
    if isinstance(content, Tensor):
        plain = content.detach().resolve_neg()
        return (plain.float() if plain.dtype.is_floating_point and plain.dtype != torch.float64 else plain).numpy()
    if isinstance(content, dict):
        return {key: _as_arrays(value) for key, value in content.items()}
    return [_as_arrays(value) for value in content] if isinstance(content, list | tuple) else content


def _damaged(path: Path, error: BaseException) -> UserError:
    return UserError(
        f"{path}: cannot be read as tensors ({type(error).__name__}: {shown(error, 100)}); it may be cut off or "
        "damaged: copy or download it anew"
    )
