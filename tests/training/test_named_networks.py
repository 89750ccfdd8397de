"""MONAI's networks by their names, through a run: options, training, checkpoints, going on, evaluation, prediction."""

from dataclasses import replace
from importlib import util
from pathlib import Path

import pytest
import torch

import gmd.cli
from gmd.config import TrainBrats, config_from_dict
from gmd.errors import UserError
from gmd.models.segmentation.architectures import ARCHITECTURES
from gmd.models.segmentation.monai_networks import MAKERS
from gmd.training.loop import train
from gmd.training.networks import build_network, check_network, network_bytes
from gmd.training.saved_run import load_run, read_config
from gmd.training.state import Training
from helpers.run_cases import assert_same_run
from helpers.training_cases import read_metrics

LARGE = ("swinunetr", "vnet")  # patches of 64 voxels, and 46 million parameters
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in MAKERS]

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures")


def of(config: TrainBrats, name: str, **changes) -> TrainBrats:
    """A run of one step with the network as small as it can be."""
    needs = ARCHITECTURES[name].needs
    if needs is not None and util.find_spec(needs) is None:
        pytest.skip(f"{name} needs {needs}")
    width = 1 / 16 if ARCHITECTURES[name].has_width else TrainBrats.width
    small = {"patch": ARCHITECTURES[name].nearest((16, 16, 16)), "width": width, "labels": ("brats2018",)}
    return replace(
        config, network=name, **{**small, "epochs": 1, "steps_per_epoch": 1, "method": "enumerate", **changes}
    )


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_and_is_read_back(config: TrainBrats, name: str, capsys: pytest.CaptureFixture):
    run = train(of(config, name))
    [step] = read_metrics(run, "step")
    assert step["finite"] is True
    loaded, network = load_run(run)
    assert loaded.network == name
    volumes = torch.randn(1, 1, *loaded.patch)
    assert network.eval()(volumes, 1).shape == (1, 3, *loaded.patch)
    assert "private" in capsys.readouterr().out, "how many parameters are"
    assert any(key.endswith(".t1ce") for key in network.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_all_commands_take_its_run(config: TrainBrats, name: str, tmp_path: Path):
    config = of(config, name, method="gmd", modalities=("flair", "t1ce"))
    run = train(config)
    assert gmd.cli.main(["evaluate", str(run)]) == 0
    assert f"<td>{name}" in (run / "report.html").read_text()
    case = next(path for path in config.data[0].iterdir() if path.is_dir())
    image = next(case.glob("*_flair.nii.gz"))
    assert gmd.cli.main(["predict", str(run), "--flair", str(image), "-o", str(tmp_path / "seg.nii.gz")]) == 0
    assert gmd.cli.main(["report", str(run), "--anonymous"]) == 0
    assert f"<td>{name}" in (run / "report.html").read_text(), "the name of a network names nobody"


@pytest.mark.parametrize("name", ["segresnet", "attentionunet"])
def test_it_goes_on_as_if_it_had_never_stopped(config: TrainBrats, name: str, tmp_path: Path):
    """With the running statistics of batch norm, which attentionunet has."""
    config = of(config, name, epochs=2)
    straight = train(replace(config, out=tmp_path / "straight"))
    begun = replace(config, out=tmp_path / "resumed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "why_finished", lambda self, config: "enough" if self.epochs else None)
        train(begun)
    assert_same_run(straight, train(replace(begun, resume=True)))


@pytest.mark.parametrize("method", ["gmd", "dropout", "cggm", "cggm-gmd"])
def test_every_kind_of_method_trains_it(config: TrainBrats, method: str):
    run = train(of(config, "dynunet", method=method))
    assert all(step["finite"] for step in read_metrics(run, "step"))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_smaller_types(config: TrainBrats, precision: str):
    run = train(of(config, "basicunet", precision=precision))
    assert len(read_metrics(run, "step")) == 1


def test_a_run_of_before_there_was_a_choice_has_the_unet(config: TrainBrats):
    values = config.to_dict()
    assert values.pop("network") == "unet"
    assert config_from_dict(values, "config.yaml") == config


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"network": "resnet"},
            "--network: got resnet, expected one of unet, segresnet, .*, or package.module:function",
        ),
        ({"network": "a b:c"}, "--network: got a b:c, expected one of"),
        ({"network": "../a:c"}, "--network: got ../a:c, expected one of"),
        ({"network": "a:"}, "--network: got a:, expected one of"),
        ({"network": "vnet", "width": 1.0}, "--width: got 1.0, expected nothing: the channels of vnet are given"),
        (
            {"network": "dynunet", "patch": (36, 40, 40)},
            "got 36 40 40, expected multiples of 8 with one side above 8, the nearest being 32 40 40 for dynunet",
        ),
        (
            {"network": "swinunetr", "patch": (32, 32, 32)},
            "got 32 32 32, expected multiples of 32 with one side above 32, the nearest being 64 64 64 for swinunetr",
        ),
        ({"network": "swinunetr", "patch": (96, 96, 48)}, "the nearest being 96 96 64 for swinunetr"),
        ({"network": "segresnet", "patch": (16, 16, 20)}, "multiples of 8, the nearest being 16 16 16 for segresnet"),
        ({"network": "unetr", "patch": (40, 32, 32)}, "multiples of 16, the nearest being 32 32 32 for unetr"),
        ({"network": "dynunet", "patch": (-8, 0, 16)}, "--patch: got -8 0 16, expected multiples of 4"),
        ({"network": "mine:net", "patch": (-8, 16, 16)}, "--patch: got -8 16 16, expected sizes of 1 voxel or more"),
    ],
)
def test_what_cannot_be_is_told_at_once(config: TrainBrats, changes: dict, said: str):
    with pytest.raises(UserError, match=said):
        replace(config, **changes).check_values()


@pytest.mark.parametrize("name", ["swinunetr", "unetr"])
def test_a_package_that_is_missing_is_named(config: TrainBrats, monkeypatch: pytest.MonkeyPatch, name: str):
    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda module: None if module == "einops" else found(module))
    config = replace(config, network=name, patch=(64, 64, 64), labels=("brats2018",))
    for call in (check_network, build_network):
        with pytest.raises(UserError, match=f"--network {name}: needs einops, .* pip install einops"):
            call(config)
    with pytest.raises(UserError, match="needs einops"):
        train(config)
    assert not (config.out / "config.yaml").exists()


@pytest.mark.parametrize("name", ["segresnet", "basicunet", "attentionunet"])
def test_the_memory_that_a_configuration_may_claim_is_about_what_it_takes(config: TrainBrats, name: str):
    config = of(config, name, width=0.5)
    weights = sum(parameter.numel() for parameter in build_network(config).parameters())
    assert network_bytes(config, {}) == pytest.approx(4 * weights, rel=0.7)
    assert network_bytes(replace(config, width=50.0), {}) > 5000 * 4 * weights


def test_a_run_of_another_network_does_not_go_on(config: TrainBrats):
    run = train(of(config, "segresnet"))
    other = replace(read_config(run), network="basicunet", patch=(32, 32, 32), resume=True)
    with pytest.raises(UserError, match="network: basicunet here, segresnet there"):
        train(other)
