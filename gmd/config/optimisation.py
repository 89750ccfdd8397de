"""The options of how weights change: optimizer, learning rate and its schedule, clipping, batches that add up."""

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import ClassVar, Literal

from gmd.config.checks import check_option


@dataclass(frozen=True)
class Optimisation:
    """The options of the optimizer and of what it is given; a part of every task's options.

    The text below a field is its --help.
    """

    epochs: int = 100
    """Passes over the training cases; poly and cosine take the learning rate to 0 over them."""
    batch: int = 1
    """Samples per forward and backward pass."""
    accumulate: int = 1
    """Batches per optimizer step: their gradients are averaged, each sample counting alike, as of one batch of so many
    times the size, with the memory of one. gmd operates on each batch by itself."""
    lr: float = 1e-3
    """Learning rate at the start, or after --warmup."""
    weight_decay: float = 1e-5
    """Weight decay: adamw's takes this share of the weights, times the learning rate, off in each step; adam and sgd
    add it to the gradient (L2)."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """Of torch.optim. adam and sgd are for recipes that were published with them."""
    momentum: float = 0.9
    """sgd: share of the last step's direction that is kept, 0 or more and less than 1."""
    schedule: Literal["poly", "cosine", "step", "plateau", "constant"] = "poly"
    """Of the learning rate. poly: to 0 by (1 - step / steps)^0.9. cosine: to 0 by half a cosine. step: times --decay at
    each of --milestones. plateau: times --decay when the validation's score stops rising. constant: none."""
    warmup: float = 0.0
    """Epochs, or a part of one, in which the learning rate rises step by step up to --lr; then the schedule begins."""
    milestones: tuple[int, ...] = ()
    """step: the epochs after which the learning rate falls, such as 60 80."""
    decay: float = 0.1
    """step, plateau: what the learning rate is multiplied with when it falls, between 0 and 1."""
    plateau_patience: int = 10
    """plateau: validations in a row without a better score that are waited for; at the next one the learning rate
    falls."""
    clip: float | None = None
    """Largest norm of the gradient of a step: a longer one is shortened to it, after surgery and scaling. metrics.jsonl
    has the norm before that. By default nothing is clipped."""
    shard: bool = False
    """In several processes: each keeps a part of the parameters, the gradients and the optimizer's state, by torch's
    fully_shard, and not a copy of all. What is computed, and what is saved, stays the same."""

    # options that mean something with some choices of another option only: which one, and these choices
    MEANT_WITH: ClassVar[dict[str, tuple[str, tuple[str, ...]]]] = {
        "momentum": ("optimizer", ("sgd",)),
        "milestones": ("schedule", ("step",)),
        "decay": ("schedule", ("step", "plateau")),
        "plateau_patience": ("schedule", ("plateau",)),
    }

    def check_optimisation(self) -> None:
        """Raises UserError for a value that cannot work, or that means nothing with the others."""
        check_option(self.momentum < 1, "momentum", self.momentum, "less than 1, at which steps grow for ever")
        below = "less than --epochs, after which nothing is trained"
        check_option(self.warmup < self.epochs, "warmup", self.warmup, f"{below} ({self.epochs})")
        check_option(self.decay < 1, "decay", self.decay, "less than 1, so that the learning rate falls")
        for name, (choice, ones) in self.MEANT_WITH.items():
            given, ordinary, chosen = getattr(self, name), getattr(type(self), name), getattr(self, choice)
            expected = f"--{choice} {' or '.join(ones)} with it; it means nothing to {chosen}"
            check_option(chosen in ones or given == ordinary, name, given, expected)
        if self.schedule == "step":
            self._check_milestones()

    def _check_milestones(self) -> None:
        """Raises UserError unless the learning rate falls somewhere between the warm-up and the end."""
        got = self.milestones or "nothing"
        expected = "the epochs after which the learning rate falls with --schedule step, such as 60 80"
        check_option(len(self.milestones) > 0, "milestones", got, expected)
        check_option(all(a < b for a, b in pairwise(self.milestones)), "milestones", got, "ascending numbers of epochs")
        inside = self.warmup < self.milestones[0] and self.milestones[-1] < self.epochs
        expected = f"epochs after the warm-up ({self.warmup:g}) and before the end ({self.epochs})"
        check_option(inside, "milestones", got, expected)


# what runs of earlier versions, whose files lack it, were trained with
ADDED = {
    field.name: field.default
    for field in fields(Optimisation)
    if field.name not in ("epochs", "batch", "lr", "weight_decay")
}
