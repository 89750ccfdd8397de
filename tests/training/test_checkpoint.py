"""Checkpoints survive kills, full disks and flipped bits, or say so."""

import contextlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

import gmd.training.checkpoint
import gmd.training.networks
from gmd.config import TrainBrats, TrainSentiment
from gmd.config.file import write_config
from gmd.data.text_files import write_json
from gmd.errors import UserError
from gmd.evaluation.scored_checkpoint import describe_checkpoint
from gmd.training.checkpoint import FORMAT, load_checkpoint, save_checkpoint, save_weights
from gmd.training.networks import build_network
from gmd.training.saved_run import load_run, read_config

CONFIG = TrainBrats(data=Path("somewhere"), labels="brats2018", width=0.125, modalities=("flair", "t1"))


def state_of(value: float) -> dict:
    return {"config": CONFIG.to_dict(), "number": value, "tensor": torch.full((200_000,), value)}


def start_python(code: str, *arguments: object) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )


def test_round_trip(tmp_path: Path):
    save_checkpoint(tmp_path / "last.pt", state_of(3.0))
    loaded = load_checkpoint(tmp_path / "last.pt")
    assert loaded["number"] == 3.0
    assert torch.equal(loaded["tensor"], torch.full((200_000,), 3.0))
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


SAVE_FOR_EVER = """
import sys, itertools, torch
from pathlib import Path
from gmd.training.checkpoint import save_checkpoint
for number in itertools.count():
    state = {"config": {}, "number": number, "tensor": torch.full((2_000_000,), float(number))}
    save_checkpoint(Path(sys.argv[1]), state)
    print("saved", number, flush=True)
"""


def test_kill_in_the_middle_of_saving_leaves_a_whole_checkpoint(tmp_path: Path):
    path = tmp_path / "last.pt"
    process = start_python(SAVE_FOR_EVER, path)
    process.stdout.readline()
    for delay in (0.05, 0.013, 0.031, 0.0):
        time.sleep(delay)
        process.send_signal(signal.SIGSTOP)  # whatever is on the disk at this moment is what a kill would leave
        loaded = load_checkpoint(path)
        assert torch.equal(loaded["tensor"], torch.full((2_000_000,), float(loaded["number"])))
        process.send_signal(signal.SIGCONT)
    process.kill()
    process.communicate()
    load_checkpoint(path)
    save_checkpoint(path, state_of(1.0))  # and the next run is not hindered by what the kill left behind
    assert load_checkpoint(path)["number"] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


HANG_HALFWAY = """
import sys, time, torch
from pathlib import Path
from gmd.training.checkpoint import save_checkpoint
def hang(state, file):
    file.write(b"PK" * 1000)
    file.flush()
    print("half", flush=True)
    time.sleep(600)
torch.save = hang
save_checkpoint(Path(sys.argv[1]), {})
"""


