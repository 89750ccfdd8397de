"""Training: from cases on disk to a network that segments with any subset of the modalities.

`train` is the whole of it. Everything random comes from (seed, epoch, index) or from the generator in the
checkpoint, so that a resumed run continues bit for bit as if it had never stopped. (On a CPU: some GPU
kernels of PyTorch add in varying order.)
"""

import math
import os
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import ClassVar, TextIO

import torch
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.lr_scheduler import PolynomialLR
from torch.utils.data import DataLoader
from tqdm import tqdm

from gmd.checkpoint import build_network, save_checkpoint
from gmd.config import TrainBrats
from gmd.data.cases import parse_patterns
from gmd.data.labels import SCHEMES
from gmd.data.patches import RandomPatches, collate
from gmd.data.splits import Splits, split_cases
from gmd.data.volumes import load_case
from gmd.errors import UserError
from gmd.evaluate import evaluate_cases
from gmd.methods import GMD, METHODS, MeanGradient, Report
from gmd.models.dynamic_sharing import Pairs, run_modalities
from gmd.models.unet3d import UNet3d
from gmd.precision import Precision, autocast, make_scaler, slowness
from gmd.run_folder import METRICS, drop_metrics_after, open_run, write_record
from gmd.subsets import Subset, subset_name
from gmd.tables import mean_over_subsets, subset_table


def train(config: TrainBrats) -> Path:
    """Trains as configured and returns the run's folder. Raises UserError for whatever the user can mend."""
    config.check()
    config, splits = find_splits(config)
    resumed = open_run(config, splits)
    patches, batches = training_batches(config, splits)
    training = Training.prepare(config, steps_per_epoch=len(batches))
    if resumed:
        training.load_state_dict(resumed)

    run = config.out
    note_absent(config, splits)
    note_slowness(config)
    drop_metrics_after(run, training.epochs)
    # from here on --resume works, and a full disk shows at once
    save_training(run / "last.pt", training, config)
    for epoch in range(training.epochs + 1, config.epochs + 1):
        start = time.monotonic()
        patches.epoch = epoch
        with open(run / METRICS, "a") as metrics:
            summary = train_epoch(training, batches, config, epoch, metrics)
            is_time = epoch % config.validate_every == 0 or epoch == config.epochs
            dice = validate(training.network, splits, config) if is_time else {}
            mean_dice = fmean(dice.values()) if dice else None
            seconds = round(time.monotonic() - start, 3)
            record = {"kind": "epoch", "epoch": epoch, "validation": mean_dice, "per_region": dice or None}
            write_record(metrics, record | {"skipped": training.skipped, "seconds": seconds})
            os.fsync(metrics.fileno())  # a checkpoint must not be ahead of its metrics

        training.epochs = epoch
        if dice and mean_dice > training.best_dice:
            training.best_dice = mean_dice
            save_training(run / "best.pt", training, config)
        save_training(run / "last.pt", training, config)
        print(f"epoch {epoch}/{config.epochs}: {summary}{_dice_text(dice)}, {seconds:.0f} s", flush=True)
        if dice:
            draw_pictures(run)
    return run


@dataclass
class Training:
    """All that changes while training, and so all that a checkpoint holds."""

    network: UNet3d
    optimizer: torch.optim.Optimizer
    scheduler: PolynomialLR
    generator: torch.Generator  # of the orders in which GMD projects
    surgeon: GMD | MeanGradient
    precision: Precision
    scaler: torch.amp.GradScaler | None  # of the losses, in fp16
    epochs: int = 0  # finished
    steps: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_dice: float = -1.0  # of all validations so far

    PARTS: ClassVar = ("network", "optimizer", "scheduler", "scaler")
    COUNTS: ClassVar = ("epochs", "steps", "skipped", "skipped_in_a_row", "best_dice")

    @classmethod
    def prepare(cls, config: TrainBrats, steps_per_epoch: int) -> "Training":
        torch.manual_seed(config.seed)
        device = config.torch_device()
        network = build_network(config).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), config.lr, weight_decay=config.weight_decay)
        scheduler = PolynomialLR(optimizer, total_iters=config.epochs * steps_per_epoch, power=0.9)
        generator = torch.Generator().manual_seed(config.seed)
        scaler = make_scaler(config.precision, device)
        options = {"scaler": scaler}
        if METHODS[config.method].surgeon is GMD:
            options |= {"generator": generator, "granularity": config.granularity, "model": network, "tol": config.tol}
        surgeon = METHODS[config.method].surgeon(optimizer, **options)
        return cls(network, optimizer, scheduler, generator, surgeon, config.precision, scaler)

    def parts(self) -> dict:
        """What has a state_dict of its own."""
        parts = {name: getattr(self, name) for name in self.PARTS}
        return {name: part for name, part in parts.items() if part is not None}

    def state_dict(self) -> dict:
        parts = {name: part.state_dict() for name, part in self.parts().items()}
        counts = {name: getattr(self, name) for name in self.COUNTS}
        return parts | counts | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        for name in self.COUNTS:
            setattr(self, name, state[name])
        self.generator.set_state(state["generator"])


