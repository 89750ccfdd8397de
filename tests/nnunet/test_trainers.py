"""nnU-Net's trainers with subset losses: how they are found, what a step is, what a checkpoint holds."""

import copy
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.measure.nnunet_plans import DATASET, NAMES, dataset_json
from gmd.errors import UserError
from gmd.subsets import all_subsets
from helpers.nnunet_toy import ALL
from helpers.nnunet_training import LABELS, REGIONS, batch_of, made, nnunet_folders, small_plans, write_preprocessed

pytest.importorskip("nnunetv2", reason="needs the extra nnunet")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*torch.jit.interface.*:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]

EXTERNAL = Path(__file__).parents[2] / "gmd" / "nnunet" / "external"
JOINT, DROPOUT, ENUMERATE, GMD = (f"nnUNetTrainerGMD{suffix}" for suffix in ("Joint", "Dropout", "Enumerate", ""))
MISSING = {"case0": [1], "case3": [0, 2]}  # numbers of the channels that are zeros
SHORT = {"num_epochs": 2, "num_iterations_per_epoch": 2, "num_val_iterations_per_epoch": 1}
FULL = ("case1", "case2")
SAID = dataset_json(REGIONS)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """nnU-Net's folders, with five preprocessed cases."""
    folder = tmp_path_factory.mktemp("nnunet")
    with nnunet_folders(folder):
        write_preprocessed(folder, small_plans(), SAID, MISSING)
        yield folder


