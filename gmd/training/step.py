"""One step of a training: forward, backward, and an optimizer step if all is finite."""

import warnings
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from gmd.data.batch_part import representative_samples
from gmd.data.modality_dropout import drop_modalities
from gmd.data.pairs import Pairs, Values
from gmd.models.precision import autocast
from gmd.monitor.records import Turn
from gmd.monitor.transfer import on_host
from gmd.subsets import Subset, subset_name
from gmd.surgery import Report
from gmd.training.methods import METHODS, Method
from gmd.training.state import Training
from gmd.training.tasks import Task

Part = Callable[[], tuple[dict[str, Tensor], dict[str, Tensor]]]  # (losses by name, outputs of the modalities)


def train_step(training: Training, task: Task, inputs: Pairs, targets: Tensor) -> list[Turn]:
    """Trains on a batch: a forward and a backward pass, and an optimizer step if all is finite.

    The methods that alternate, mla, do so for one modality after the other.

    Args:
        training: the state, which changes.
        task: what the run learns.
        inputs: the batch's pairs of sample and modality, on the CPU.
        targets: [n, ...], the batch's targets, on the CPU.

    Returns:
        The turns that were made: one, or one for each modality of the batch.
    """
    method = METHODS[task.config.method]
    if method.dropout:
        inputs = drop_modalities(inputs, training.generator)
    inputs, targets = task.to_device(inputs, targets, training.device)
    turns = _each_alone(inputs) if method.alternating else [inputs]
    done = [_turn(training, task, method, turn, targets) for turn in turns]
    training.steps += 1
    count_skipped(training, done)
    with warnings.catch_warnings():
        # torch takes a skipped first step for the two calls in the wrong order
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        training.scheduler.step()
    return done


def _turn(training: Training, task: Task, method: Method, inputs: Pairs, targets: Tensor) -> Turn:
    """Makes one backward pass of a batch on the network's device, and the optimizer's step on it."""
    losses, outputs = _forward(training, task, method, inputs, targets)
    given = method.given(training.parts_for(task), outputs, targets)
    if part := _part(training, task, method, inputs, targets):
        given["part"] = part

    training.optimizer.zero_grad(set_to_none=True)
    # whether to step has to be known on the host; all else that is recorded comes along
    report = on_host(training.surgeon.backward(_named(losses) if method.named else list(losses.values()), **given))
    searching = not report.finite and is_searching(training, report)
    step_if_finite(training, report)
    return Turn(list(losses), report, searching)


def _forward(
    training: Training, task: Task, method: Method, inputs: Pairs, targets: Tensor
) -> tuple[dict[Subset, Tensor], Pairs[Tensor]]:
    """Returns the losses of a batch, by their subsets of the modalities, and the outputs that they come from."""
    with autocast(task.config.precision, training.device):
        outputs = task.outputs(training.network, inputs)
    return method.objectives(outputs, targets, task.criterion, training.parts_for(task).predict), outputs


def _part(training: Training, task: Task, method: Method, inputs: Pairs, targets: Tensor) -> Part | None:
    """Returns what runs the part of the batch that weights are taken from; None if that is the whole batch."""
    if task.config.fraction == 1:
        return None
    samples = representative_samples(inputs, task.config.fraction)
    if len(samples) == inputs.num_samples:
        return None

    def run() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        losses, outputs = _forward(training, task, method, inputs.of(samples), targets[samples])
        return _named(losses), outputs.values

    return run


def _named(losses: dict[Subset, Tensor]) -> dict[str, Tensor]:
    return {subset_name(subset): loss for subset, loss in losses.items()}


def _each_alone(inputs: Pairs[Values]) -> list[Pairs[Values]]:
    """Returns the pairs of each modality by themselves."""
    return [replace(inputs, samples={m: inputs.samples[m]}, values={m: values}) for m, values in inputs.values.items()]


def step_if_finite(training: Training, report: Report) -> None:
    """Makes the optimizer's step, unless a loss or gradient is not finite; and updates the scale of the losses."""
    scaler = training.scaler
    if report.finite:
        training.optimizer.step() if scaler is None else scaler.step(training.optimizer)
    if scaler is not None:
        scaler.update()


def is_searching(training: Training, report: Report) -> bool:
    """Says whether a step is not finite only because the scaler looks for the largest scale that does not overflow.

    Gradients overflow then, but not losses, and the scaler makes the scale smaller, down to 1.
    """
    scaler = training.scaler
    return scaler is not None and bool(report.losses.isfinite().all()) and scaler.get_scale() > 1


def count_skipped(training: Training, turns: list[Turn]) -> None:
    """Counts the step as skipped, once, if that of any of its turns was."""
    skipped = [turn for turn in turns if not turn.report.finite]
    if not skipped:
        training.skipped_in_a_row = 0
        return
    training.skipped += 1
    training.skipped_in_a_row += not all(turn.searching for turn in skipped)