def test_kill_9_halfway_through_a_file_leaves_the_previous_checkpoint(tmp_path: Path):
    save_checkpoint(tmp_path / "last.pt", state_of(1.0))
    process = start_python(HANG_HALFWAY, tmp_path / "last.pt")
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate()
    assert [path.name for path in tmp_path.glob(".gmd-unfinished.*.pt")]
    assert load_checkpoint(tmp_path / "last.pt")["number"] == 1.0


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from gmd.training.checkpoint import save_checkpoint
from gmd.errors import UserError
from gmd.evaluation.scored_checkpoint import describe_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # to write beyond the limit is then an error, EFBIG
for limit in (0, 1000, 500_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        save_checkpoint(Path(sys.argv[1]), {"config": {}, "tensor": torch.zeros(200_000)})
    except UserError as error:
        print(error)
"""


def test_a_full_disk_leaves_the_previous_checkpoint_and_says_so(tmp_path: Path):
    save_checkpoint(tmp_path / "last.pt", state_of(1.0))
    output, _ = start_python(FULL_DISK, tmp_path / "last.pt").communicate()
    assert output.count("last.pt: cannot be written") == 3
    assert output.count("from before is intact") == 3
    assert "Traceback" not in output
    assert load_checkpoint(tmp_path / "last.pt")["number"] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_folder_that_is_gone_is_a_user_error(tmp_path: Path):
    (tmp_path / "gone").touch()
    with pytest.raises(
        UserError, match=r"cannot be written .*there is none from before.*start again, without --resume"
    ):
        save_checkpoint(tmp_path / "gone" / "last.pt", state_of(1.0))


def test_a_truncated_checkpoint_is_named(tmp_path: Path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, state_of(1.0))
    content = path.read_bytes()
    for length in (0, 10, len(content) // 20, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"last\.pt: not a checkpoint, or damaged"):
            load_checkpoint(path)


def test_a_flipped_bit_is_noticed(tmp_path: Path):
    """torch.load alone does not: it hands out the wrong numbers."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, state_of(1.0))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["tensor"], torch.full((200_000,), 1.0))
    with pytest.raises(UserError, match=r"last\.pt: not a checkpoint, or damaged .*checksum"):
        load_checkpoint(path)


@pytest.mark.parametrize("flipped", [0x01, 0x80], ids=["a password, sizes", "names that are no text"])
def test_flipped_bits_in_the_list_of_entries_are_named(tmp_path: Path, flipped: int):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"config": {}, "tensor": torch.ones(2)})
    whole = path.read_bytes()
    for place in range(whole.index(b"PK\x01\x02"), len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ flipped]) + whole[place + 1 :])
        with contextlib.suppress(UserError):  # anything else is a traceback
            load_checkpoint(path)


def test_what_is_no_checkpoint(tmp_path: Path):
    with pytest.raises(UserError, match=r"last\.pt: no such checkpoint"):
        load_checkpoint(tmp_path / "last.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pt")
    with pytest.raises(UserError, match=r"foreign\.pt: .* not by gmd train"):
        load_checkpoint(tmp_path / "foreign.pt")


