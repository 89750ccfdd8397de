"""`--network package.module:function`: networks of the user's own, what is refused, and who has to name them."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gmd.cli
from gmd.config import TrainBrats
from gmd.config.file import CONFIG, write_config
from gmd.errors import UserError
from gmd.training.checkpoint import load_checkpoint
from gmd.training.loop import train
from gmd.training.networks import build_network, check_network
from gmd.training.saved_run import load_run, read_config
from gmd.training.state import Training
from helpers.run_cases import assert_same_run

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")

CODE = """
import warnings

import torch
from torch import nn

imported = True
not_callable = 3


class Net(nn.Module):
    def __init__(self, regions, stride=1, outputs="tensor", norm=True):
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, stride, padding=1)
        self.norm = nn.InstanceNorm3d(4) if norm else nn.Identity()
        self.up = nn.Upsample(scale_factor=stride)
        self.last = nn.Conv3d(4, regions, 1)
        self.outputs, self.stride = outputs, stride

    def forward(self, x):
        if any(side % self.stride for side in x.shape[2:]):
            raise ValueError(f"expected multiples of {self.stride}")
        y = self.last(self.up(self.norm(self.conv(x))))
        return {"tensor": y, "list": [y, y], "dict": {"y": y}, "half": y[..., ::2], "sigmoid": y.sigmoid(),
                "labels": y > 0, "in training": [y, y] if self.training else y}[self.outputs]


def plain(regions):
    return Net(regions)

def strided(regions):
    return Net(regions, stride=16)

def wide(regions, patch, width):
    assert patch == (16, 16, 16) and width == 0.25
    return Net(regions)

def any_of(**given):
    assert set(given) == {"regions", "patch", "width"}
    return Net(given["regions"])

def listed(regions): return Net(regions, outputs="list")
def in_training(regions): return Net(regions, outputs="in training")
def dictionary(regions): return Net(regions, outputs="dict")
def half(regions): return Net(regions, outputs="half")
def labels(regions): return Net(regions, outputs="labels")
def probabilities(regions): return Net(regions, outputs="sigmoid")
def too_many(regions): return Net(regions + 1)
def without_norms(regions): return Net(regions, norm=False)
def scripted(regions):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Sequential(nn.Conv3d(1, regions, 1), nn.BatchNorm3d(regions)))
def nothing(regions): return None
def no_network(regions): return Net
def fails(regions): raise KeyError("depth")
def wants_more(regions, depth): return Net(regions)
def no_arguments(): return Net(3)

def shared(regions):
    import gmd
    return gmd.share(Net(regions), ("flair", "t1ce"))

def multimodal(regions):
    from gmd.models.unet3d import UNet3d
    return UNet3d(("flair", "t1ce"), ("WT",), 0.1)

