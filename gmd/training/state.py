"""The state of a training: all that changes while it runs, so all that a checkpoint holds and --resume goes on with."""

from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gmd.config import TrainConfig
from gmd.data.pairs import Pairs
from gmd.models.multimodal import MultimodalNetwork
from gmd.models.precision import autocast, make_scaler
from gmd.surgery import CGGM, GMD
from gmd.together import processes, rank, waited_for
from gmd.training.methods import METHODS, Merger, Method, Parts
from gmd.training.objectives import full_objective
from gmd.training.objectives_together import Forward, Objectives, data_parallel
from gmd.training.schedule import make_optimizer, make_plateau, make_schedule
from gmd.training.sharding import pieces_of_network, pieces_of_optimizer, shard
from gmd.training.tasks import Task


@dataclass
class Training:
    """What a training has come to.

    Attributes:
        network: on the run's device.
        optimizer: of the network's weights.
        scheduler: of the learning rate, step by step.
        plateau: of the learning rate, validation by validation; None unless the schedule is `plateau`.
        generator: of the orders in which GMD projects, of OGM-GE's noise, and of the modalities that are dropped.
        surgeon: makes the gradient of a step.
        scaler: of the losses, in fp16.
        shared: where several processes train, the network with its losses behind it, whose parameters are in pieces
            with --shard; None for one by itself.
        epochs: how many are finished.
        steps: how many the optimizer has made, skipped ones too.
        skipped: how many steps were skipped, because a loss or gradient was not finite.
        skipped_in_a_row: how many of the latest steps were skipped, without those in search of the losses' scale.
        best_score: the highest score of all validations so far.
        best_epoch: the epoch of that score; 0 before there is one.
        not_better: how many validations in a row, the latest ones, were no better than the best.
        seconds: how long the unfinished epoch has taken, before an interruption too.
    """

    network: MultimodalNetwork
    optimizer: torch.optim.Optimizer
    scheduler: LRScheduler
    plateau: ReduceLROnPlateau | None
    generator: torch.Generator
    surgeon: Merger
    scaler: torch.amp.GradScaler | None
    shared: nn.Module | None = None
    epochs: int = 0
    steps: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_score: float = -float("inf")
    best_epoch: int = 0
    not_better: int = 0
    seconds: float = 0.0

    COUNTS: ClassVar = (
        *("epochs", "steps", "skipped", "skipped_in_a_row"),
        *("best_score", "best_epoch", "not_better", "seconds"),
    )

    @classmethod
    def prepare(cls, task: Task) -> "Training":
        """Makes the state that a run begins with. Seeds torch's own generators with the run's seed.

        It is the same in all of several processes, but for what they draw of their shares of the batches.
        """
        config = task.config
        torch.manual_seed(config.seed)
        device = config.torch_device()
        network = task.build_network().to(device)
        shared = None
        if config.shard and processes() > 1:
            shared = _with_losses(task, network)
            shard(shared, device)
        optimizer = make_optimizer(network.parameters(), config)
        scheduler = make_schedule(optimizer, config, task.steps_per_epoch)
        plateau = make_plateau(optimizer, config)
        generator = torch.Generator().manual_seed(config.seed)
        scaler = make_scaler(config.precision, device)
        parts = _parts(task, network, optimizer, generator, scaler, 0, shared)
        surgeon = METHODS[config.method].make(parts)
        training = cls(network, optimizer, scheduler, plateau, generator, surgeon, scaler, shared)
        if rank():
            training.draw_by_itself(config)
        return training

    def share(self, task: Task) -> None:
        """Joins the networks of several processes, which then have the weights of the first one, or have them shared.

        With --shard they are joined already.
        """
        if self.shared is None:
            with waited_for("the start of the training"):
                self.shared = data_parallel(_with_losses(task, self.network))

    def share_statistics(self) -> None:
        """Gives several processes the running statistics of the first one's network, which each takes of its share."""
        if processes() > 1:
            with waited_for("the running statistics of the first process"):
                for buffer in self.network.buffers():
                    dist.broadcast(buffer, 0)

    def draw_by_itself(self, config: TrainConfig) -> None:
        """Gives a process but the first random numbers of its own, for its share of the batches; orders stay common."""
        [own] = np.random.SeedSequence([config.seed, rank()]).generate_state(1)
        torch.manual_seed(int(own))
        if METHODS[config.method].dropout:
            self.generator.manual_seed(int(own))

    def parts_for(self, task: Task) -> Parts:
        """Returns what the surgeon was made of, for its backward passes to draw on."""
        return _parts(task, self.network, self.optimizer, self.generator, self.scaler, self.steps)

    def stateful(self) -> dict[str, Any]:
        """Returns the attributes that have a state_dict of their own."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in parts.items() if name != "shared" and hasattr(part, "state_dict")}

    def state_dict(self) -> dict:
        """Returns the state as tensors and plain values, with that of the generators, torch's own included."""
        parts = {name: part.state_dict() for name, part in self.stateful().items()}
        counts = {name: getattr(self, name) for name in self.COUNTS}
        return parts | counts | self.random_state()

    def random_state(self) -> dict[str, Tensor]:
        """Returns the states of the generators, torch's own included, which dropout draws from."""
        random = {"random": torch.get_rng_state(), "generator": self.generator.get_state()}
        device = self.device
        return random | ({"random_gpu": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})

    def completed(self, state: dict) -> dict:
        """Returns a checkpoint with what an earlier version did not save, as there was none: the state of a GMD.

        Where weights are taken at every step, as all were then, it remembers nothing.
        """
        saved, outer = state.get("surgeon"), self.surgeon
        inner = outer.surgeon if isinstance(outer, CGGM) else outer
        if not isinstance(inner, GMD) or inner.every != 1:
            return state
        if inner is outer and saved is None:
            return state | {"surgeon": inner.state_dict()}
        if inner is not outer and isinstance(saved, dict) and "surgeon" not in saved:
            return state | {"surgeon": saved | {"surgeon": inner.state_dict()}}
        return state

    def load_state_dict(self, state: dict) -> None:
        """Takes over what `state_dict` returned, in a run of the same configuration.

        A process but the first goes on with its own random numbers, those in "others", if as many processes saved it.
        """
        given = state | {
            "network": pieces_of_network(state["network"], self.network),
            "optimizer": pieces_of_optimizer(state["optimizer"], self.optimizer),
        }
        for name, part in self.stateful().items():
            part.load_state_dict(given[name])
        for name in self.COUNTS:
            setattr(self, name, state[name])
        others = state.get("others", [])
        if rank() == 0:
            self._load_random(state)
        elif len(others) == processes() - 1:
            own = others[rank() - 1]
            self._load_random(own)
            if "surgeon" in own:
                self.stateful()["surgeon"].load_state_dict(own["surgeon"])

    def own_state(self, config: TrainConfig) -> dict[str, Any]:
        """Returns what several processes have of their own: random numbers, and the surgeon of its share of a batch."""
        own = config.scope == "local" and hasattr(self.surgeon, "state_dict")
        return self.random_state() | ({"surgeon": self.stateful()["surgeon"].state_dict()} if own else {})

    def _load_random(self, state: dict) -> None:
        """Takes over what `random_state` returned."""
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        if "random_gpu" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_gpu"], self.device)

    def count_score(self, score: float, epoch: int) -> bool:
        """Takes note of a validation's score. Returns whether it is the best so far, which NaN never is."""
        if not score > self.best_score:
            self.not_better += 1
            return False
        self.best_score, self.best_epoch, self.not_better = score, epoch, 0
        return True

    def why_finished(self, config: TrainConfig) -> str | None:
        """Returns a sentence that says why no epoch is left to train, or None if one is."""
        if self.epochs >= config.epochs:
            return f"trained for {self.epochs} epochs"
        if config.patience is None or self.not_better < config.patience:
            return None
        best = f"better than epoch {self.best_epoch}'s {self.best_score:.3f}" if self.best_epoch else "a number"
        return f"stopped early, after epoch {self.epochs}: no score was {best} for {self.not_better} validations"

    @property
    def device(self) -> torch.device:
        """Returns the network's device."""
        return next(self.network.parameters()).device


def forward(task: Task, method: Method, network: MultimodalNetwork, inputs: Pairs, targets: Tensor) -> Objectives:
    """Goes forward through a batch. inputs, targets: on the network's device"""
    with autocast(task.config.precision, next(network.parameters()).device):
        outputs = task.outputs(network, inputs)
    return Objectives(method.objectives(outputs, targets, task.criterion, partial(task.predict, network)), outputs)


def _with_losses(task: Task, network: MultimodalNetwork) -> Forward:
    method = METHODS[task.config.method]
    return Forward(network, partial(forward, task, method, network), whole=method.objectives is full_objective)


def _parts(
    task: Task,
    network: MultimodalNetwork,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    scaler: torch.amp.GradScaler | None,
    steps: int,
    sharded: nn.Module | None = None,
) -> Parts:
    predict = partial(task.predict, network)
    of_task = (task.criterion, task.metric, task.score, predict, task.steps_per_epoch, task.samples)
    return Parts(task.config, network, optimizer, generator, scaler, *of_task, steps, sharded)