class Program:
    """A pickle of it makes a file when it is read, and could as well do anything else."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_program_in_a_checkpoint_is_refused_and_not_executed(tmp_path: Path):
    write_run(tmp_path, CONFIG)
    executed = tmp_path / "executed"
    torch.save(state_of(1.0) | {"format": FORMAT, "network": Program(executed)}, tmp_path / "best.pt")
    for read in (lambda: load_checkpoint(tmp_path / "best.pt"), lambda: load_run(tmp_path)):
        with pytest.raises(UserError, match=r"best\.pt: holds code.*; refused, and nothing of it was executed") as said:
            read()
        assert not re.search(r"weights_only|damaged", str(said.value)), "torch's advice would execute it"
    assert not executed.exists()
    torch.load(tmp_path / "best.pt", weights_only=False)
    assert executed.exists(), "it was a program"


def test_a_bare_pickle_is_said_to_be_one(tmp_path: Path):
    """As torch wrote checkpoints before 1.6, and as anything else that can hold a program."""
    executed, path = tmp_path / "executed", tmp_path / "best.pt"
    for content in (pickle.dumps(Program(executed)), pickle.dumps({"a": 1}, 0), pickle.dumps([Program(executed)], 4)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"best\.pt: is a bare pickle, which may hold code; refused, and nothing"):
            load_checkpoint(path)
    torch.save(state_of(1.0), path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"best\.pt: is a bare pickle"):
        load_checkpoint(path)
    archive(path, {"best/data.pkl": b"", "best/code/__torch__.py": b"", "best/constants.pkl": b""})
    with pytest.raises(UserError, match=r"best\.pt: holds code, a program of TorchScript; refused"):
        load_checkpoint(path)
    assert not executed.exists()


def archive(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)


def overlapping(path: Path) -> None:
    """40 entries that are one and the same 200 kB."""
    archive(path, {"best/data.pkl": bytes(200_000)})
    with zipfile.ZipFile(path, "a") as file:
        [first] = file.infolist()
        for number in range(40):
            other = copy(first)
            other.filename = f"best/data/{number}"
            file.filelist.append(other)
        file._didModify = True


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (overlapping, "its entries are compressed or overlap"),
        (lambda p: archive(p, {"best/data.pkl": bytes(10**7)}, zipfile.ZIP_DEFLATED), "its entries are compressed"),
        (lambda p: archive(p, {"best/data.pkl": bytes(10**7)}, zipfile.ZIP_LZMA), "its entries are compressed"),
        (lambda p: archive(p, {"best/data.pkl": b"\x80\x02}."}), "while torch reads it"),
        (lambda p: archive(p, {"best/data.pkl": b"\x80\x02h\x05.", "best/version": b"3\n"}), "while torch reads it"),
        (lambda p: archive(p, {}), "it has no data.pkl"),
        (lambda p: archive(p, {"x.npy": b"x"}), "it is a .npz of arrays"),
        (lambda p: p.write_bytes(b"PK\x05\x06" + bytes(18)), "it has no data.pkl"),
        (lambda p: p.write_bytes(b"<html>log in</html>"), "it is a web page"),
        (os.mkfifo, "is a named pipe"),
        (Path.mkdir, "is a folder"),
        (lambda p: p.symlink_to("/dev/zero"), "is a device"),
        (lambda p: p.symlink_to("/nowhere"), "no such checkpoint"),
    ],
    ids=[
        *("overlapping", "deflated", "lzma", "no records", "stack", "nothing in it", "npz", "bare end", "page"),
        *("pipe", "folder", "zeros", "nowhere"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, make: Callable[[Path], object], said: str):
    make(path := tmp_path / "best.pt")
    with pytest.raises(UserError, match=rf"best\.pt: .*{said}") as error:
        load_checkpoint(path)
    assert "weights_only" not in str(error.value)


def test_nothing_is_inflated_to_see_that_it_is_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda self: pytest.fail("was inflated"))
    for make in (overlapping, lambda path: archive(path, {"best/data.pkl": bytes(10**7)}, zipfile.ZIP_DEFLATED)):
        make(tmp_path / "best.pt")
        with pytest.raises(UserError, match="compressed or overlap"):
            load_checkpoint(tmp_path / "best.pt")


def test_a_checkpoint_larger_than_the_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_checkpoint(tmp_path / "best.pt", state_of(1.0))
    monkeypatch.setenv("GMD_MAX_GB", "0.0001")
    with pytest.raises(UserError, match=r"best\.pt: a checkpoint of its size would take .* set GMD_MAX_GB"):
        load_checkpoint(tmp_path / "best.pt")


def test_a_checkpoint_of_somebody_else_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(gmd.training.checkpoint, "open_regular", refused)
    with pytest.raises(UserError, match=r"best\.pt: cannot be read \(Permission denied\); ask its owner") as error:
        load_checkpoint(tmp_path / "best.pt")
    assert "damaged" not in str(error.value)


@pytest.mark.parametrize("number", ["2", torch.tensor([2, 2]), [[]], True], ids=str)
def test_a_format_that_is_no_number(tmp_path: Path, number: object):
    torch.save(state_of(1.0) | {"format": number, "version": "\x1b[2J" * 100}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"last\.pt: written by gmd .* in format .*; use it with") as error:
        load_checkpoint(tmp_path / "last.pt")
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("epochs", [None, -1, 1.0, True, "3", torch.tensor(3), 2**70])
def test_epochs_that_are_none_are_named(tmp_path: Path, epochs: object):
    state = write_run(tmp_path, CONFIG)
    save_checkpoint(tmp_path / "best.pt", state | {"epochs": epochs})
    with pytest.raises(UserError, match=r"best\.pt: epochs: got .*, expected a number from 0 on; restore it"):
        describe_checkpoint(tmp_path, "best")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["nonsense"]}, "--labels: got nonsense"),
        ({"patch": [0, 0, 0]}, "--patch: got 0 0 0"),
        ({"patch": [16, 16, 16 * 10**9]}, "would take .* GB of memory"),
        ({"width": 300}, "--width: got 300, expected at most 100"),
        ({"width": 90.0}, "the network that it asks for would take"),
        ({"width": -1.0}, "--width: got -1.0"),
        ({"width": float("nan")}, "--width: got nan"),
        ({"modalities": []}, "--modalities"),
        ({"modalities": ["flair", 5]}, "modalities: got"),
        ({"modalities": [f"m{number}" for number in range(10**4)], "method": "joint"}, "--modalities: got 10000"),
        ({"epochs": True}, "epochs: got True"),
        ({"folds": 10**9, "fold": 0}, "--folds: got 1000000000"),
        ({"data": []}, "--data: got nothing"),
        ({"seed": 10**30}, "beyond 64 bits"),
        ({"task": ["brats"]}, "its task is"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_no_network_is_built_of_a_configuration_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict, said: str
):
    """Even where the checkpoint agrees with it."""
    state = write_run(tmp_path, CONFIG)
    values = CONFIG.to_dict() | change
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    save_checkpoint(tmp_path / "best.pt", state | {"config": values})
    monkeypatch.setattr(gmd.training.networks, "UNet3d", lambda *_: pytest.fail("was built"))
    with pytest.raises(UserError, match=rf"config\.yaml: .*{said}"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"heads": 0}, "--heads: got 0"),
        ({"heads": 3}, "--width: got 16, expected a multiple of --heads 3"),
        ({"layers": 10**9}, "--layers: got 1000000000, expected at most 100"),
        ({"width": 2**40}, "--width: got 1099511627776"),
        ({"width": 2**16, "layers": 100}, "the network that it asks for would take"),
        ({"dropout": 7.5}, "--dropout: got 7.5"),
    ],
    ids=str,
)
def test_no_transformer_is_built_of_a_configuration_that_cannot_be(tmp_path: Path, change: dict, said: str):
    config = TrainSentiment(data=Path("x.npz"), width=16, heads=2, layers=1)
    about = {"features": {"text": 5, "audio": 4, "vision": 3}, "classes": None, "per_step": False}
    write_json(tmp_path / "splits.json", {"data": "x", "about": about})
    values = config.to_dict() | change
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    save_checkpoint(tmp_path / "best.pt", {"config": values, "network": {}})
    with pytest.raises(UserError, match=rf"config\.yaml: .*{said}"):
        load_run(tmp_path)


def test_a_run_from_a_machine_with_another_device_is_read(tmp_path: Path):
    config = replace(CONFIG, device="cuda:5")
    write_run(tmp_path, config)
    assert load_run(tmp_path)[0] == config


def test_nothing_else_in_the_package_unpickles():
    """gmd.data.sequences.safe_pickle reads those of MOSI, and executes nothing either: see test_safe_pickle.py."""
    package = Path(gmd.__file__).parent
    sources = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    loads = [line for text in sources.values() for line in text.splitlines() if "torch.load(" in line]
    assert loads
    assert all("weights_only=True" in line for line in loads), loads
    assert not [path for path, text in sources.items() if re.search(r"pickle\.loads?\(|allow_pickle=True", text)]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({}, "written by an earlier gmd in format 1, but this gmd"),
        ({"format": FORMAT + 1, "version": "9.9"}, f"written by gmd 9.9 in format {FORMAT + 1}, but this gmd"),
    ],
)
def test_a_checkpoint_of_another_version_says_so(tmp_path: Path, head: dict, said: str):
    torch.save(state_of(1.0) | head, tmp_path / "last.pt")
    with pytest.raises(UserError, match=rf"last\.pt: {said} {gmd.__version__} reads format {FORMAT}; use it with"):
        load_checkpoint(tmp_path / "last.pt")


def test_weights_are_read_without_gmd(tmp_path: Path):
    network = build_network(CONFIG)
    save_weights(tmp_path / "best.safetensors", network.state_dict(), CONFIG)
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        about = file.metadata()
    assert (about["gmd"], about["task"]) == (gmd.__version__, "brats")
    assert json.loads(about["config"]) == CONFIG.to_dict()
    other = build_network(CONFIG)
    other.load_state_dict(load_file(tmp_path / "best.safetensors"))
    brain = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(other(brain, 1), network(brain, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]
    (tmp_path / "other").touch()
    assert (tmp_path / "best.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_weights_that_cannot_be_written_are_a_user_error(tmp_path: Path):
    (tmp_path / "best.safetensors").mkdir()
    with pytest.raises(UserError, match=r"best\.safetensors: cannot be written \(Is a directory"):
        save_weights(tmp_path / "best.safetensors", build_network(CONFIG).state_dict(), CONFIG)


def write_run(run: Path, config: TrainBrats) -> dict:
    run.mkdir(exist_ok=True)
    write_config(run / "config.yaml", config)
    state = {"config": config.to_dict(), "network": build_network(config).state_dict()}
    save_checkpoint(run / "best.pt", state)
    return state


def test_a_run_is_read_back(tmp_path: Path):
    state = write_run(tmp_path, CONFIG)
    config, network = load_run(tmp_path)
    assert config == CONFIG
    assert network.modalities == ("flair", "t1")
    assert network.regions == ("WT", "TC", "ET")
    assert all(torch.equal(value, state["network"][name]) for name, value in network.state_dict().items())
    with pytest.raises(UserError, match=r"last\.pt: no such checkpoint"):
        load_run(tmp_path, "last")


@pytest.mark.parametrize(
    "change",
    [{"width": 0.25}, {"modalities": ("flair", "t2")}, {"labels": "binary"}],
    ids=lambda change: next(iter(change)),
)
def test_a_checkpoint_of_another_configuration_says_what_differs(tmp_path: Path, change: dict):
    write_run(tmp_path, CONFIG)
    write_config(tmp_path / "config.yaml", replace(CONFIG, **change))
    [name] = change
    with pytest.raises(UserError, match=rf"best\.pt: of another configuration.*: {name}: .* here, .* there\."):
        load_run(tmp_path)


def former(weights: dict) -> dict:
    """The weights of the U-Net before it was the published one: without the convolutions' biases, wider below."""
    kept = {name: value for name, value in weights.items() if not re.search(r"conv\d\.bias", name)}
    return kept | {"encoder.4.conv1.weight": torch.zeros(64, 32, 3, 3, 3)}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (former, r"encoder\.0\.conv1\.bias: absent there, \[4\] here and 18 more\)"),
        (
            lambda w: w | {"head.weight": w["head.weight"][:2]},
            r"head\.weight: \[2, 4, 1, 1, 1\] there, \[3, 4, 1, 1, 1\] here\)",
        ),
        (lambda w: w | {"head.scale": torch.ones(1)}, r"head\.scale: \[1\] there, absent here\)"),
        (lambda w: {"module." + name: value for name, value in w.items()}, r": absent there, .* and \d+ more\)"),
        (lambda w: {}, r": absent there, .* and \d+ more\)"),
        (
            lambda w: w | {"head.bias": torch.nested.nested_tensor([torch.ones(2), torch.ones(1)])},
            r"head\.bias: nested there, \[3\] here\)",
        ),
    ],
    ids=["former", "fewer outputs", "a tensor more", "other names", "empty", "nested"],
)
def test_a_network_that_this_gmd_does_not_build_is_a_user_error(tmp_path: Path, change: Callable, says: str):
    """It was torch's error, of all names and sizes that do not match."""
    state = write_run(tmp_path, CONFIG)
    save_checkpoint(tmp_path / "best.pt", state | {"network": change(state["network"])})
    advice = r"; use it with the gmd that wrote it, or train anew"
    with pytest.raises(UserError, match=rf"best\.pt: trained with the network of an earlier gmd.*{says}{advice}"):
        load_run(tmp_path)


@pytest.mark.parametrize("weights", [None, [torch.ones(1)], {"head.weight": 1.0}], ids=["none", "a list", "a number"])
def test_a_checkpoint_without_weights_is_a_user_error(tmp_path: Path, weights: object):
    state = write_run(tmp_path, CONFIG)
    save_checkpoint(tmp_path / "best.pt", state | {"network": weights})
    with pytest.raises(UserError, match=r"best\.pt: holds no weights of a network; restore it from a copy"):
        load_run(tmp_path)


def test_a_configuration_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(UserError, match=r"no config\.yaml"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"made by an earlier gmd, as config\.json tells"):
        read_config(tmp_path)
    (tmp_path / "config.yaml").write_text("data: [")
    with pytest.raises(UserError, match=r"config\.yaml: not YAML"):
        read_config(tmp_path)
    write_json(tmp_path / "config.yaml", CONFIG.to_dict() | {"depth": 3})
    with pytest.raises(UserError, match=r"config\.yaml: written by another version of gmd: it differs in depth"):
        read_config(tmp_path)
