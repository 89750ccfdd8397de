"""What a training tells its user on the way: the bar of an epoch, the line after it, and why it stopped."""

from statistics import fmean

from gmd.config import TrainConfig
from gmd.config.presets import told
from gmd.errors import UserError
from gmd.models.multimodal import MultimodalNetwork
from gmd.models.precision import slowness
from gmd.models.segmentation.shared_network import SharedSegmentation
from gmd.monitor.metrics_file import METRICS
from gmd.together import processes
from gmd.training.state import Training
from gmd.training.tasks import Task, Validation


class EpochMeans:
    """The means over the finite steps of an epoch, as far as this process made them: `text` says them in words."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.conflicts: list[float] = []
        self.directions: list[int] = []  # backward passes through each modality's path
        self.paced = 0  # steps of a surgeon that takes weights now and then
        self.refreshed = 0  # those of them at which it took them
        self.text = ""

    def add(self, record: dict, config: TrainConfig, skipped: int) -> None:
        """Takes in a step's record of metrics.jsonl. `skipped`: steps of the training that were skipped so far."""
        if record["finite"]:
            self.losses.append(record["loss"])
            self.conflicts += [] if record["conflicts"] is None else [record["conflicts"]]
            self.directions += (record["directions"] or []) if config.tol > 0 else []
        if "refreshed" in record:
            self.paced += 1
            self.refreshed += record["refreshed"]
        parts = [f"loss {fmean(self.losses):.3f}"] if self.losses else []
        parts += [f"conflicts {100 * fmean(self.conflicts):.0f} %"] if self.conflicts else []
        parts += [f"directions {fmean(self.directions):.1f}"] if self.directions else []
        parts += [f"weights taken at {self.refreshed} of {self.paced} steps"] if self.paced else []
        self.text = ", ".join(parts + ([f"skipped {skipped}"] if skipped else []))


def before_training(task: Task, network: MultimodalNetwork) -> list[str]:
    """Returns sentences on what the user should know before a long run."""
    of_network = [network.described()] if isinstance(network, SharedSegmentation) else []
    of_network += together(network)
    slow = slowness(task.config.precision, task.config.torch_device())
    return told(task.config) + task.notes() + of_network + ([slow] if slow else [])


def together(network: MultimodalNetwork) -> list[str]:
    """Returns sentences on what several processes do that one does not; none for one."""
    if processes() == 1:
        return []
    told = [f"{processes()} processes train together, each on its share of every batch of --batch samples"]
    if any(getattr(module, "track_running_stats", False) for module in network.modules()):
        told.append(
            "the network has norms over the samples of a batch: in several processes they are over the share of each, "
            "so that the run is another one than in one process; the running statistics are those of the first process"
        )
    return told


def other_processes(saved: int, here: int) -> str | None:
    """Returns what changes if another number of processes goes on than saved a checkpoint; None if it is the same."""
    if saved == here:
        return None
    count = f"{saved} process{'es' * (saved > 1)}"
    return (
        f"saved by {count}, and {here} go on: the batches are the same, but sums round in another order, and each "
        "process draws dropout anew"
    )


def after_epoch(task: Task, epoch: int, means: str, validation: Validation | None, seconds: float) -> str:
    """Returns the line on a finished epoch. `means`: the text of its EpochMeans."""
    told = [text for text in (means, _validation_text(task, validation), f"{seconds:.0f} s") if text]
    return f"epoch {epoch}/{task.config.epochs}: {', '.join(told)}"


def _validation_text(task: Task, validation: Validation | None) -> str:
    if validation is None:
        return ""
    others = [(name, value) for name, value in validation.metrics.items() if name != task.score_name]
    each = ", ".join(f"{name} {value:.3f}" for name, value in others[:3])
    return f"validation {task.score_name} {validation.score:.3f} ({each})"


def too_many_skipped(training: Training, config: TrainConfig, reason: str) -> str:
    """Says that the training stopped at skipped steps, and what to do. `reason`: what was not finite in the latest."""
    last = f"{config.out / 'last.pt'} ({training.epochs} epochs)"
    return (
        f"stopped at step {training.steps}: {training.skipped_in_a_row} steps in a row were skipped; "
        f"{reason}. The last checkpoint, {last}, is intact, but --resume would end here again: "
        f"start anew in another --out with a lower --lr (now {config.lr:g}), or mend the data"
    )


def stopped_and_saved(training: Training, config: TrainConfig, error: UserError) -> str:
    """Says that the training stopped at an error which is none of its own, and that it can go on."""
    return (
        f"{error}. The training stopped at step {training.steps}, which {config.out / 'last.pt'} holds: mend that, "
        "then go on with --resume"
    )


def nothing_learnt(training: Training, config: TrainConfig) -> str:
    """Says that all steps of a training were skipped, and what to do."""
    return (
        f"{config.out}: nothing was learnt, as all {training.steps} steps were skipped: a loss or gradient was not "
        f"finite in each, see {config.out / METRICS}. Start anew in another --out with a lower --lr, or mend the data"
    )
