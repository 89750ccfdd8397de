"""The optimizer of a run, and how its learning rate goes: torch's own optimizers and schedulers, by their options."""

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from gmd.config import TrainConfig

POWER = 0.9  # of the decay by `poly`, as everywhere in segmentation


def make_optimizer(params: Iterable[nn.Parameter], config: TrainConfig) -> Optimizer:
    """Returns the optimizer that `config.optimizer` names."""
    params = list(params)
    if config.optimizer == "sgd":
        return SGD(params, config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    kind = Adam if config.optimizer == "adam" else AdamW
    return kind(params, config.lr, weight_decay=config.weight_decay)


def make_schedule(optimizer: Optimizer, config: TrainConfig, steps_per_epoch: int) -> LRScheduler:
    """Returns what sets the learning rate in each step of the optimizer: the warm-up, then `config.schedule`.

    In warm-up step k of K, counted from 1, the rate is lr * k / (K + 1): it never is 0, and the schedule begins at lr.
    """
    warm = warmup_steps(config, steps_per_epoch)
    if not warm:
        return _after_warmup(optimizer, config, steps_per_epoch, 0)
    rising = LinearLR(optimizer, 1 / (warm + 1), total_iters=warm)
    if config.schedule in ("constant", "plateau"):
        return rising  # which leaves the rate alone afterwards
    return SequentialLR(optimizer, [rising, _after_warmup(optimizer, config, steps_per_epoch, warm)], [warm])


def warmup_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Returns how many steps the warm-up takes: one at least where there is any, and never all."""
    if not config.warmup:
        return 0
    return min(max(1, round(config.warmup * steps_per_epoch)), config.epochs * steps_per_epoch - 1)


def make_plateau(optimizer: Optimizer, config: TrainConfig) -> ReduceLROnPlateau | None:
    """Returns what lowers the learning rate when the validation's score stops rising; None with other schedules."""
    if config.schedule != "plateau":
        return None
    # as for --patience, a score is better if it is higher at all
    return ReduceLROnPlateau(optimizer, "max", config.decay, config.plateau_patience, 0.0, "abs")


def _after_warmup(optimizer: Optimizer, config: TrainConfig, steps_per_epoch: int, warm: int) -> LRScheduler:
    steps = config.epochs * steps_per_epoch - warm
    if config.schedule == "poly":
        return PolynomialLR(optimizer, total_iters=steps, power=POWER)
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimizer, steps)
    if config.schedule == "step":
        falls = [epoch * steps_per_epoch - warm for epoch in config.milestones]
        return MultiStepLR(optimizer, falls, config.decay)
    return ConstantLR(optimizer, factor=1.0, total_iters=1)
