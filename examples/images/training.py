"""The training: epochs, the best of them by the validation pictures, and one look at the test pictures at the end.

All that is random in an epoch comes from (seed, epoch), so a training that was killed goes on with `--resume` from its
last whole epoch as if nothing had happened: weights, moments of AdamW, learning rate, order and augmentation.
"""

import csv
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from examples.images import data
from examples.images.augmentation import evaluation_transform, mixing, training_transform
from examples.images.networks import load_weights, make_network
from examples.images.optimisation import make_optimizer, rate
from examples.images.options import Options
from examples.images.pictures import Pictures, PictureSet, Transformed, collate
from gmd.data.text_files import write_json
from gmd.errors import UserError
from gmd.files import replacing
from gmd.output_paths import check_folder
from gmd.printing import say
from gmd.training.checkpoint import check_fits, load_checkpoint, save_checkpoint
from gmd.training.run_lock import locked

LAST, BEST, RESULT = "last.pt", "best.pt", "result.json"


class Training:
    """A training between two epochs.

    Attributes:
        pictures: for training, validation and test.
        network, optimizer: as they are after the last epoch.
        history: the rows of metrics.csv, one for each epoch done.
    """

    def __init__(self, options: Options):
        self.options = options
        self.pictures: PictureSet = data.read(options.data)
        available = len(self.pictures.training)
        if options.batch > available:
            raise UserError(f"--batch: got {options.batch}, expected {available} at most, the training pictures")
        self.device = _device(options.device)
        torch.manual_seed(options.seed)
        self.network = make_network(options.network, options.image_size, len(self.pictures.classes))
        if options.init is not None and not options.resume:
            load_weights(self.network, options.init)
        self.network.to(self.device)
        self.optimizer = make_optimizer(self.network, options.lr, options.weight_decay)
        self.history: list[dict] = []

    def best(self) -> dict:
        """Returns the row of the epoch with the highest accuracy on the validation pictures, the first of equals."""
        return max(self.history, key=lambda row: row["validation_accuracy"])

    def resume(self) -> None:
        """Goes on after the last whole epoch in the folder. Raises UserError if it is of other options or damaged."""
        path = self.options.out / LAST
        state, here = load_checkpoint(path), self.options.computing()
        there = state["config"] if isinstance(state["config"], dict) else {}
        for name, value in here.items():
            if there.get(name) != value:
                raise UserError(
                    f"--{name.replace('_', '-')}: got {value}, but the training in {self.options.out} has "
                    f"{there.get(name)}; go on with that, or give another --out"
                )
        check_fits(self.network, state, path)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = state["history"]

    def save(self) -> None:
        """Writes the last epoch, the best one if it is this, and the rows."""
        out, kept = self.options.out, {"config": self.options.computing(), "network": self.network.state_dict()}
        if self.history and self.best() is self.history[-1]:
            save_checkpoint(out / BEST, kept)
        save_checkpoint(out / LAST, kept | {"optimizer": self.optimizer.state_dict(), "history": self.history})
        if self.history:
            _write_csv(out / "metrics.csv", self.history)

    def epoch(self) -> None:
        """Trains one epoch, and validates."""
        begun, number = time.perf_counter(), len(self.history)
        torch.manual_seed(self.options.seed * 2**20 + number)
        loss = self._train(number)
        if not loss < float("inf"):  # NaN too
            raise UserError(f"epoch {number + 1}: the loss is {loss}; a lower --lr or a lower --clip may help")
        seconds = time.perf_counter() - begun
        scores = self.score(self.pictures.validation)
        self.history.append(
            {
                "epoch": number + 1,
                "training_loss": loss,
                "validation_loss": scores["loss"],
                "validation_accuracy": scores["accuracy"],
                "lr": self.optimizer.param_groups[0]["lr"],
                "seconds": seconds,
            }
        )

    def _train(self, epoch: int) -> float:
        """Does an epoch's steps, and returns the mean of their losses."""
        options, part = self.options, self.pictures
        transform = training_transform(options.image_size, options.augmentation, part.photographs)
        loader = self._loader(part.training, transform, shuffle=True)
        mix = mixing(len(part.classes), options.mixup, options.cutmix)
        losses = []
        self.network.train()
        for step, batch in enumerate(tqdm(loader, desc=f"epoch {epoch + 1}", leave=False)):
            images, labels = _without_errors(batch)
            mixed, targets = mix(images, labels) if mix else (images, labels)
            share = rate(epoch * len(loader) + step, options.warmup_epochs * len(loader), options.epochs * len(loader))
            for group in self.optimizer.param_groups:
                group["lr"] = options.lr * share
            scores = self.network(mixed.to(self.device))
            loss = F.cross_entropy(scores, targets.to(self.device), label_smoothing=options.label_smoothing)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), options.clip)
            self.optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def score(self, pictures: Pictures) -> dict[str, float]:
        """Returns the mean loss, and the share of pictures whose class has the highest score."""
        transform = evaluation_transform(self.options.image_size, self.pictures.photographs)
        right = loss = torch.zeros((), device=self.device)
        self.network.eval()
        for batch in self._loader(pictures, transform, shuffle=False):
            images, labels = (value.to(self.device) for value in _without_errors(batch))
            scores = self.network(images)
            loss = loss + F.cross_entropy(scores, labels, reduction="sum")
            right = right + (scores.argmax(dim=1) == labels).sum()
        return {"loss": float(loss) / len(pictures), "accuracy": float(right) / len(pictures)}

    def _loader(self, pictures: Pictures, transform: Callable[..., Tensor], shuffle: bool) -> DataLoader:
        """Returns batches in a drawn order, without the incomplete one, or all in their order."""
        return DataLoader(
            Transformed(pictures, transform),
            self.options.batch,
            shuffle=shuffle,
            drop_last=shuffle,
            num_workers=self.options.workers,
            collate_fn=collate,
            pin_memory=self.device.type == "cuda",
        )


