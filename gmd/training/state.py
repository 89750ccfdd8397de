"""The state of a training: all that a checkpoint holds, and that --resume goes on with."""

from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import nn
from torch.optim.lr_scheduler import PolynomialLR

from gmd.config import TrainConfig
from gmd.models.precision import make_scaler
from gmd.training.methods import METHODS, Parts
from gmd.training.tasks import Task


@dataclass
class Training:
    """All that changes while training, and so all that a checkpoint holds."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: PolynomialLR
    generator: torch.Generator  # of the orders in which GMD projects, and of OGM-GE's noise
    surgeon: object
    scaler: torch.amp.GradScaler | None  # of the losses, in fp16
    epochs: int = 0  # finished
    steps: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_score: float = -float("inf")  # of all validations so far
    best_epoch: int = 0
    not_better: int = 0  # validations in a row
    seconds: float = 0.0  # that the unfinished epoch has taken, before an interruption too

    COUNTS: ClassVar = (
        *("epochs", "steps", "skipped", "skipped_in_a_row"),
        *("best_score", "best_epoch", "not_better", "seconds"),
    )

    @classmethod
    def prepare(cls, task: Task) -> "Training":
        config = task.config
        torch.manual_seed(config.seed)
        device = config.torch_device()
        network = task.build_network().to(device)
        optimizer = torch.optim.AdamW(network.parameters(), config.lr, weight_decay=config.weight_decay)
        scheduler = PolynomialLR(optimizer, total_iters=config.epochs * task.steps_per_epoch, power=0.9)
        generator = torch.Generator().manual_seed(config.seed)
        training = cls(network, optimizer, scheduler, generator, None, make_scaler(config.precision, device))
        training.surgeon = METHODS[config.method].make(training.parts_for(task))
        return training

    def parts_for(self, task: Task) -> Parts:
        return Parts(
            task.config,
            self.network,
            self.optimizer,
            self.generator,
            self.scaler,
            task.criterion,
            task.metric,
            task.score,
            lambda outputs, subset: task.predict(self.network, outputs, subset),
        )

    def stateful(self) -> dict:
        """What has a state_dict of its own."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in parts.items() if hasattr(part, "state_dict")}

    def state_dict(self) -> dict:
        parts = {name: part.state_dict() for name, part in self.stateful().items()}
        counts = {name: getattr(self, name) for name in self.COUNTS}
        # dropout draws from torch's own generators
        random = {"random": torch.get_rng_state(), "generator": self.generator.get_state()}
        device = self.device
        gpu = {"random_gpu": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
        return parts | counts | random | gpu

    def load_state_dict(self, state: dict) -> None:
        for name, part in self.stateful().items():
            part.load_state_dict(state[name])
        for name in self.COUNTS:
            setattr(self, name, state[name])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        if "random_gpu" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_gpu"], self.device)

    def count_score(self, score: float, epoch: int) -> bool:
        """Whether this is the best validation so far, which NaN never is."""
        if not score > self.best_score:
            self.not_better += 1
            return False
        self.best_score, self.best_epoch, self.not_better = score, epoch, 0
        return True

    def why_finished(self, config: TrainConfig) -> str | None:
        """A sentence, or None if epochs are left to train."""
        if self.epochs >= config.epochs:
            return f"trained for {self.epochs} epochs"
        if config.patience is None or self.not_better < config.patience:
            return None
        best = f"better than epoch {self.best_epoch}'s {self.best_score:.3f}" if self.best_epoch else "a number"
        return f"stopped early, after epoch {self.epochs}: no score was {best} for {self.not_better} validations"

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device
