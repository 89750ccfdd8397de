"""Checkpoints from somebody else: what holds code is called that, and what does not fit is refused unchanged."""

import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers.attacks import commands, refused, rewrite

pytestmark = pytest.mark.slow

MOST = 1_500_000_000  # bytes at the peak of a command on a small run, torch included


class Payload:
    def __reduce__(self):
        return os.system, ("touch /tmp/gmd-owned",)


class Shout:
    def __reduce__(self):
        return print, ("owned",)


def zip_with_pickle(path: Path, content: bytes) -> None:
    """As torch.save writes them, around that pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")


def torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


HOLD_CODE: dict[str, Callable[[Path], object]] = {
    "a call": lambda path: torch.save({"config": Payload()}, path),
    "a call among weights": lambda path: rewrite(path, lambda state: state["network"].update(x=Shout())),
    "a call, in the old form": lambda path: torch.save(Payload(), path, _use_new_zipfile_serialization=False),
    "a bare pickle": lambda path: path.write_bytes(pickle.dumps({"config": Payload()})),
    "a bare pickle of old": lambda path: path.write_bytes(pickle.dumps({"config": Payload()}, protocol=0)),
    "GLOBAL": lambda path: zip_with_pickle(path, b"cos\nsystem\n(S'touch /tmp/gmd-owned'\ntR."),
    "INST": lambda path: zip_with_pickle(path, b"(S'touch /tmp/gmd-owned'\nios\nsystem\n."),
    "STACK_GLOBAL": lambda path: zip_with_pickle(path, b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."),
    "builtins": lambda path: zip_with_pickle(path, b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R."),
    "a module of torch": lambda path: torch.save(torch.nn.Linear(2, 2), path),
    "numpy": lambda path: zip_with_pickle(path, b"\x80\x02cnumpy.f2py\ncompile\n)R."),
}


@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
@pytest.mark.parametrize("attack", HOLD_CODE.values(), ids=HOLD_CODE)
def test_a_checkpoint_that_holds_code_is_called_that(gmd, made, copied, attack, name):
    run = copied("brats")
    attack(run / name)
    found = commands(made, run, made / "brats", "brats")
    for command in ("evaluate",) if name == "best.pt" else ("resume",):
        outcome = refused(gmd(*found[command]), name, "code")
        for wrong in ("weights_only", "damaged", "add_safe_globals", "arbitrary"):
            assert wrong not in outcome.err.lower(), outcome.err
    assert not Path("/tmp/gmd-owned").exists()


def bombed(path: Path) -> None:
    """40 entries that lie on each other, of 200 MB of zeros each."""
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = block.compress(bytes(2 * 10**8)) + block.flush()
    crc, local, central = zlib.crc32(bytes(2 * 10**8)), b"", b""
    name = b"archive/data/0"
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0, crc, len(data), 2 * 10**8, len(name), 0) + name
    for _ in range(40):
        central += (
            struct.pack(
                "<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 8, 0, 0, crc, len(data), 2 * 10**8, len(name), *[0] * 5, 0
            )
            + name
        )
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 40, 40, len(central), len(local) + len(data), 0)
    path.write_bytes(local + data + central + end)


def deflated(path: Path) -> None:
    """The checkpoint itself, and beside it 256 MB of zeros that nobody has asked for."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("best/data/999", "w") as entry:
        for _ in range(16):
            entry.write(bytes(2**24))


def stride_zero(path: Path) -> None:
    rewrite(path, lambda state: state["network"].update({next(iter(state["network"])): torch.zeros(1).expand(10**12)}))


def one_of(**changes: object) -> Callable[[Path], None]:
    return lambda path: rewrite(path, lambda state: state.update(changes))


def without(key: str) -> Callable[[Path], None]:
    return lambda path: rewrite(path, lambda state: state.pop(key))


def first_weight(change: Callable[[torch.Tensor], object]) -> Callable[[Path], None]:
    def edit(state: dict) -> None:
        name = next(iter(state["network"]))
        state["network"][name] = change(state["network"][name])

    return lambda path: rewrite(path, edit)


