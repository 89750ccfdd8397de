"""Training: from data on disk to a network that works with any subset of the modalities.

`train` is the whole of it. Everything random comes from (seed, epoch, index) or from the generators in the
checkpoint, so that a run that was interrupted, or killed, ends bit for bit as if it had never stopped. (On a CPU: some
GPU kernels of PyTorch add in varying order, unless --deterministic forbids it.)
"""

import time
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from gmd.config import TrainConfig
from gmd.errors import UserError
from gmd.models.precision import slowness
from gmd.monitor.log import Log
from gmd.monitor.metrics_file import METRICS
from gmd.monitor.records import Turn, bad_values, start_record, step_record
from gmd.monitor.resources import peak_memory, reset_peak_memory
from gmd.training.checkpoint import save_checkpoint, save_weights
from gmd.training.determinism import deterministic
from gmd.training.interruption import Interruption
from gmd.training.memory_advice import memory_advice
from gmd.training.run_folder import open_run
from gmd.training.state import Training
from gmd.training.step import train_step
from gmd.training.tasks import Task, Validation, open_task
from gmd.training.tasks.task import Batch

SLOW_EPOCH = 20  # seconds; pictures are drawn meanwhile for those who wait, not only at the end
# Seconds between checkpoints in an epoch, the most that a kill costs. Writing one takes a second or so: 0.2 % of that
SAVE_EVERY = 600


def train(config: TrainConfig) -> Path:
    """Trains as configured and returns the run's folder.

    The first SIGINT or SIGTERM raises KeyboardInterrupt after the running step, once last.pt holds all steps.
    Raises UserError for whatever the user can mend.
    """
    with deterministic(config.deterministic), memory_advice(config):
        config.check()
        task = open_task(config)
        config = task.config
        resumed = open_run(config, task.described())
        training = Training.prepare(task)
        if resumed:
            training.load_state_dict(resumed)
        say_first(task)
        run_epochs(training, task)
    run = config.out
    if training.skipped == training.steps:
        raise UserError(
            f"{run}: nothing was learnt, as all {training.steps} steps were skipped: a loss or gradient was not finite "
            f"in each, see {run / METRICS}. Start anew in another --out with a lower --lr, or mend the data"
        )
    print(draw_pictures(run, task))
    return run


def run_epochs(training: Training, task: Task) -> None:
    """Those that are left, until the last one or until --patience is at its end."""
    config = task.config
    if reason := training.why_finished(config):
        print(f"{config.out}: nothing is left to train; {reason}")
        return
    with Log(config.out, training.epochs, training.steps) as log, Interruption() as interruption:
        # from here on --resume works, and a full disk shows at once
        with interruption.held():
            save_training("last", training, config)
        reset_peak_memory(training.device)
        log.write(start_record(training.network, training.device, training.epochs, training.steps))
        try:
            while training.why_finished(config) is None:
                run_epoch(training, task, log, interruption)
        except KeyboardInterrupt:
            if interruption.whole:
                log.sync()
                save_training("last", training, config)
            raise
    print(training.why_finished(config))


def run_epoch(training: Training, task: Task, log: Log, interruption: Interruption) -> None:
    """The rest of an epoch; validates if it is time. All of it is recorded, and saved, when this returns."""
    config, epoch = task.config, training.epochs + 1
    summary = train_epoch(training, task, log, interruption)
    is_time = epoch % config.validate_every == 0 or epoch == config.epochs
    start = time.monotonic()
    validation = validate(task, training) if is_time else None
    seconds = training.seconds + time.monotonic() - start
    with interruption.held():
        finish_epoch(training, config, validation, seconds, log)
    told = [text for text in (summary, _validation_text(task, validation), f"{seconds:.0f} s") if text]
    print(f"epoch {epoch}/{config.epochs}: {', '.join(told)}", flush=True)
    if validation and seconds > SLOW_EPOCH:
        draw_pictures(config.out, task)