def train_epoch(training: Training, batches: Iterable, config: TrainBrats, epoch: int, metrics: TextIO) -> str:
    """One pass over `batches`, a line of `metrics` for each step. Returns a summary in words."""
    training.network.train()
    losses, conflicts, directions, text = [], [], [], ""
    bar = tqdm(batches, desc=f"epoch {epoch}/{config.epochs}", unit="step", leave=False)
    for inputs, targets in bar:
        before = {"lr": training.scheduler.get_last_lr()[0]}
        before |= {} if training.scaler is None else {"scale": training.scaler.get_scale()}
        subsets, report = train_step(training, inputs, targets, config.method)
        record = step_record(subsets, report)
        write_record(metrics, {"kind": "step", "epoch": epoch, "step": training.steps} | before | record)
        if training.skipped_in_a_row >= config.max_bad_steps:
            raise UserError(_stopped(training, config, bad_values(subsets, report)))
        if record["finite"]:
            losses.append(record["loss"])
            conflicts += [] if record["conflicts"] is None else [record["conflicts"]]
            directions += record["directions"] if config.tol > 0 else []
        text = _summary(losses, conflicts, directions, training.skipped)
        bar.set_postfix_str(text)
    return text


def train_step(training: Training, inputs: Pairs, targets: Tensor, method: str) -> tuple[list[Subset], Report]:
    """Forward, backward, and an optimizer step if all is finite. Returns the subsets that have a loss."""
    device = next(training.network.parameters()).device
    inputs, targets = _to_device(inputs, targets, device)
    with autocast(training.precision, device):
        outputs = run_modalities(training.network, inputs)
    outputs = replace(outputs, values={m: logits.float() for m, logits in outputs.values.items()})
    losses = METHODS[method].objectives(outputs, targets, region_loss)

    training.optimizer.zero_grad(set_to_none=True)
    report = training.surgeon.backward(list(losses.values()), outputs=outputs.values)
    step_if_finite(training, report)
    training.steps += 1
    with warnings.catch_warnings():
        # torch takes a skipped first step for the two calls in the wrong order
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        training.scheduler.step()
    return list(losses), report


def step_if_finite(training: Training, report: Report) -> None:
    """The optimizer's step, or one more that was skipped."""
    scaler = training.scaler
    if report.finite:
        training.optimizer.step() if scaler is None else scaler.step(training.optimizer)
        training.skipped_in_a_row = 0
    else:
        training.skipped += 1
        # to overflow is how a scaler finds the largest scale that does not; it halves the scale then
        searching = scaler is not None and bool(report.losses.isfinite().all()) and scaler.get_scale() > 1
        training.skipped_in_a_row += not searching
    if scaler is not None:
        scaler.update()


