"""Training: from data on disk to a network that works with any subset of the modalities.

`train` is the whole of it. Everything random comes from (seed, epoch, index) or from the generators in the checkpoint.
So a run that was interrupted, or killed, and went on with --resume on the same machine ends bit for bit as if it had
never stopped. That is on a CPU: some GPU kernels of PyTorch add in varying order, unless --deterministic forbids it.
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from tqdm import tqdm

from gmd.config import TrainConfig
from gmd.decoration import decoration
from gmd.errors import UserError
from gmd.monitor.log import Log, NoLog
from gmd.monitor.records import Turn, bad_values, start_record, step_record
from gmd.monitor.resources import peak_memory, reset_peak_memory
from gmd.printing import say
from gmd.together import (
    Lost,
    agreed,
    by_first,
    gathered,
    is_first,
    joined,
    processes,
    rank,
    refuse,
    shared_out,
)
from gmd.training import messages
from gmd.training.checked_state import check_state
from gmd.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from gmd.training.determinism import deterministic
from gmd.training.interruption import Interruption
from gmd.training.lockstep import in_lockstep
from gmd.training.memory_advice import memory_advice
from gmd.training.restart import gone_on
from gmd.training.run_folder import check_folder, open_run, state_to_resume
from gmd.training.run_lock import locked_together
from gmd.training.several import check_several
from gmd.training.sharding import gathered as gathered_parameters
from gmd.training.sharding import whole
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
    Raises UserError for whatever the user can mend, another process that trains in the folder among it; OSError if the
    run's folder cannot be written to.
    """
    with joined(), deterministic(config.deterministic), memory_advice(config):
        config = gone_on(config)
        agreed(lambda: _check(config), "the check of the options")
        with locked_together(config.out, config.force):
            return _train(config)


def _check(config: TrainConfig) -> None:
    """Raises UserError for what is wrong before anything is read."""
    config.check()
    if not config.resume:
        config.check_new()
    check_several(config)
    if is_first():
        check_folder(config)


def _train(config: TrainConfig) -> Path:
    """Trains as configured, in a folder that nobody else writes into meanwhile, and returns it."""
    task = agreed(lambda: open_task(config), "reading the data")
    config = task.config
    task.check()
    described = task.described()
    training = _begun(task, described)
    by_first(lambda: open_run(config, described), "opening the folder of the run")
    say(*messages.before_training(task, training.network))
    run_epochs(training, task)
    if training.skipped == training.steps:
        refuse(UserError(messages.nothing_learnt(training, config)), "the end of the training")
    if is_first() and (told := draw_pictures(config.out, task)):
        say(told)
    return config.out


def _begun(task: Task, described: dict) -> Training:
    """Returns the state that the training begins with, or goes on from."""
    config = task.config
    resumed = agreed(lambda: _resumed(config, described), "reading the run to go on with")

    def begin() -> Training:
        training = Training.prepare(task)
        if resumed:
            state = training.completed(resumed)
            check_state(state, training, task.steps_per_epoch, config.out / "last.pt")
            training.load_state_dict(state)
        return training

    training = agreed(begin, "making the network")
    if processes() > 1:
        training.share(task)
    if resumed and (told := messages.other_processes(len(resumed.get("others", [])) + 1, processes())):
        say(f"{config.out / 'last.pt'}: {told}")
    return training


def _resumed(config: TrainConfig, described: dict) -> dict | None:
    """Returns the checkpoint to go on from, which the first of several processes checks; None for a new run."""
    if is_first():
        return state_to_resume(config, described)
    return load_checkpoint(config.out / "last.pt") if config.resume else None


def run_epochs(training: Training, task: Task) -> None:
    """Runs the epochs that are left, until the last one or until --patience is used up."""
    config = task.config
    if reason := training.why_finished(config):
        say(f"{config.out}: nothing is left to train; {reason}")
        return
    with (
        Log(config.out, training.epochs, training.steps) if is_first() else NoLog() as log,
        Interruption(alone=processes() == 1, tells=is_first()) as interruption,
    ):
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
        except Lost:
            raise
        except UserError as error:  # a case that has become unreadable, say
            if not interruption.whole or training.skipped_in_a_row >= config.max_bad_steps:
                raise
            log.sync()
            save_training("last", training, config)
            stopped = UserError(messages.stopped_and_saved(training, config, error))
            stopped.told_elsewhere = error.told_elsewhere
            raise stopped from error
    say(training.why_finished(config))


def run_epoch(training: Training, task: Task, log: Log, interruption: Interruption) -> None:
    """Trains what is left of an epoch and validates if it is time. All is recorded and saved when this returns."""
    config, epoch = task.config, training.epochs + 1
    means = train_epoch(training, task, log, interruption)
    is_time = epoch % config.validate_every == 0 or epoch == config.epochs
    start = time.monotonic()
    validation = validate(task, training, interruption) if is_time else None
    seconds = training.seconds + time.monotonic() - start
    with interruption.held():
        finish_epoch(training, config, validation, seconds, log)
    say(messages.after_epoch(task, epoch, means, validation, seconds))
    if validation and seconds > SLOW_EPOCH and is_first():
        draw_pictures(config.out, task)


