"""Writes checkpoints so that a file is either whole or absent, and reads them back after looking at their checksums."""

import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import nn

from gmd import __version__
from gmd.config import TrainConfig
from gmd.data.file_kind import other_kind
from gmd.errors import UserError
from gmd.files import replacing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FORMAT = 2  # of the state; files without a number are of format 1, which lacks the steps of an unfinished epoch


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


def save_weights(path: Path, network: nn.Module, config: TrainConfig) -> None:
    """Writes the network's state_dict as safetensors, for those who have no gmd, as safely as `save_checkpoint`.

    The metadata, from string to string as safetensors has them, are "gmd" (its version), "task", and "config" (the
    configuration as JSON).
    Raises UserError if it cannot be written; what was at `path` before is still there then.
    """
    # the format knows one memory layout only
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    about = {"gmd": __version__, "task": config.TASK, "config": json.dumps(config.to_dict())}
    with _written_whole(path) as unfinished:
        unfinished.write_bytes(save(weights, about))  # its save_file makes files that nobody else may read


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

    Raises UserError if it is missing, damaged, of no run, or of another format.
    """
    try:
        # torch reads tensors without looking at their checksums, zipfile does look
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"bad checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such checkpoint; a run has last.pt from its start, best.pt from its first validation"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: not a checkpoint, or damaged ({type(error).__name__}: {_first_line(error)})"
            f"{other_kind(path, own=('what torch.save writes',))}; "
            "restore it from a copy, or use the run's other checkpoint (best.pt, last.pt)"
        ) from error
    if not (isinstance(state, dict) and "config" in state):
        raise UserError(f"{path}: written by torch.save, but not by gmd train; give the folder of a run")
    if (found := state.get("format", 1)) != FORMAT:
        theirs = f"gmd {state['version']}" if "version" in state else "an earlier gmd"
        raise UserError(
            f"{path}: written by {theirs} in format {found}, but this gmd {__version__} reads format {FORMAT}; "
            "use it with the gmd that wrote it, or train anew"
        )
    return state


def check_fits(network: nn.Module, state: dict, path: Path) -> None:
    """Raises UserError unless the weights of a checkpoint fit the network that its configuration asks for.

    network: untrained; nothing is loaded into it
    state: what `load_checkpoint` read from `path`
    """
    weights = state.get("network")
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise UserError(f"{path}: holds no weights of a network; restore it from a copy, or train anew")
    here = {name: list(value.shape) for name, value in network.state_dict().items()}
    there = {name: list(value.shape) for name, value in weights.items()}
    names = [name for name in here | there if here.get(name) != there.get(name)]
    if not names:
        return
    first, more = names[0], f" and {len(names) - 1} more" * (len(names) > 1)
    shapes = f"{first}: {there.get(first, 'absent')} there, {here.get(first, 'absent')} here{more}"
    raise UserError(
        f"{path}: trained with the network of an earlier gmd, which this gmd {__version__} no longer builds "
        f"({shapes}); use it with the gmd that wrote it, or train anew"
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