def region_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Soft Dice per sample and region, plus binary cross-entropy: both [B, R, X, Y, Z] -> scalar.

    Not MONAI's DiceCELoss: with several channels that takes a softmax over them, but regions overlap.
    """
    return _dice_loss(logits, targets) + binary_cross_entropy_with_logits(logits, targets)


_dice_loss = DiceLoss(sigmoid=True)


def validate(network: UNet3d, splits: Splits, config: TrainBrats) -> dict[str, float]:
    """Region -> hard Dice on the validation cases, mean over the subsets that exist."""
    bar = tqdm(splits.validation, desc="validation", unit="case", leave=False)
    cases = (load_case(case, SCHEMES[config.labels]) for case in bar)
    scores = evaluate_cases(network, cases, config.patch, config.precision)
    return mean_over_subsets(subset_table(scores, config.modalities, network.regions))


def find_splits(config: TrainBrats) -> tuple[TrainBrats, Splits]:
    """The cases, and the configuration with its label scheme and data folder pinned down."""
    splits = split_cases(config.data, config.modalities, parse_patterns(config.patterns) or None, config.seed)
    return replace(config, labels=config.labels or splits.scheme, data=config.data.resolve()), splits


def training_batches(config: TrainBrats, splits: Splits) -> tuple[RandomPatches, DataLoader]:
    steps = config.steps_per_epoch or math.ceil(len(splits.train) / config.batch)
    patches = RandomPatches(
        splits.train,
        SCHEMES[config.labels],
        config.modalities,
        config.patch,
        length=steps * config.batch,
        seed=config.seed,
        cache=config.cache,
    )
    together = partial(collate, modalities=config.modalities)
    return patches, DataLoader(patches, config.batch, collate_fn=together)


def note_absent(config: TrainBrats, splits: Splits) -> None:
    absent = [m for m in config.modalities if not any(m in case.images for case in splits.train)]
    if absent:
        print(f"no training case has {' or '.join(absent)}: subsets with it are left out")


def note_slowness(config: TrainBrats) -> None:
    if slow := slowness(config.precision, config.torch_device()):
        print(slow)


def save_training(path: Path, training: Training, config: TrainBrats) -> None:
    save_checkpoint(path, training.state_dict() | {"config": config.to_dict()})


def step_record(subsets: list[Subset], report: Report) -> dict:
    """What metrics.jsonl says of a step; no conflicts or cosines if there is one gradient, or a bad one."""
    values, finite = report.losses.tolist(), bool(report.finite)
    several = finite and len(report.gram) > 1
    return {
        "loss": fmean(values),
        "losses": {subset_name(subset): value for subset, value in zip(subsets, values, strict=True)},
        "conflicts": float(report.conflicts) if several else None,
        "cosines": report.cosines.cpu().round(decimals=4).tolist() if several else None,
        "directions": None if report.directions is None else list(report.directions),
        "discarded": None if report.discarded is None else report.discarded.tolist(),
        "finite": finite,
    }


def bad_values(subsets: list[Subset], report: Report) -> str:
    """Which losses, or else which gradients, of a step are NaN or infinite."""
    names = [subset_name(subset) for subset in subsets]
    losses = dict(zip(names, report.losses.tolist(), strict=True))
    if bad := [f"{name} ({value})" for name, value in losses.items() if not math.isfinite(value)]:
        return f"not finite: the loss of {', '.join(bad)}"
    squares = report.gram.diagonal().tolist()
    if len(squares) < len(names):
        return "not finite: the gradient of the mean loss"
    bad = [name for name, square in zip(names, squares, strict=True) if not math.isfinite(square)]
    return f"not finite: the gradient of {', '.join(bad)}"


def draw_pictures(run: Path) -> None:
    # matplotlib is slow to import, and nothing else here needs it
    from gmd.pictures import draw_training

    draw_training(run)


def _to_device(inputs: Pairs, targets: Tensor, device: torch.device) -> tuple[Pairs, Tensor]:
    values = {m: value.to(device, memory_format=torch.channels_last_3d) for m, value in inputs.values.items()}
    return replace(inputs, values=values), targets.to(device)


def _summary(losses: list[float], conflicts: list[float], directions: list[int], skipped: int) -> str:
    parts = [f"loss {fmean(losses):.3f}"] if losses else []
    parts += [f"conflicts {100 * fmean(conflicts):.0f} %"] if conflicts else []
    parts += [f"directions {fmean(directions):.1f}"] if directions else []
    return ", ".join(parts + ([f"skipped {skipped}"] if skipped else []))


def _dice_text(dice: dict[str, float]) -> str:
    each = " ".join(f"{region} {value:.3f}" for region, value in dice.items())
    return f", validation Dice {fmean(dice.values()):.3f} ({each})" if dice else ""


def _stopped(training: Training, config: TrainBrats, reason: str) -> str:
    last = f"{config.out / 'last.pt'} ({training.epochs} epochs)"
    return (
        f"stopped at step {training.steps}: {training.skipped_in_a_row} steps in a row were skipped; "
        f"{reason}. The last checkpoint, {last}, is intact, but --resume would end here again: "
        f"start anew in another --out with a lower --lr (now {config.lr:g}), or mend the data"
    )