class holder:
    make = staticmethod(plain)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with functions that make networks, of which nobody has imported anything."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "own_of_test.py").write_text(CODE)
    (folder / "broken_of_test.py").write_text("import own_of_test\nraise RuntimeError('no licence')\n")
    (folder / "lacking_of_test.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(folder)
    yield "own_of_test"
    for name in ("own_of_test", "broken_of_test", "lacking_of_test"):
        sys.modules.pop(name, None)


def small(config: TrainBrats, **changes) -> TrainBrats:
    return replace(config, **{"width": 0.5, "labels": ("brats2018",), "epochs": 1, "method": "enumerate", **changes})


# ---- what goes ----


@pytest.mark.parametrize(
    ("function", "changes"),
    [
        ("plain", {}),
        ("holder.make", {}),
        ("wide", {"width": 0.25}),
        ("any_of", {}),
        ("strided", {"patch": (32, 16, 16)}),
    ],
)
def test_a_function_is_called_with_what_it_takes(config: TrainBrats, own: str, function: str, changes: dict):
    config = small(config, network=f"{own}:{function}", **changes)
    config.check_values()
    check_network(config)
    network = build_network(config)
    volumes = torch.randn(2, 1, *config.patch)
    assert network(volumes, 1).shape == (2, 3, *config.patch)
    assert network.modalities == config.modalities
    assert network.regions == ("WT", "TC", "ET")


def test_its_norms_get_an_affine_of_each_modality(config: TrainBrats, own: str):
    network = build_network(small(config, network=f"{own}:plain"))
    assert [p.shape for p in network.shared.private_parameters("t1ce")] == [(4,), (4,)]
    assert network.last == "last"


def test_building_it_draws_the_same_weights_from_the_same_seed(config: TrainBrats, own: str):
    built = []
    for _ in range(2):
        torch.manual_seed(3)
        built.append(build_network(small(config, network=f"{own}:plain")).state_dict())
    assert all(torch.equal(value, built[1][name]) for name, value in built[0].items())


def test_a_run_from_training_to_prediction(config: TrainBrats, own: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    """By the commands, each of which needs to be told the network, and none of which imports it otherwise."""
    network, out, data = f"{own}:plain", str(tmp_path / "run"), str(config.data[0])
    line = ["train", "brats", "--data", data, "--modalities", "flair", "t1ce", "--patch", "16", "16", "16"]
    line += ["--epochs", "1", "--steps-per-epoch", "1", "--method", "enumerate", "--out", out, "--device", "cpu"]
    assert gmd.cli.main([*line, "--network", network]) == 0
    case = next(path for path in Path(data).iterdir() if path.is_dir())
    image = next(case.glob("*_flair.nii.gz"))
    predict = ["predict", out, "--flair", str(image), "-o", str(tmp_path / "seg.nii.gz")]
    again = ["train", "brats", "--config", f"{out}/{CONFIG}", "--out", str(tmp_path / "again")]
    del sys.modules[own]
    for command in (["evaluate", out], predict, again):
        capsys.readouterr()
        assert gmd.cli.main(command) == 2
        assert f"add --network {network}" in capsys.readouterr().err
    assert gmd.cli.main(["report", out]) == 0
    assert own not in sys.modules, "nothing was imported"
    for command in (["evaluate", out], predict, again):
        assert gmd.cli.main([*command, "--network", network]) == 0
    assert (tmp_path / "seg.nii.gz").exists()
    assert read_config(tmp_path / "again").network == network


def test_a_run_goes_on(config: TrainBrats, own: str, tmp_path: Path):
    config = small(config, network=f"{own}:plain", epochs=2)
    straight = train(replace(config, out=tmp_path / "straight"))
    state = load_checkpoint(straight / "last.pt")
    assert any(name.endswith("norm.weight.t1ce") for name in state["network"])
    first = replace(config, out=tmp_path / "resumed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "why_finished", lambda self, config: "enough" if self.epochs else None)
        train(first)
    assert_same_run(straight, train(replace(first, resume=True)))


# ---- what is refused, in one line, before any case is read ----


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("no_such_module:f", r"got no_such_module:f, but Python finds no module no_such_module; .* set PYTHONPATH=\."),
        ("own_of_test.part:f", r"but Python finds no module own_of_test\.part"),
        ("own_of_test:no_such", r"but own_of_test has no no_such; it has Net, "),
        ("own_of_test:holder.no", r"but own_of_test has no no; "),
        ("own_of_test:not_callable", r"which is an int, expected a function that makes a network"),
        (
            "broken_of_test:f",
            r"broken_of_test cannot be imported: RuntimeError: no licence \(.*_test.py, line 2\)",
        ),
        ("lacking_of_test:f", r"lacking_of_test cannot be imported: ModuleNotFoundError: .*not_there_at_all"),
        ("own_of_test:nothing", r"it returns nothing, expected a torch\.nn\.Module"),
        ("own_of_test:no_network", r"it returns a type, expected a torch\.nn\.Module"),
        ("own_of_test:fails", r"called with regions=3 it raises KeyError: 'depth' \(.*own_of_test.py, line \d+\)"),
        ("own_of_test:wants_more", r"called with regions=3 it raises TypeError: .*'depth'"),
        ("own_of_test:no_arguments", r"it raises TypeError: .*'regions'"),
        ("own_of_test:listed", r"in evaluation the network returns a list of 2, .* switch its deep supervision"),
        ("own_of_test:in_training", r"in training the network returns a list of 2, expected one tensor"),
        ("own_of_test:dictionary", r"returns a dict, expected a tensor of logits"),
        ("own_of_test:half", r"makes \[1, 3, 16, 16, 8\] in evaluation, expected logits \[1, 3, 16, 16, 16\]"),
        ("own_of_test:labels", r"returns torch\.bool, expected logits of a floating type"),
        ("own_of_test:too_many", r"makes \[1, 4, 16, 16, 16\] .* one channel for each region"),
        ("own_of_test:without_norms", r"cannot be shared \("),
        ("own_of_test:scripted", r"cannot be shared \("),
        ("own_of_test:shared", r"cannot be shared \(.*is shared already"),
        ("own_of_test:multimodal", r"a network of several modalities already"),
    ],
)
@pytest.mark.usefixtures("own")
def test_what_is_no_network_is_told_before_anything_is_read(
    config: TrainBrats, monkeypatch: pytest.MonkeyPatch, network: str, said: str
):
    monkeypatch.setattr("gmd.training.tasks.segmentation.check_cases", lambda cases: pytest.fail("cases were read"))
    with pytest.raises(UserError, match=f"^--network.*{said}") as caught:
        train(small(config, network=network))
    assert "\n" not in str(caught.value)
    assert not (config.out / "config.yaml").exists()


@pytest.mark.parametrize("patch", [(24, 16, 16), (20, 20, 20)])
def test_a_patch_that_it_does_not_take_is_told_with_one_that_it_takes(
    config: TrainBrats, own: str, patch: tuple[int, int, int]
):
    got = " ".join(map(str, patch))
    said = (
        rf"got {got}, expected sizes that {own}:strided takes, such as (32 16 16|32 32 32); it raises ValueError: exp"
    )
    with pytest.raises(UserError, match=said):
        check_network(small(config, network=f"{own}:strided", patch=patch))


def test_a_width_that_it_does_not_take_is_refused(config: TrainBrats, own: str):
    with pytest.raises(UserError, match=f"--width: got 0.25, but {own}:plain takes no argument width"):
        check_network(small(config, network=f"{own}:plain", width=0.25))


@pytest.mark.parametrize("method", ["cggm", "cggm-gmd"])
def test_cggm_needs_a_convolution_at_the_end(config: TrainBrats, own: str, method: str):
    check_network(small(config, network=f"{own}:plain", method=method))
    with pytest.raises(UserError, match=f"--network: .* last layer is a convolution, with --method {method}"):
        check_network(small(config, network=f"{own}:probabilities", method=method))
    check_network(small(config, network=f"{own}:probabilities"))


def test_cggm_trains_it(config: TrainBrats, own: str):
    train(small(config, network=f"{own}:plain", method="cggm", steps_per_epoch=1))


# ---- code that only a file names ----


@pytest.mark.parametrize("network", ["unet", "own_of_test:strided", "segresnet"])
@pytest.mark.usefixtures("own")
def test_another_network_than_the_runs_is_refused(config: TrainBrats, network: str):
    config.out.mkdir()
    write_config(config.out / CONFIG, small(config, network="own_of_test:plain"))
    with pytest.raises(UserError, match=f"--network: got {network}, expected own_of_test:plain, the network of "):
        load_run(config.out, named=network)
    assert "own_of_test" not in sys.modules


def test_a_function_that_makes_another_network_now(config: TrainBrats, own: str):
    run = train(small(config, network=f"{own}:plain", steps_per_epoch=1))
    module = sys.modules[own]
    module.plain = lambda regions: torch.nn.Sequential(torch.nn.Conv3d(1, regions, 1), torch.nn.BatchNorm3d(regions))
    with pytest.raises(UserError, match=rf"{own}:plain makes another network now \(.* give it back what it was"):
        load_run(run, named=f"{own}:plain")


@pytest.mark.usefixtures("own")
def test_options_in_a_file_import_nothing_that_the_line_does_not_name(
    tmp_path: Path, config: TrainBrats, capsys: pytest.CaptureFixture
):
    file = tmp_path / "options.yaml"
    file.write_text(f"data: {config.data[0]}\nnetwork: own_of_test:fails\n")
    assert gmd.cli.main(["train", "brats", "--config", str(file), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "network: got own_of_test:fails, code that is imported only where the command line names it" in said
    assert "own_of_test" not in sys.modules
