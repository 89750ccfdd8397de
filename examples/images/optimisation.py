"""AdamW as published: what is decayed, and the learning rate of each step."""

import math

import torch
from torch import nn

START, END = 1e-3, 1e-2  # of the highest learning rate: 5e-7 and 5e-6 of 5e-4


def make_optimizer(network: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """Returns AdamW that decays neither biases nor parameters of one axis, such as those of norms."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in network.named_parameters():
        groups[parameter.ndim > 1 and not name.endswith(".bias")].append(parameter)
    decayed, plain = groups[True], groups[False]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}], lr
    )


def rate(step: int, warmup: int, total: int) -> float:
    """Returns the learning rate of a step as a share of the highest one.

    step: counted from 0; warmup: steps in which it rises from START to 1; total: steps, over the rest of which it falls
        to END as half a cosine
    """
    if step < warmup:
        return START + (1 - START) * step / warmup
    part = (step - warmup) / max(1, total - warmup)
    return END + (1 - END) * (1 + math.cos(math.pi * part)) / 2
