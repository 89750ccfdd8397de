"""One step of a training: forward, backward, and an optimizer step if all is finite."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gmd.data.batch_part import representative_samples
from gmd.data.modality_dropout import drop_modalities
from gmd.data.pairs import Pairs
from gmd.errors import UserError
from gmd.monitor.merged_turns import merged
from gmd.monitor.records import Turn
from gmd.monitor.transfer import on_host
from gmd.subsets import Subset, all_subsets, subset_name
from gmd.surgery import Report
from gmd.together import Lost, refuse, summed, waited_for
from gmd.training.accumulation import collect, shares
from gmd.training.clip import clip_
from gmd.training.methods import METHODS, Method
from gmd.training.objectives import full_objective
from gmd.training.objectives_together import Counts, agreed_subsets, agreed_whole
from gmd.training.state import Training, forward
from gmd.training.tasks import Task
from gmd.training.tasks.task import Batch

Value = TypeVar("Value")
Losses = dict[str, Tensor] | list[Tensor]
Part = Callable[[], tuple[dict[str, Tensor], dict[str, Tensor]]]  # (losses by name, outputs of the modalities)


def train_step(
    training: Training, task: Task, inputs: Pairs, targets: Tensor, more: Sequence[Batch] = ()
) -> list[Turn]:
    """Makes a step on a batch, or on several that add up: forward, backward, and the optimizer's step if all is finite.

    The methods that alternate, mla, do so for one modality after the other.

    Args:
        training: the state, which changes.
        task: what the run learns.
        inputs: the batch's pairs of sample and modality, on the CPU.
        targets: [n, ...], the batch's targets, on the CPU.
        more: inputs and targets of the step's other batches, with `accumulate`.

    Returns:
        The turns that were made: one, or one for each modality of the batches.
    """
    method = METHODS[task.config.method]
    batches = [(inputs, targets), *more]
    if method.dropout:
        batches = [(drop_modalities(pairs, training.generator), values) for pairs, values in batches]
    turns = _each_alone(batches, task.config.modalities) if method.alternating else [batches]
    done = [_turn(training, task, method, turn) for turn in turns]
    training.steps += 1
    count_skipped(training, done)
    with warnings.catch_warnings():
        # torch takes a skipped first step for the two calls in the wrong order
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        training.scheduler.step()
    return done


def _turn(training: Training, task: Task, method: Method, batches: list[Batch]) -> Turn:
    """Makes the optimizer's step on the gradients of some batches, unless a loss or gradient is not finite."""
    if len(batches) == 1:
        turn = _passes(training, task, method, batches[0], task.config.clip)
    else:
        turn = _accumulated(training, task, method, batches)
    if turn.report.finite:
        training.optimizer.step()
    return turn


def _accumulated(training: Training, task: Task, method: Method, batches: list[Batch]) -> Turn:
    """Leaves the mean gradient of several batches in `.grad`."""
    params, turns = list(training.network.parameters()), []
    total: dict[nn.Parameter, Tensor] = {}
    weights = shares(inputs for inputs, _ in batches)
    for batch, share in zip(batches, weights, strict=True):
        turns.append(_passes(training, task, method, batch))
        collect(total, params, share)
    for param, gradient in total.items():
        param.grad = gradient
    turn = merged(turns, weights, task.config.modalities)
    if task.config.clip is None:
        return turn
    return turn._replace(report=replace(turn.report, squared_norm=clip_(params, task.config.clip).cpu()))