def train(options: Options) -> dict:
    """Trains, tests the epoch that was best on the validation pictures, and returns what result.json says.

    Raises UserError for whatever the user can mend.
    """
    options.check()
    check_folder(options.out, "--out")
    if (options.out / LAST).exists() and not options.resume:
        raise UserError(f"--out: {options.out} holds a training; go on with --resume, or give another folder")
    with locked(options.out):
        training = Training(options)
        if options.resume:
            training.resume()
        else:
            write_json(options.out / "options.json", options.computing())
            training.save()
        _tell_of(training)
        while len(training.history) < options.epochs:
            training.epoch()
            training.save()
            row = training.history[-1]
            say(
                f"epoch {row['epoch']}/{options.epochs}: loss {row['training_loss']:.3f}, validation accuracy "
                f"{row['validation_accuracy']:.2%}, {row['seconds']:.1f} s"
            )
        return _result(training)


def _tell_of(training: Training) -> None:
    parts, total = training.pictures, sum(parameter.numel() for parameter in training.network.parameters())
    tested = f"{len(parts.test)} for the test" if parts.test else "none for a test"
    say(
        f"{len(parts.classes)} classes; {len(parts.training)} pictures to train, {len(parts.validation)} to validate, "
        f"{tested}; {training.options.network} with {total:,} parameters on {training.device}"
    )


def _result(training: Training) -> dict:
    """Tests the best epoch's network, and writes result.json."""
    options, best = training.options, training.best()
    path = options.out / BEST
    state = load_checkpoint(path)
    check_fits(training.network, state, path)
    training.network.load_state_dict(state["network"])
    result = {
        "network": options.network,
        "parameters": sum(parameter.numel() for parameter in training.network.parameters()),
        "best_epoch": best["epoch"],
        "validation_accuracy": best["validation_accuracy"],
        "test_accuracy": training.score(training.pictures.test)["accuracy"] if training.pictures.test else None,
        "seconds_per_epoch": sorted(row["seconds"] for row in training.history)[len(training.history) // 2],
    }
    write_json(options.out / RESULT, result)
    tested = "" if result["test_accuracy"] is None else f", {result['test_accuracy']:.2%} on the test pictures"
    say(f"best: epoch {best['epoch']}, {best['validation_accuracy']:.2%} on the validation pictures{tested}")
    return result


def _without_errors(batch: list[Tensor] | UserError) -> list[Tensor]:
    if isinstance(batch, UserError):
        raise batch
    return batch


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's, for a name that is none and for a device that is absent
        raise UserError(f"--device: got {name}, which torch cannot use here ({str(error).splitlines()[0]})") from error
    return device


def _write_csv(path: Path, rows: list[dict]) -> None:
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