def train_epoch(training: Training, task: Task, log: Log, interruption: Interruption) -> str:
    """One pass over the batches, or what an interruption has left of it. Returns a summary in words."""
    config, epoch = task.config, training.epochs + 1
    done = training.steps - training.epochs * task.steps_per_epoch
    training.network.train()
    losses, conflicts, directions, text = [], [], [], ""
    batches = tqdm(
        task.batches(epoch, done),
        desc=f"epoch {epoch}/{config.epochs}",
        initial=done,
        total=task.steps_per_epoch,
        unit="step",
        leave=False,
    )
    saved = counted = time.monotonic()
    for batch in batches:
        with interruption.held():
            turns, record = logged_step(training, task, batch, log)
            now = time.monotonic()
            training.seconds, counted = training.seconds + now - counted, now
        if training.skipped_in_a_row >= config.max_bad_steps:
            raise UserError(_stopped(training, config, bad_values(turns)))
        if record["finite"]:
            losses.append(record["loss"])
            conflicts += [] if record["conflicts"] is None else [record["conflicts"]]
            directions += record["directions"] if config.tol > 0 else []
        text = _summary(losses, conflicts, directions, training.skipped)
        batches.set_postfix_str(text)
        if time.monotonic() - saved > SAVE_EVERY:
            with interruption.held():
                log.sync()
                save_training("last", training, config)
            saved = time.monotonic()
    return text


def logged_step(training: Training, task: Task, batch: Batch, log: Log) -> tuple[list[Turn], dict]:
    """A step, and what metrics.jsonl says of it."""
    before = {"lr": training.scheduler.get_last_lr()[0]}
    before |= {} if training.scaler is None else {"scale": training.scaler.get_scale()}
    turns = train_step(training, task, *batch)
    record = step_record(turns, task.config.modalities)
    log.write({"kind": "step", "epoch": training.epochs + 1, "step": training.steps} | before | record)
    return turns, record


def finish_epoch(
    training: Training, config: TrainConfig, validation: Validation | None, seconds: float, log: Log
) -> None:
    """Records and saves. The order matters to a kill: what last.pt says is finished is not done again."""
    training.epochs, training.seconds = training.epochs + 1, 0.0
    score, values = validation or (None, None)
    record = {"kind": "epoch", "epoch": training.epochs, "validation": score, "metrics": values}
    used = {"seconds": round(seconds, 3), "memory_MB": round(peak_memory(training.device), 1)}
    log.write(record | {"skipped": training.skipped} | used)
    log.sync()
    names = ["last"]
    if validation and training.count_score(score, training.epochs):
        names.insert(0, "best")
    for name in names:
        save_weights(config.out / f"{name}.safetensors", training.network, config)
        save_training(name, training, config)


def validate(task: Task, training: Training) -> Validation:
    return task.validate(training.network)


def say_first(task: Task) -> None:
    """What the user should know before a long run."""
    notes = task.notes()
    if slow := slowness(task.config.precision, task.config.torch_device()):
        notes.append(slow)
    for note in notes:
        print(note)


def save_training(name: str, training: Training, config: TrainConfig) -> None:
    save_checkpoint(config.out / f"{name}.pt", training.state_dict() | {"config": config.to_dict()})


def draw_pictures(run: Path, task: Task) -> str:
    """Returns the sentence that says which modality dominates."""
    # matplotlib is slow to import, and nothing else here needs it
    from gmd.pictures.dominance import write_dominance
    from gmd.pictures.run import ValidationPanel, draw_training

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
    return f"validation {task.score_name} {validation.score:.3f} ({each})"


def _stopped(training: Training, config: TrainConfig, reason: str) -> str:
    last = f"{config.out / 'last.pt'} ({training.epochs} epochs)"
    return (
        f"stopped at step {training.steps}: {training.skipped_in_a_row} steps in a row were skipped; "
        f"{reason}. The last checkpoint, {last}, is intact, but --resume would end here again: "
        f"start anew in another --out with a lower --lr (now {config.lr:g}), or mend the data"
    )
