"""Writes checkpoints so that a file is either whole or absent, and reads them back after looking at their checksums."""

import io
import json
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from safetensors.torch import save
from torch import Tensor, nn

from gmd import __version__
from gmd.config import TrainConfig
from gmd.data.file_kind import kind_of, other_kind
from gmd.data.text_files import brief
from gmd.errors import UserError, shown
from gmd.files import open_regular, replacing
from gmd.memory_limit import check_claim
from gmd.training.made_by import check_made_by

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FORMAT = 2  # of the state; files without a number are of format 1, which lacks the steps of an unfinished epoch
# what zipfile raises for single flipped bits: a name that is no text, a size that is too large, an entry that needs
# a password, and more
_OF_DAMAGE = (OSError, EOFError, RuntimeError, ValueError, LookupError, zipfile.BadZipFile, zlib.error, struct.error)


def save_checkpoint(path: Path, state: dict) -> None:
    """Writes `state` so that a kill, a crash or a full disk leaves the previous file or the new one, whole.

    state: tensors and plain values in dictionaries, lists and tuples, which is what a weights-only `torch.load` takes.
    Raises UserError if it cannot be written; what was at `path` before is still there then.
    """
    with _written_whole(path) as unfinished, _Watched(open(unfinished, "wb", buffering=0)) as file:
        try:
            torch.save({"format": FORMAT, "version": __version__} | state, file)
        except RuntimeError as error:  # torch's zip writer makes one of whatever happens in `write`
            if file.error is None:
                raise
            raise file.error from error


class _Watched(io.BufferedWriter):
    """A file that remembers why it could not be written.

    Attributes:
        error: the first exception in `write`, such as the OSError of a full disk; None so far.
    """

    error: BaseException | None = None

    def write(self, data: "ReadableBuffer") -> int:
        """Writes all of the data, and returns how much that is. Raises what the file raises."""
        try:
            return super().write(data)
        except BaseException as error:
            self.error = self.error or error
            raise


def save_weights(path: Path, weights: Mapping[str, Tensor], config: TrainConfig) -> None:
    """Writes the state_dict of a network as safetensors, for those who have no gmd, as safely as `save_checkpoint`.

    The metadata, from string to string as safetensors has them, are "gmd" (its version), "task", and "config" (the
    configuration as JSON).
    Raises UserError if it cannot be written; what was at `path` before is still there then.
    """
    # the format knows one memory layout only
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    about = {"gmd": __version__, "task": config.TASK, "config": json.dumps(config.to_dict())}
    with _written_whole(path) as unfinished:
        unfinished.write_bytes(save(plain, about))  # its save_file makes files that nobody else may read


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """Yields a path to write to, and puts the file in the place of `path` once it is whole and on the disk."""
    try:
        with replacing(path) as unfinished:
            yield unfinished
    except (OSError, RuntimeError) as error:
        before = "the checkpoint from before is intact" if path.exists() else "there is none from before"
        again = "go on with --resume" if path.with_name("last.pt").exists() else "start again, without --resume"
        raise UserError(
            f"{path}: cannot be written ({_reason(error)}); {before}. Mend that (room on the disk?), then {again}"
        ) from error


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or _first_line(error)