CHECKPOINTS: dict[str, Callable[[Path], object]] = {
    "overlapping entries": bombed,
    "a bomb beside the weights": deflated,
    "a tensor of 10^12 without a place": stride_zero,
    "a list": lambda path: torch.save([1, 2], path),
    "a tensor": lambda path: torch.save(torch.ones(3), path),
    "torchscript": torchscript,
    "no network": without("network"),
    "no configuration": without("config"),
    "a configuration of text": one_of(config="brats"),
    "a configuration of nothing": one_of(config={}),
    "a network of text": one_of(network="weights"),
    "an empty network": one_of(network={}),
    "weights of other shapes": first_weight(lambda weight: weight[:1]),
    "whole numbers for weights": first_weight(lambda weight: weight.long()),
    "complex weights": first_weight(lambda weight: weight.to(torch.complex64)),
    "text for a weight": first_weight(lambda weight: "weight"),
    "sparse weights": first_weight(lambda weight: weight.to_sparse()),
    "NaN for weights": first_weight(lambda weight: weight * float("nan")),
    "weights on no device": first_weight(lambda weight: weight.to("meta")),
    "no epochs": without("epochs"),
    "epochs in words": one_of(epochs="many"),
    "negative epochs": one_of(epochs=-5),
    "epochs of 10^30": one_of(epochs=10**30),
    "no format": without("format"),
    "a format of text": one_of(format="2"),
    "a format of lists": one_of(format=[2]),
    "a version that a terminal acts on": one_of(format=9, version="\x1b]0;owned\x07\x1b[2J"),
    "a long version": one_of(format=9, version="9" * 10**6),
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_odd_checkpoints(gmd, copied, what):
    run = copied("brats")
    CHECKPOINTS[what](run / "best.pt")
    refused(outcome := gmd("evaluate", run), "NaN" if what == "NaN for weights" else "best.pt")
    assert outcome.peak < MOST, outcome.peak
    assert len(outcome.err) < 10_000


STATES: dict[str, Callable[[Path], object]] = {
    key: CHECKPOINTS[key]
    for key in ("no network", "an empty network", "no epochs", "epochs in words", "negative epochs", "epochs of 10^30")
}
STATES |= {
    "no steps": without("steps"),
    "steps of nothing": one_of(steps=None),
    "steps beyond the epochs": one_of(steps=10**9),
    "no optimizer": without("optimizer"),
    "an optimizer of text": one_of(optimizer="AdamW"),
    "an optimizer of nothing": one_of(optimizer={}),
    "an optimizer of other sizes": lambda path: rewrite(
        path, lambda state: state["optimizer"]["state"].update({0: {"step": torch.ones(()), "exp_avg": torch.ones(7)}})
    ),
    "an optimizer of other groups": lambda path: rewrite(
        path, lambda state: state["optimizer"].update(param_groups=[])
    ),
    "no scheduler": without("scheduler"),
    "a scheduler of lists": one_of(scheduler=[]),
    "a generator of text": one_of(generator="random"),
    "a generator of floats": one_of(generator=torch.ones(5)),
    "a short generator": one_of(generator=torch.zeros(3, dtype=torch.uint8)),
    "no random numbers": without("random"),
    "a score of text": one_of(best_score="good"),
    "seconds of nothing": one_of(seconds=None),
}


@pytest.mark.parametrize("attack", STATES.values(), ids=STATES)
def test_states_to_resume_of_other_kinds(gmd, made, copied, attack):
    run = copied("brats")
    attack(run / "last.pt")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    refused(gmd(*commands(made, run, made / "brats", "brats")["resume"]), "last.pt")
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_checkpoint_without_rights_is_not_called_damaged(gmd, made, copied):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    run = copied("brats")
    (run / "best.pt").chmod(0)
    outcome = refused(gmd("evaluate", run), "best.pt", "Permission")
    assert "damaged" not in outcome.err