@pytest.fixture
def make(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes a trainer by its name; others of its plans and its dataset.json may be given, and a key "gmd"."""
    from nnunetv2.training.logging.nnunet_logger import MetaLogger

    monkeypatch.setattr(MetaLogger, "plot_progress_png", lambda self, folder: None)

    def make_one(name: str, gmd: object = None, said: dict = SAID, initialize: bool = True, **changed: Any) -> Any:
        trainer = made(name, small_plans(gmd, **changed), said)
        if initialize:
            trainer.initialize()
            trainer.present = {case: list(range(len(trainer.channels))) for case in FULL} | {"case0": [0, 2, 3]}
        return trainer

    return make_one


def weights_of(trainer: Any) -> list[torch.Tensor]:
    return [p.detach().clone() for p in trainer.network.parameters()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# ---- how they are found ----


@pytest.mark.parametrize("name", [JOINT, DROPOUT, ENUMERATE, GMD])
def test_nnunet_finds_them_in_the_folder_and_always_the_same_class(name, root, monkeypatch):
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    monkeypatch.setenv("nnUNet_extTrainer", str(EXTERNAL))
    found = recursive_find_trainer_class_by_name(name)
    assert found is recursive_find_trainer_class_by_name(name)
    assert found is getattr(sys.modules["gmd.nnunet.trainers"], name)
    assert found.__module__ == "gmd.nnunet.trainers"


def test_it_finds_them_beside_somebody_elses(root, monkeypatch, tmp_path):
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    (tmp_path / "somebodys_trainers.py").write_text("x = 1\n")
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path), str(EXTERNAL)]))
    assert recursive_find_trainer_class_by_name(GMD).__name__ == GMD


def test_without_the_variable_it_does_not(root, monkeypatch):
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    with pytest.raises(RuntimeError, match=f"Could not find requested nnunet trainer {GMD}"):
        recursive_find_trainer_class_by_name(GMD)


def test_the_folder_holds_nothing_else():
    """Whatever lies there is imported as a module of its own name."""
    assert {path.name for path in EXTERNAL.glob("*.py")} == {"__init__.py", "gmd_trainers.py"}


# ---- a step ----


def losses_of_step(trainer: Any, batch: dict, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Takes a step; returns the losses and the outputs that the surgeon was given."""
    seen = []
    backward = trainer.surgeon.backward

    def spied(losses: Any, outputs: Any) -> Any:
        seen.append((losses, outputs))
        return backward(losses, outputs=outputs)

    monkeypatch.setattr(trainer.surgeon, "backward", spied)
    trainer.train_step(batch)
    [(losses, outputs)] = seen
    return losses, outputs


@pytest.mark.parametrize("name", [ENUMERATE, GMD])
def test_objectives_are_the_subsets_of_the_channels(name, make, monkeypatch):
    trainer = make(name)
    before = weights_of(trainer)
    losses, outputs = losses_of_step(trainer, batch_of(trainer, FULL), monkeypatch)
    assert list(losses) == all_subsets(ALL)
    assert list(outputs) == list(ALL)
    assert all(output.shape[0] == 2 and output.ndim == 2 for output in outputs.values())
    assert not same(weights_of(trainer), before)


def test_joint_has_one_loss_of_all_that_each_row_has(make, monkeypatch):
    trainer = make(JOINT)
    losses, outputs = losses_of_step(trainer, batch_of(trainer, ("case0", "case1")), monkeypatch)
    assert len(losses) == 1
    assert {m: len(output) for m, output in outputs.items()} == dict(zip(ALL, (2, 1, 2, 2), strict=True))


def test_dropout_draws_another_subset_for_each_row(make, monkeypatch):
    trainer = make(DROPOUT)
    seen = set()
    for _ in range(60):
        kept = trainer.kept({"channel0": [0, 1], "channel2": [1]})
        assert 0 in kept["channel0"]
        seen.add(tuple(m for m, rows in kept.items() if 1 in rows))
    assert seen == {("channel0",), ("channel2",), ("channel0", "channel2")}
    losses, _ = losses_of_step(trainer, batch_of(trainer, FULL), monkeypatch)
    assert len(losses) == 1


def test_a_joint_step_is_one_of_nnunets_own_on_the_same_network(make):
    """Its own would clip, step and weigh the resolutions in the same way: after two steps all parameters agree."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    ours, theirs = make(JOINT), make(JOINT)
    assert same(weights_of(ours), weights_of(theirs))
    for seed in range(2):
        batch = batch_of(ours, FULL, seed)
        told = ours.train_step(batch)["loss"]
        expected = nnUNetTrainer.train_step(theirs, batch)["loss"]
        torch.testing.assert_close(torch.as_tensor(told), torch.as_tensor(expected), rtol=1e-6, atol=1e-6)
    for got, value in zip(weights_of(ours), weights_of(theirs), strict=True):
        torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_after_the_surgery(make):
    trainer = make(GMD)
    trainer.loss.loss = Times(trainer.loss.loss, lambda: 1e5)
    norms = []
    trainer.optimizer.register_step_pre_hook(
        lambda *_: norms.append(float(torch.nn.utils.get_total_norm(gradients(trainer))))
    )
    trainer.train_step(batch_of(trainer, FULL))
    assert norms == [pytest.approx(12, rel=1e-4)]


class Times(torch.nn.Module):
    """A criterion times whatever the factor is at a call."""

    def __init__(self, criterion: torch.nn.Module, factor: Callable[[], float]):
        super().__init__()
        self.criterion, self.factor = criterion, factor

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.criterion(output, target) * self.factor()


def gradients(trainer: Any) -> list[torch.Tensor]:
    return [p.grad for p in trainer.network.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", [JOINT, ENUMERATE, GMD])
def test_a_scaler_changes_nothing_but_skips_steps_that_overflow(name, make):
    plain, scaled = make(name), make(name, initialize=False)
    scaled.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    scaled.initialize()
    scaled.present = plain.present
    for seed in range(2):
        batch = batch_of(plain, FULL, seed)
        plain.train_step(batch)
        scaled.train_step(batch)
    for got, value in zip(weights_of(scaled), weights_of(plain), strict=True):
        torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-6)
    before = weights_of(scaled)
    factors = itertools.chain([torch.inf], itertools.repeat(1.0))  # of one objective of all
    scaled.loss.loss = Times(scaled.loss.loss, lambda: next(factors))
    scaled.train_step(batch_of(scaled, FULL, 2))
    assert same(weights_of(scaled), before)
    assert scaled.grad_scaler.get_scale() == 2.0**7


@pytest.mark.parametrize("every", [3, "auto"])
def test_between_a_step_makes_one_pass_and_conflicts_are_logged_of_those_that_took_weights(every, make):
    trainer = make(GMD, {"every": every, "tol": 0})
    outputs = [trainer.train_step(batch_of(trainer, FULL, seed)) for seed in range(4)]
    refreshed = [report.refreshed for report in trainer._reports]
    assert refreshed == ([True, False, False, True] if every == 3 else [True, False, False, False])
    trainer.on_train_epoch_end(outputs)
    told = f"mean over the {sum(refreshed)} of 4 steps that took weights"
    assert told in Path(trainer.log_file).read_text()
    assert trainer._reports == []


# ---- what data show, and what cases have ----


def test_a_case_without_a_channel_trains_its_own_subsets_though_augmentation_makes_noise_of_the_channel(
    make, monkeypatch
):
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    def noisy(*args: Any, **kwargs: Any) -> ComposeTransforms:
        noise = GaussianNoiseTransform(noise_variance=(0.5, 0.5), p_per_channel=1)
        return ComposeTransforms([nnUNetTrainer.get_training_transforms(*args, **kwargs), noise])

    trainer = make(GMD)
    monkeypatch.setattr(trainer, "get_training_transforms", noisy)
    monkeypatch.setattr(trainer, "do_split", lambda: (["case0"], ["case3"]))
    loader, _ = trainer.get_dataloaders()
    batch = next(loader)
    assert (batch["data"][:, 1].flatten(1).std(dim=1) > 0.1).all()
    assert trainer.present == {**trainer.present, "case0": [0, 2, 3], "case3": [1, 3]}
    losses, _ = losses_of_step(trainer, batch, monkeypatch)
    assert list(losses) == all_subsets(("channel0", "channel2", "channel3"))


def test_what_cases_lack_is_logged(make):
    trainer = make(GMD)
    trainer.get_tr_and_val_datasets()
    told = "Channels missing in the 5 cases of this fold: flair in 1, t1 in 1, t1ce in 1"
    assert told in Path(trainer.log_file).read_text()


def test_with_several_gpus_every_case_needs_every_channel(make):
    trainer = make(GMD)
    trainer.is_ddp = True
    with pytest.raises(UserError, match=r"case0: lacks a channel, expected all .*more than one GPU"):
        trainer.get_tr_and_val_datasets()


# ---- validation ----

VARIANTS = {
    "regions": ({**REGIONS}, {}),
    "labels": ({**LABELS}, {}),
    "labels, ignored": ({"labels": {**LABELS["labels"], "ignore": 3}}, {}),
    "regions, ignored": ({**REGIONS, "labels": {**REGIONS["labels"], "ignore": 3}}, {}),
    "dice over the batch": ({**REGIONS}, {"batch_dice": True}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_counts_with_all_channels_are_nnunets_own(variant, make):
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    labels, changed = VARIANTS[variant]
    trainer = make(ENUMERATE, said=dataset_json(labels), **changed)
    batch = batch_of(trainer, FULL)
    trainer.network.eval()
    with torch.no_grad():
        _, targets = trainer._on_device(batch)
        outputs = trainer._outputs(batch["data"], trainer._rows(batch))
        counts = trainer._counts(outputs, ALL, targets[0])
        pooled = trainer.validation_step(copy.deepcopy(batch))
        expected = nnUNetTrainer.validation_step(trainer, copy.deepcopy(batch))
    names = ("tp_hard", "fp_hard", "fn_hard")
    for got, name in zip(counts, names, strict=True):
        assert got.tolist() == expected[name].tolist()
    for name in names:
        assert pooled[name].shape == expected[name].shape
    positives = expected["tp_hard"] + expected["fn_hard"]
    assert (pooled["tp_hard"] + pooled["fn_hard"]).tolist() == (15 * positives).tolist()


def test_two_dimensions_without_deep_supervision(make):
    trainer = make(GMD, initialize=False, patch_size=[8, 8], architecture=architecture_2d())
    trainer.enable_deep_supervision = False
    trainer.initialize()
    trainer.present = {case: [0, 1, 2, 3] for case in FULL}
    batch = {
        "data": torch.randn(2, 4, 8, 8),
        "target": torch.rand(2, 2, 8, 8) > 0.5,
        "keys": list(FULL),
    }
    before = weights_of(trainer)
    assert trainer.train_step(batch)["loss"].shape == ()
    assert not same(weights_of(trainer), before)
    with torch.no_grad():
        assert trainer.validation_step(batch)["tp_hard"].shape == (2,)


def architecture_2d() -> dict:
    from bench.measure.nnunet_plans import plans

    return plans((8, 8), (4, 8))["configurations"]["3d_fullres"]["architecture"]


# ---- whole runs and their checkpoints ----


@pytest.mark.parametrize("name", [JOINT, DROPOUT, ENUMERATE, GMD])
def test_a_short_run_and_its_prediction(name, make, monkeypatch):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    monkeypatch.setenv("nnUNet_extTrainer", str(EXTERNAL))
    trainer = make(name, SHORT, initialize=False)
    trainer.run_training()
    assert trainer.current_epoch == 2
    assert all(bool(p.isfinite().all()) for p in trainer.network.parameters())
    predictor = nnUNetPredictor(use_mirroring=True, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,))
    torch.manual_seed(1)
    data = torch.randn(4, 10, 8, 12)
    data[2] = 0
    network = predictor.network
    with torch.inference_mode():
        fused = network(data[None, :, :8, :8, :8])
        alone = [network.shared(data[None, c : c + 1, :8, :8, :8], f"channel{c}") for c in (0, 1, 3)]
    torch.testing.assert_close(fused, sum(alone) / 3, rtol=1e-5, atol=1e-6)
    logits = predictor.predict_sliding_window_return_logits(data)
    assert logits.shape == (2, 10, 8, 12)
    assert logits.isfinite().all()


def test_a_run_goes_on_where_it_was_interrupted(make, root):
    from nnunetv2.run.run_training import maybe_load_checkpoint

    first = make(GMD, SHORT, initialize=False)
    first.run_training()
    second = made(GMD, small_plans({**SHORT, "num_epochs": 3}), SAID, continue_training=True)
    maybe_load_checkpoint(second, True, False)
    assert second.current_epoch == 2
    assert same(weights_of(first), weights_of(second))
    second.run_training()
    assert second.current_epoch == 3


@pytest.mark.parametrize("name", [DROPOUT, GMD])
def test_steps_after_a_checkpoint_are_those_that_would_have_been(name, make, tmp_path):
    """Weights that were taken, orders of projection and random subsets go on as if nothing had been."""
    trainer = make(name, {"every": 4, "tol": 0.1})
    path = str(tmp_path / "checkpoint.pth")
    for seed in range(3):
        trainer.train_step(batch_of(trainer, FULL, seed))
    trainer.save_checkpoint(path)
    other = make(name, {"every": 4, "tol": 0.1})
    other.train_step(batch_of(other, FULL, 9))  # so that it has weights of its own
    other.load_checkpoint(path)
    for seed in range(3, 8):
        batch = batch_of(trainer, FULL, seed)
        trainer.train_step(batch)
        other.train_step(batch)
    assert same(weights_of(trainer), weights_of(other))


def test_a_checkpoint_without_what_gmd_adds_can_be_loaded(make, tmp_path):
    trainer, path = make(GMD), tmp_path / "checkpoint.pth"
    trainer.train_step(batch_of(trainer, FULL))
    trainer.save_checkpoint(str(path))
    kept = torch.load(path, weights_only=False)
    del kept["optimizer_state"]["gmd"]
    torch.save(kept, path)
    other = make(GMD)
    other.load_checkpoint(str(path))
    assert same(weights_of(trainer), weights_of(other))
    assert "weights are taken at the next step" in Path(other.log_file).read_text()
    other.train_step(batch_of(other, FULL))
    assert other._reports[-1].refreshed


def test_weights_of_another_interval_are_taken_anew(make, tmp_path):
    trainer, path = make(GMD, {"every": 4}), tmp_path / "checkpoint.pth"
    trainer.train_step(batch_of(trainer, FULL))
    trainer.save_checkpoint(str(path))
    other = make(GMD, {"every": 2})
    other.load_checkpoint(str(path))
    other.train_step(batch_of(other, FULL))
    assert other._reports[-1].refreshed


def test_a_checkpoint_of_channels_in_another_order_is_refused(make, tmp_path):
    trainer, path = make(GMD), tmp_path / "checkpoint.pth"
    trainer.save_checkpoint(str(path))
    other = make(GMD, said=dataset_json(REGIONS, NAMES[::-1]))
    with pytest.raises(UserError, match="the same channels in another order, t2, t1ce, t1, flair; expected flair"):
        other.load_checkpoint(str(path))


def test_weights_of_one_trainer_are_pretrained_weights_of_another(make, tmp_path):
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    trainer, other, path = make(ENUMERATE), make(GMD), tmp_path / "checkpoint.pth"
    trainer.train_step(batch_of(trainer, FULL))
    trainer.save_checkpoint(str(path))
    load_pretrained_weights(other.network, str(path))
    names = dict(other.network.named_parameters())
    for name, value in trainer.network.named_parameters():
        assert torch.equal(names[name], value) or ".seg_layers." in name  # which nnU-Net leaves out


# ---- what is refused ----


@pytest.mark.parametrize(
    ("changed", "said", "told"),
    [
        ({"channels": 1}, dataset_json(REGIONS, NAMES[:1]), "got 1 channel, expected 2 to 6"),
        ({"channels": 7}, dataset_json(REGIONS, "abcdefg"), "got 7 channels, expected 2 to 6"),
        ({"previous_stage": "3d_lowres"}, SAID, "got the second stage of a cascade"),
        ({"gmd": {"evry": 2}}, SAID, "configuration 3d_fullres, gmd: got 'evry'"),
        ({}, dataset_json(REGIONS, NAMES[:3]), "dataset.json: got 3 channels, expected 4, as the plans have"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(changed, said, told, root):
    changed = dict(changed)
    planned = small_plans(changed.pop("gmd", None), **changed)
    results = root / "nnUNet_results" / DATASET
    before = sorted(results.rglob("*")) if results.exists() else []
    with pytest.raises(UserError, match=told):
        made(GMD, planned, said)
    assert (sorted(results.rglob("*")) if results.exists() else []) == before


def test_a_channel_of_another_constant_is_refused_before_the_first_step(make, monkeypatch):
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    load = nnUNetDatasetBlosc2.load_case

    def constant(self: Any, case: str) -> tuple:
        data, *rest = load(self, case)
        data = data[:]
        if case == "case4":
            data[2] = -1
        return data, *rest

    monkeypatch.setattr(nnUNetDatasetBlosc2, "load_case", constant)
    with pytest.raises(UserError, match="case4: channel t1ce: got -1 in every voxel"):
        make(GMD).get_tr_and_val_datasets()


def test_views_are_compiled_one_by_one_where_nnunet_would_compile(make, monkeypatch):
    import torch._functorch.config
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from gmd.nnunet.network import SubsetNetwork

    compiled = []
    monkeypatch.setattr(nnUNetTrainer, "_do_i_compile", lambda self: True)
    monkeypatch.setattr(SubsetNetwork, "compile", lambda self: compiled.append(self))
    with torch._functorch.config.patch(donated_buffer=True), torch.compiler.config.patch(cache_key_tag=""):
        trainer = make(GMD)
        assert compiled == [trainer.network]
        assert not torch._functorch.config.donated_buffer
        assert torch.compiler.config.cache_key_tag == "several losses"
        trainer.train_step(batch_of(trainer, FULL))