def load_checkpoint(path: Path) -> dict:
    """Reads what `save_checkpoint` wrote, onto the CPU, without executing anything that is in it.

    Raises UserError if it is missing, damaged, of no run, of another format or a later gmd, or holds code.
    """
    try:
        with open_regular(path) as file:
            _check_archive(path, file)
            state = _unpickled(path, file)
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such checkpoint; a run has last.pt from its start, best.pt from its first validation"
        ) from error
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); ask its owner for the right to") from error
    except UserError:
        raise
    except _OF_DAMAGE as error:
        raise _damaged(path, f"{type(error).__name__}: {_first_line(error)}") from error
    if not (isinstance(state, dict) and "config" in state):
        raise UserError(f"{path}: written by torch.save, but not by gmd train; give the folder of a run")
    found = state.get("format", 1)
    if type(found) is not int or found != FORMAT:
        theirs = f"gmd {shown(state['version'], 40)}" if "version" in state else "an earlier gmd"
        raise UserError(
            f"{path}: written by {theirs} in format {brief(found)}, but this gmd {__version__} reads format {FORMAT}; "
            "use it with the gmd that wrote it, or train anew"
        )
    check_made_by(path, state.get("version"))
    return state


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Looks at every byte of a checkpoint before torch does, which reads tensors without looking at their checksums.

    Raises zipfile.BadZipFile or another error of the module for a damaged file, UserError for one that torch.save does
    not write: it would take more memory than it has bytes, or holds a program.
    """
    size = os.fstat(file.fileno()).st_size
    check_claim(path, size, "a checkpoint of its size")
    if not zipfile.is_zipfile(file) and (kind_of(path) or "").startswith("a pickle"):
        raise _holds_code(path, "is a bare pickle, which may hold code")
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        # torch.save neither compresses nor writes a byte twice
        compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if compressed or sum(entry.file_size for entry in entries) > size:
            raise _damaged(path, "its entries are compressed or overlap, which those of torch.save never do")
        if not any(entry.filename.endswith("/data.pkl") for entry in entries):  # torch would take it for a pickle
            raise zipfile.BadZipFile("it has no data.pkl")
        if any("/code/" in entry.filename for entry in entries):
            raise _holds_code(path, "holds code, a program of TorchScript")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"bad checksum of {shown(damaged, 80)}")
    file.seek(0)


def _unpickled(path: Path, file: BinaryIO) -> object:
    """Lets torch read a file with right checksums. Raises UserError for whatever it is besides plain values."""
    # torch's words, its warnings too, are not passed on: they tell how to execute what is in the file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _holds_code(path, "holds code, or objects that only code can make") from error
    except MemoryError as error:
        raise UserError(f"{path}: takes more memory than there is; is it damaged? Restore it from a copy") from error
    except Exception as error:  # a crafted file makes torch's reader raise anything
        raise _damaged(path, f"{type(error).__name__} while torch reads it") from error


def _holds_code(path: Path, what: str) -> UserError:
    return UserError(
        f"{path}: {what}; refused, and nothing of it was executed. gmd writes no such file: do not load it in another "
        "way, restore the run's own from a copy"
    )


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: not a checkpoint, or damaged ({reason})"
        f"{other_kind(path, own=('what torch.save writes',))}; "
        "restore it from a copy, or use the run's other checkpoint (best.pt, last.pt)"
    )


def count_in(state: dict, name: str, path: Path) -> int:
    """Returns a count that a checkpoint holds, such as "epochs". Raises UserError if it holds none.

    state: what `load_checkpoint` read from `path`
    """
    count = state.get(name)
    if type(count) is not int or not 0 <= count < 2**63:
        raise UserError(f"{path}: {name}: got {brief(count)}, expected a number from 0 on; restore it from a copy")
    return count


def check_fits(network: nn.Module, state: dict, path: Path) -> None:
    """Raises UserError unless the weights of a checkpoint fit the network that its configuration asks for.

    network: untrained; nothing is loaded into it
    state: what `load_checkpoint` read from `path`
    """
    weights = state.get("network")
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path}: holds no weights of a network; restore it from a copy, or train anew")
    here = {name: kind_of_tensor(value) for name, value in network.state_dict().items()}
    there = {name: kind_of_tensor(value) for name, value in weights.items()}
    names = [name for name in here | there if here.get(name) != there.get(name)]
    if not names:
        return
    first, more = names[0], f" and {len(names) - 1} more" * (len(names) > 1)
    shapes = f"{shown(first, 80)}: {there.get(first, 'absent')} there, {here.get(first, 'absent')} here{more}"
    config = state.get("config")
    made_by = str(config.get("network")) if isinstance(config, dict) else ""
    if ":" in made_by:
        reason = f"{shown(made_by, 80)} makes another network now ({shapes}); give it back what it was, or train anew"
        raise UserError(f"{path}: {reason}")
    raise UserError(
        f"{path}: trained with the network of an earlier gmd, which this gmd {__version__} no longer builds "
        f"({shapes}); use it with the gmd that wrote it, or train anew"
    )


def kind_of_tensor(value: Tensor) -> str:
    """Returns the shape of a tensor in words, with whatever makes it another one than a plain tensor of float32."""
    if value.is_nested:
        return "nested"  # it has no shape
    odd = [] if value.dtype == torch.float32 else [str(value.dtype)]
    odd += [] if value.layout == torch.strided else [str(value.layout)]
    odd += ["without values"] if value.is_meta else []
    return " ".join([str(list(value.shape)), *odd]).replace("torch.", "")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
