"""Training: from data on disk to a network that works with any subset of the modalities.

`train` is the whole of it. Everything random comes from (seed, epoch, index) or from the generators in the
checkpoint, so that a resumed run continues bit for bit as if it had never stopped. (On a CPU: some GPU
kernels of PyTorch add in varying order.)
"""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TextIO

from tqdm import tqdm

from gmd.checkpoint import save_checkpoint
from gmd.config import TrainConfig
from gmd.errors import UserError
from gmd.monitor.step_record import bad_values, step_record
from gmd.monitor.tensorboard import Scalars
from gmd.precision import slowness
from gmd.run_folder import METRICS, drop_metrics_after, open_run, write_record
from gmd.tasks import Task, Validation, open_task
from gmd.training import Training, train_step

SLOW_EPOCH = 20  # seconds; pictures are drawn meanwhile for those who wait, not only at the end


def train(config: TrainConfig) -> Path:
    """Trains as configured and returns the run's folder. Raises UserError for whatever the user can mend."""
    config.check()
    task = open_task(config)
    config = task.config
    resumed = open_run(config, task.described())
    training = Training.prepare(task)
    if resumed:
        training.load_state_dict(resumed)

    run = config.out
    say_first(task)
    drop_metrics_after(run, training.epochs)
    # from here on --resume works, and a full disk shows at once
    save_training(run / "last.pt", training, config)
    with Scalars(run, training.steps + 1) as scalars:
        for epoch in range(training.epochs + 1, config.epochs + 1):
            validation = run_epoch(training, task, epoch, scalars)
            training.epochs = epoch
            if validation and validation.score > training.best_score:
                training.best_score = validation.score
                save_training(run / "best.pt", training, config)
            save_training(run / "last.pt", training, config)
    if training.skipped == training.steps:
        raise UserError(
            f"{run}: nothing was learnt, as all {training.steps} steps were skipped: a loss or gradient was not finite "
            f"in each, see {run / METRICS}. Start anew in another --out with a lower --lr, or mend the data"
        )
    print(draw_pictures(run, task))
    return run


def run_epoch(training: Training, task: Task, epoch: int, scalars: Scalars) -> Validation | None:
    """Trains and, if it is time, validates; all of it recorded on disk when this returns."""
    config, start = task.config, time.monotonic()
    with open(config.out / METRICS, "a") as metrics:
        write = partial(write_everywhere, metrics, scalars)
        summary = train_epoch(training, task, epoch, write)
        is_time = epoch % config.validate_every == 0 or epoch == config.epochs
        validation = validate(task, training) if is_time else None
        score, values = validation or (None, None)
        record = {"kind": "epoch", "epoch": epoch, "validation": score, "metrics": values}
        seconds = round(time.monotonic() - start, 3)
        write(record | {"skipped": training.skipped, "seconds": seconds})
        scalars.flush()
        os.fsync(metrics.fileno())  # a checkpoint must not be ahead of its metrics
    text = _validation_text(task, validation)
    print(f"epoch {epoch}/{config.epochs}: {summary}{text}, {seconds:.0f} s", flush=True)
    if validation and seconds > SLOW_EPOCH:
        draw_pictures(config.out, task)
    return validation


def train_epoch(training: Training, task: Task, epoch: int, write: Callable[[dict], None]) -> str:
    """One pass over the batches, a record for each step. Returns a summary in words."""
    config = task.config
    training.network.train()
    losses, conflicts, directions, text = [], [], [], ""
    batches = tqdm(
        task.batches(epoch),
        desc=f"epoch {epoch}/{config.epochs}",
        total=task.steps_per_epoch,
        unit="step",
        leave=False,
    )
    for inputs, targets in batches:
        before = {"lr": training.scheduler.get_last_lr()[0]}
        before |= {} if training.scaler is None else {"scale": training.scaler.get_scale()}
        turns = train_step(training, task, inputs, targets)
        record = step_record(turns, config.modalities)
        write({"kind": "step", "epoch": epoch, "step": training.steps} | before | record)
        if training.skipped_in_a_row >= config.max_bad_steps:
            raise UserError(_stopped(training, config, bad_values(turns)))
        if record["finite"]:
            losses.append(record["loss"])
            conflicts += [] if record["conflicts"] is None else [record["conflicts"]]
            directions += record["directions"] if config.tol > 0 else []
        text = _summary(losses, conflicts, directions, training.skipped)
        batches.set_postfix_str(text)
    return text


def validate(task: Task, training: Training) -> Validation:
    return task.validate(training.network)


def write_everywhere(metrics: TextIO, scalars: Scalars, record: dict) -> None:
    write_record(metrics, record)
    scalars.write(record)


def say_first(task: Task) -> None:
    """What the user should know before a long run."""
    notes = task.notes()
    if slow := slowness(task.config.precision, task.config.torch_device()):
        notes.append(slow)
    for note in notes:
        print(note)


def save_training(path: Path, training: Training, config: TrainConfig) -> None:
    save_checkpoint(path, training.state_dict() | {"config": config.to_dict()})


def draw_pictures(run: Path, task: Task) -> str:
    """Returns the sentence that says which modality dominates."""
    # matplotlib is slow to import, and nothing else here needs it
    from gmd.monitor.dominance_picture import write_dominance
    from gmd.pictures import ValidationPanel, draw_training

    draw_training(run, ValidationPanel(task.score_title, task.score_name))
    write_dominance(run)
    return (run / "dominance.txt").read_text(encoding="utf-8").splitlines()[0]


def _summary(losses: list[float], conflicts: list[float], directions: list[int], skipped: int) -> str:
    parts = [f"loss {fmean(losses):.3f}"] if losses else []
    parts += [f"conflicts {100 * fmean(conflicts):.0f} %"] if conflicts else []
    parts += [f"directions {fmean(directions):.1f}"] if directions else []
    return ", ".join(parts + ([f"skipped {skipped}"] if skipped else []))


def _validation_text(task: Task, validation: Validation | None) -> str:
    if validation is None:
        return ""
    others = [(name, value) for name, value in validation.metrics.items() if name != task.score_name]
    each = ", ".join(f"{name} {value:.3f}" for name, value in others[:3])
    return f", validation {task.score_name} {validation.score:.3f} ({each})"


def _stopped(training: Training, config: TrainConfig, reason: str) -> str:
    last = f"{config.out / 'last.pt'} ({training.epochs} epochs)"
    return (
        f"stopped at step {training.steps}: {training.skipped_in_a_row} steps in a row were skipped; "
        f"{reason}. The last checkpoint, {last}, is intact, but --resume would end here again: "
        f"start anew in another --out with a lower --lr (now {config.lr:g}), or mend the data"
    )