def train_epoch(training: Training, task: Task, log: Log, interruption: Interruption) -> str:
    """Passes over the batches of an epoch, or those that an interruption has left. Returns a summary in words."""
    config, means = task.config, messages.EpochMeans()
    training.network.train()
    bar = batches_left(training, task)
    counted = time.monotonic()
    saved = [counted]
    for batches, is_due in in_lockstep(bar, interruption, lambda: time.monotonic() - saved[0] > SAVE_EVERY):
        with interruption.held():
            turns, record = logged_step(training, task, batches, log)
            now = time.monotonic()
            training.seconds, counted = training.seconds + now - counted, now
        if training.skipped_in_a_row >= config.max_bad_steps:
            refuse(UserError(messages.too_many_skipped(training, config, bad_values(turns))), "a step that was skipped")
        means.add(record, config, training.skipped)
        bar.set_postfix_str(means.text)
        if is_due():
            with interruption.held():
                log.sync()
                save_training("last", training, config)
            saved[0] = time.monotonic()
    return means.text


def batches_left(training: Training, task: Task) -> "tqdm[list[Batch]]":
    """Returns the batches of the running epoch that no step has seen, those of a step together, behind a bar."""
    epoch = training.epochs + 1
    done = training.steps - training.epochs * task.steps_per_epoch
    return tqdm(
        batches_of_steps(task, epoch, done),
        desc=f"epoch {epoch}/{task.config.epochs}",
        initial=done,
        total=task.steps_per_epoch,
        unit="step",
        leave=False,
    )


def batches_of_steps(task: Task, epoch: int, done: int = 0) -> Iterator[list[Batch]]:
    """Yields the batches of each step of an epoch, but for the first `done` steps; the last step may have fewer."""
    several = task.config.accumulate
    left = iter(task.batches(epoch, done * several))
    while batches := list(islice(left, several)):
        yield batches


def logged_step(training: Training, task: Task, batches: list[Batch], log: Log) -> tuple[list[Turn], dict]:
    """Makes a step and writes its line of metrics.jsonl. Returns its turns and its record."""
    before = {"lr": training.optimizer.param_groups[0]["lr"]}
    before |= {} if training.scaler is None else {"scale": training.scaler.get_scale()}
    (inputs, targets), *more = batches
    turns = train_step(training, task, inputs, targets, more) if more else train_step(training, task, inputs, targets)
    record = step_record(turns, task.config.modalities)
    if task.config.clip is not None:
        record["norm"] = longest(turns)
    log.write({"kind": "step", "epoch": training.epochs + 1, "step": training.steps} | before | record)
    return turns, record


def longest(turns: Sequence[Turn]) -> float:
    """Returns the largest norm of a turn's gradient before it was clipped; NaN if one is not a number."""
    norms = [turn.report.squared_norm for turn in turns]
    return float(torch.stack([norm for norm in norms if norm is not None]).sqrt().max())


def finish_epoch(
    training: Training, config: TrainConfig, validation: Validation | None, seconds: float, log: Log
) -> None:
    """Records and saves an epoch. The order matters to a kill: what last.pt says is finished is not done again."""
    training.epochs, training.seconds = training.epochs + 1, 0.0
    score, values = (None, None) if validation is None else validation
    record = {"kind": "epoch", "epoch": training.epochs, "validation": score, "metrics": values}
    used = {"seconds": round(seconds, 3), "memory_MB": round(peak_memory(training.device), 1)}
    log.write(record | {"skipped": training.skipped} | used)
    log.sync()
    best = score is not None and training.count_score(score, training.epochs)
    if score is not None and training.plateau is not None:
        training.plateau.step(score)
    weights = whole(training.network.state_dict())
    for name in ("best", "last") if best else ("last",):
        path = config.out / f"{name}.safetensors"
        by_first(partial(save_weights, path, weights, config), f"writing {path.name}")
        save_training(name, training, config)


def validate(task: Task, training: Training, interruption: Interruption) -> Validation:
    """Scores the network on the validation split: several processes have the first one's running statistics then."""
    training.share_statistics()
    what = f"the validation of epoch {training.epochs + 1}"
    with gathered_parameters(training.shared):
        return task.validate(training.network, partial(shared_out, what=what, stop=lambda: interruption.wanted))


def save_training(name: str, training: Training, config: TrainConfig) -> None:
    """Writes the checkpoint NAME.pt of the run, from which training goes on and which the other commands load.

    Of several processes the first one writes it, with the states of the others' generators.
    """
    path = config.out / f"{name}.pt"
    _, *others = gathered(training.own_state(config) if rank() else None, f"writing {path.name}")
    state = whole(training.state_dict()) | {"config": config.to_dict()} | ({"others": others} if others else {})
    by_first(lambda: save_checkpoint(path, state), f"writing {path.name}")


def draw_pictures(run: Path, task: Task) -> str | None:
    """Draws the pictures of the run so far. Returns the sentence that says which modality dominates.

    Returns None, and says why, if that fails: the network is worth more than its pictures.
    """
    return decoration("not all pictures of the training are drawn", lambda: _draw(run, task))


def _draw(run: Path, task: Task) -> str:
    # matplotlib is slow to import, and nothing else here needs it
    from gmd.pictures.curves import ValidationPanel
    from gmd.pictures.dominance import write_dominance
    from gmd.pictures.training import draw_training

    draw_training(run, ValidationPanel(task.score_title, task.score_name, task.score_limits))
    write_dominance(run)
    return (run / "dominance.txt").read_text(encoding="utf-8").splitlines()[0]