def _passes(training: Training, task: Task, method: Method, batch: Batch, clip: float | None = None) -> Turn:
    """Goes forward and backward through a batch, and leaves its gradient in `.grad`, clipped if it is to be."""
    inputs, targets = task.to_device(*batch, training.device) if batch[0].num_samples else batch
    if training.shared is None:
        found = forward(task, method, training.network, inputs, targets)
        of_subsets, subsets = found.losses, list(found.losses)
        given = method.given(training.parts_for(task), found.outputs, targets)
    else:
        counts, subsets = _agreed(training, task, method, batch)
        if task.config.scope == "local":
            counts = _own(counts)
            subsets = list(counts)
        of_subsets = training.shared(inputs, targets, counts)
        given = {"counts": _named(counts) if method.named else list(counts.values())}
        given = given if task.config.scope == "global" else {}
    if part := _part(training, task, method, inputs, targets):
        given["part"] = part

    training.optimizer.zero_grad(set_to_none=True)
    losses = _named(of_subsets) if method.named else list(of_subsets.values())
    report = _backward(training, task, losses, given, ", ".join(map(subset_name, subsets)))
    if clip is not None:
        report = replace(report, squared_norm=clip_(training.network.parameters(), clip, report.squared_norm))
    # whether to step has to be known on the host; all else that is recorded comes along
    report = on_host(report)
    if training.shared is not None and task.config.scope == "local":
        report = _as_all(report, training.steps)
    searching = not report.finite and is_searching(training, report)
    if training.scaler is not None:
        # `.grad` is unscaled, and whether it has overflown is in the report: the scaler need not step the optimizer
        training.scaler.update()
    return Turn(subsets, report, searching)


def _backward(training: Training, task: Task, losses: Losses, given: dict[str, Any], names: str) -> Report:
    """Makes the gradient of the losses. names: of their objectives, for messages"""
    try:
        with waited_for(f"step {training.steps + 1}, the gradients of {names}"), warnings.catch_warnings():
            # DistributedDataParallel copies gradients of 1x1x1 convolutions, which a channels-last layout lets differ
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            return training.surgeon.backward(losses, **given)
    except Lost:
        raise
    except ValueError as error:  # a weighting may want more objectives than a batch has, or other losses
        if task.config.weighting is None:
            raise
        told = UserError(f"--weighting {task.config.weighting}: {error}; the objectives were {names}")
        told.__cause__ = error
        refuse(told, "the weights of a step")


def _agreed(training: Training, task: Task, method: Method, batch: Batch) -> tuple[Counts, list[Subset]]:
    """Returns what this process has of the objectives of a step of several, and which objectives there are."""
    (inputs, targets), modalities = batch, task.config.modalities
    what = f"step {training.steps + 1}, its objectives"
    if method.objectives is full_objective:
        own = (inputs.num_samples, task.counted(targets) if inputs.num_samples else 0)
        return agreed_whole(own, list(inputs.values), modalities, what)
    having = {subset: inputs.having(subset) for subset in all_subsets(tuple(inputs.values))}
    found = {subset: (len(some), task.counted(targets[some])) for subset, some in having.items() if some}
    return agreed_subsets(found, modalities, what)


def _own(counts: Counts) -> Counts:
    """Returns the objectives that this process has a sample of; of a process without any, one that counts 0."""
    own = {subset: count for subset, count in counts.items() if count}
    return own or {max(counts, key=len): 0}


def _as_all(report: Report, steps: int) -> Report:
    """Returns a report that is not finite if that of some process is not: no process may step without the others."""
    bad = summed([not report.finite], f"step {steps + 1}, whether it is finite")
    return report if not bad[0] else replace(report, squared_norm=torch.tensor(torch.nan, dtype=torch.float64))


def _part(training: Training, task: Task, method: Method, inputs: Pairs, targets: Tensor) -> Part | None:
    """Returns what runs the part of the batch that weights are taken from; None if that is the whole batch."""
    if task.config.fraction == 1:
        return None
    samples = representative_samples(inputs, task.config.fraction)
    if len(samples) == inputs.num_samples:
        return None

    def run() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        found = forward(task, method, training.network, inputs.of(samples), targets[samples])
        return _named(found.losses), found.outputs.values

    return run


def _named(values: dict[Subset, Value]) -> dict[str, Value]:
    return {subset_name(subset): value for subset, value in values.items()}


def _each_alone(batches: Sequence[Batch], modalities: Sequence[str]) -> list[list[Batch]]:
    """Returns the batches of each modality by itself."""
    alone = [
        [
            (replace(inputs, samples={m: inputs.samples[m]}, values={m: inputs.values[m]}), targets)
            for inputs, targets in batches
            if m in inputs.values
        ]
        for m in modalities
    ]
    return [turn for turn in alone if turn]


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
