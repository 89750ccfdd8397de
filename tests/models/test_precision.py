"""The network in bf16 and fp16: types, memory format, gradients, the scaler, what a run writes and resumes."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import gmd.models.conv
import gmd.models.precision
import gmd.scoring.segmentation.scores
import gmd.training.loop
import gmd.training.tasks.segmentation
from gmd.config import TrainBrats
from gmd.errors import UserError
from gmd.evaluation.segmentation.single_run import evaluate_run
from gmd.models.precision import autocast, make_scaler, slowness
from gmd.models.unet3d import UNet3d
from gmd.training.checkpoint import load_checkpoint
from gmd.training.loop import train
from gmd.training.saved_run import load_run
from gmd.training.state import Training
from gmd.training.step import train_step
from gmd.training.tasks import Task, open_task
from gmd.training.tasks.segmentation import region_loss
from helpers.training_cases import TWO, overflowing, read_metrics, without_times

CPU = torch.device("cpu")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

pytestmark = pytest.mark.usefixtures("one_thread", "no_pictures", "a_quick_look_at_the_speed")


@pytest.fixture
def a_quick_look_at_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {torch.float32: 1.0, torch.bfloat16: 2.5, torch.float16: 60.0}
    monkeypatch.setattr(gmd.models.precision, "convolution_time", seconds.get)


def prepared(config: TrainBrats) -> tuple[Training, Task, tuple]:
    task = open_task(config)
    return Training.prepare(task), task, next(iter(task.batches(0)))


# The network


class Results(TorchDispatchMode):
    """Collects (operation, result) of whatever makes feature maps."""

    MAKERS = ("convolution", "pool", "upsample", "cat", "norm", "relu")

    def __init__(self):
        super().__init__()
        self.maps: list[tuple[str, Tensor]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple | list) else result
        if isinstance(first, Tensor) and first.ndim == 5 and any(maker in str(function) for maker in self.MAKERS):
            self.maps.append((str(function), first))
        return result


@contextmanager
def collected() -> Iterator[list[tuple[str, Tensor]]]:
    results = Results()
    with results:
        yield results.maps


WITHOUT_BF16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="without AVX-512 torch convolves bfloat16 by loops of its own, which do not keep the memory format",
)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=WITHOUT_BF16)])
def test_feature_maps_stay_channels_last_and_of_their_type_to_the_end(
    samples: int, precision: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gmd.models.conv, "_is_watched", lambda: False)  # by this test, it is
    network = UNet3d(TWO, ("WT", "TC"), width=0.125).to(memory_format=torch.channels_last_3d)
    volumes = torch.randn(samples, 1, 32, 32, 32).to(memory_format=torch.channels_last_3d)
    with autocast(precision, CPU), collected() as maps:
        logits = network(volumes, 1)
    kinds = Counter(maker for name, _ in maps for maker in Results.MAKERS if maker in name)
    assert kinds["convolution"] == (19 if precision == "bf16" else 18)  # in fp32 the head is a product of matrices
    assert kinds["pool"] == kinds["upsample"] == kinds["cat"] == 4
    for name, result in [*maps, ("logits", logits)]:
        assert result.is_contiguous(memory_format=torch.channels_last_3d), f"{name} {list(result.shape)}"
        lowest = precision == "bf16" and "convolution" in name and result.shape[2] == 2  # see gmd/models/conv.py
        assert result.dtype == (torch.float32 if lowest else TYPES[precision]), f"{name} {list(result.shape)}"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_gradients_are_those_of_float32_to_the_rounding_of_the_type(config: TrainBrats, precision: str):
    """On a patch of 32, whose lowest level is 2 wide; of all shared parameters together.

    Rounding turns that share of the ReLUs around whose inputs are within it of 0, each with all of its gradient: the
    error in norm goes with the root of the rounding.
    """
    gradients = {}
    for name in ("fp32", precision):
        training, task, batch = prepared(replace(config, precision=name, patch=(32, 32, 32), method="joint"))
        train_step(training, task, *batch)
        shared = [p.grad for n, p in training.network.named_parameters() if "norm" not in n]
        assert all(grad.dtype == torch.float32 for grad in shared)
        gradients[name] = torch.cat([grad.flatten() for grad in shared])
    difference = (gradients[precision] - gradients["fp32"]).norm() / gradients["fp32"].norm()
    assert 0 < difference.item() < 2 * torch.finfo(TYPES[precision]).eps ** 0.5


def test_losses_parameters_and_their_optimizer_stay_float32_and_the_gramian_float64(
    config: TrainBrats, monkeypatch: pytest.MonkeyPatch
):
    seen = set()

    def watched(logits: Tensor, targets: Tensor) -> Tensor:
        seen.add((logits.dtype, targets.dtype, torch.is_autocast_enabled("cpu")))
        return region_loss(logits, targets)

    monkeypatch.setattr(gmd.training.tasks.segmentation, "region_loss", watched)
    training, task, batch = prepared(replace(config, precision="bf16"))
    [(_, report, _)] = train_step(training, task, *batch)
    assert seen == {(torch.float32, torch.float32, False)}
    assert report.gram.dtype == torch.float64
    state = [value for values in training.optimizer.state.values() for value in values.values()]
    assert {tensor.dtype for tensor in (*training.network.parameters(), *state)} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("method", ["gmd", "enumerate"])
def test_it_learns(config: TrainBrats, method: str, precision: str):
    # this seed draws a patch with tumour in a tenth of it; without any the loss would hardly fall
    config = replace(config, method=method, precision=precision, epochs=1000, lr=0.01, seed=2)
    training, task, batch = prepared(config)
    losses = [train_step(training, task, *batch)[0].report.losses.mean().item() for _ in range(12)]
    assert losses[-1] < 0.9 * losses[0]
    assert training.skipped == 0


# The scaler of fp16


def test_only_fp16_is_scaled(config: TrainBrats):
    for precision in ("fp32", "bf16", "fp16"):
        scaler = make_scaler(precision, CPU)
        assert (scaler is not None) == (precision == "fp16")
        training, _, _ = prepared(replace(config, precision=precision))
        assert ("scaler" in training.state_dict()) == (precision == "fp16")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gmd", "joint"])
def test_overflows_are_skipped_while_the_scale_is_searched_for(
    config: TrainBrats, monkeypatch: pytest.MonkeyPatch, method: str
):
    """From 65536 to 4096 it takes four halvings in a row, which are not bad steps; then all goes on as ever."""
    monkeypatch.setattr(gmd.training.tasks.segmentation, "region_loss", overflowing(region_loss, above=5000.0))
    config = replace(config, method=method, precision="fp16", steps_per_epoch=6, epochs=1, validate_every=2)
    run = train(replace(config, max_bad_steps=1))
    steps = read_metrics(run, "step")
    assert [step["scale"] for step in steps] == [65536.0 / 2**k for k in range(4)] + [4096.0, 4096.0]
    assert [step["finite"] for step in steps] == [False] * 4 + [True] * 2
    assert [epoch["skipped"] for epoch in read_metrics(run, "epoch")] == [4]
    state = load_checkpoint(run / "last.pt")
    assert state["scaler"]["scale"] == 4096.0
    assert {int(values["step"]) for values in state["optimizer"]["state"].values()} == {2}


@pytest.mark.slow
def test_a_gradient_that_no_scale_mends_still_stops_the_training(config: TrainBrats, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gmd.training.tasks.segmentation, "region_loss", overflowing(region_loss, above=-1.0))
    config = replace(config, method="joint", precision="fp16", steps_per_epoch=30, epochs=1, max_bad_steps=3)
    with pytest.raises(UserError, match=r"stopped at step 19: 3 steps in a row were skipped; not finite: the gradient"):
        train(config)  # 65536 is halved 16 times until it is 1


def test_a_loss_that_is_not_finite_is_a_bad_step_at_any_scale(config: TrainBrats, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gmd.training.tasks.segmentation, "region_loss", lambda *pair: region_loss(*pair) * torch.nan)
    with pytest.raises(UserError, match="stopped at step 2: 2 steps in a row were skipped; not finite: the loss"):
        train(replace(config, precision="fp16", max_bad_steps=2))


# Runs


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_resumed_run_is_the_uninterrupted_run_bit_for_bit(
    config: TrainBrats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
):
    """The scale, too, goes on where it was: in fp16 the first steps overflow here."""
    monkeypatch.setattr(gmd.training.tasks.segmentation, "region_loss", overflowing(region_loss, above=20000.0))
    config = replace(config, precision=precision, tol=0.1, granularity="tensor")
    straight = train(replace(config, out=tmp_path / "straight"))
    with monkeypatch.context() as patched:
        patched.setattr(gmd.training.loop, "validate", lambda *_: exit_now())
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, validate_every=1))  # after the first epoch's steps, before its checkpoint
    resumed = train(replace(config, resume=True))
    assert without_times(resumed) == without_times(straight)
    a, b = (load_checkpoint(run / "last.pt") for run in (straight, resumed))
    assert ("scaler" in a) == (precision == "fp16")
    assert a.get("scaler") == b.get("scaler")
    assert all(torch.equal(value, b["network"][name]) for name, value in a["network"].items())


def exit_now() -> None:
    raise KeyboardInterrupt


def test_a_slow_type_is_announced_once(config: TrainBrats, capsys: pytest.CaptureFixture):
    line = "bf16 is slow on this CPU: a convolution takes 2.5 times as long as in fp32 (measured)"
    assert slowness("bf16", CPU) == line
    assert slowness("fp32", CPU) is None
    assert slowness("fp16", torch.device("cuda")) is None
    train(replace(config, precision="bf16", epochs=1))
    assert capsys.readouterr().out.count(line) == 1


def test_a_fast_type_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gmd.models.precision, "convolution_time", {torch.float32: 1.0, torch.bfloat16: 0.5}.get)
    assert slowness("bf16", CPU) is None


def test_the_measurement_is_of_the_type_it_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    seen, conv3d = set(), torch.nn.functional.conv3d

    def watched(x: Tensor, weight: Tensor, **options) -> Tensor:
        seen.add((x.dtype, weight.dtype))
        return conv3d(x, weight, **options)

    monkeypatch.setattr(gmd.models.precision.F, "conv3d", watched)
    assert 0 < gmd.models.precision.convolution_time(torch.bfloat16) < 60
    assert seen == {(torch.bfloat16, torch.bfloat16)}


def test_evaluation_takes_the_precision_of_the_run_or_another(
    config: TrainBrats, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    run = train(replace(config, precision="bf16", epochs=1))
    types = set()
    predict = gmd.scoring.segmentation.scores.predict_modalities

    def watched(network, volumes, patch, precision):
        handle = network.head.register_forward_hook(lambda _, inputs, logits: types.add(logits.dtype))
        outputs = predict(network, volumes, patch, precision)
        handle.remove()
        assert all(logits.dtype == torch.float32 for logits in outputs.values())
        return outputs

    monkeypatch.setattr(gmd.scoring.segmentation.scores, "predict_modalities", watched)
    for precision, dtype in ((None, torch.bfloat16), ("fp32", torch.float32)):
        types.clear()
        capsys.readouterr()
        evaluate_run(run, precision=precision)
        assert types == {dtype}
        assert f"best.pt (epoch 1) of run, {precision or 'bf16'}." in (run / "evaluation/table.md").read_text(
            encoding="utf-8"
        )
        assert ("slow on this CPU" in capsys.readouterr().out) == (dtype == torch.bfloat16)


def test_a_checkpoint_loads_into_either_memory_format(config: TrainBrats):
    run = train(replace(config, epochs=1))
    _, network = load_run(run)
    plain = UNet3d(network.modalities, network.regions, width=config.width)
    plain.load_state_dict(load_checkpoint(run / "best.pt")["network"])
    formats = [net.encoder[1].conv2.weight.is_contiguous() for net in (plain, network)]
    assert formats == [True, False]
    volumes = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(plain(volumes, 0), network(volumes, 0))
    again = UNet3d(network.modalities, network.regions, width=config.width).to(memory_format=torch.channels_last_3d)
    again.load_state_dict(plain.state_dict())
    assert not again.encoder[1].conv2.weight.is_contiguous()
