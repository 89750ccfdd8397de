"""Writes the records of metrics.jsonl as TensorBoard's scalars, as training goes."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch.utils.tensorboard import FileWriter

FOLDER = "tensorboard"


class Scalars:
    """Writes the event files of a run, in RUN/tensorboard. They hold nothing that is not in metrics.jsonl.

        with Scalars(run, first_step=training.steps + 1) as scalars:
            scalars.write(record)  # whatever goes into metrics.jsonl
            scalars.flush()  # before the checkpoint, as that must not be ahead

    Args:
        run: the run's folder.
        first_step: the step that comes next. TensorBoard drops what an earlier process has written from there on, so
            that steps which no checkpoint holds, and which are made once more, do not appear twice.
    """

    def __init__(self, run: Path, first_step: int = 1):
        # half a second, and a package that `import gmd` does without
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]  # no stubs
        from torch.utils.tensorboard import SummaryWriter

        self._summary = Summary
        _wait_for_another_second(run / FOLDER)
        self._writer = SummaryWriter(run / FOLDER, purge_step=first_step)
        self._events = cast("FileWriter", self._writer.file_writer)  # torch annotates it with None, which it is later
        self._step = first_step - 1

    def write(self, record: dict) -> None:
        """Adds the scalars of a record of metrics.jsonl. Those of an epoch stand at the epoch's last step."""
        self._step = record.get("step", self._step)
        # one event of all values: add_scalar makes one of each, and takes three times as long
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars_of(record).items()]
        self._events.add_summary(self._summary(value=values), self._step)

    def flush(self) -> None:
        """Writes what is buffered into the file."""
        self._writer.flush()

    def close(self) -> None:
        """Writes what is buffered and closes the file."""
        self._writer.close()

    def __enter__(self) -> "Scalars":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _wait_for_another_second(folder: Path) -> None:
    """Waits until the folder has no event file of the current second.

    TensorBoard reads files in the order of their names, in which the number of the process follows the second. Of a run
    that was killed and went on in the same second, it might take the killed process's file for the later one.
    """
    while any(folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
        time.sleep(0.02)


def scalars_of(record: dict) -> dict[str, float]:
    """Returns tag -> value of a record of metrics.jsonl, without what is not there or not finite.

    A step has loss/*, gradient/*, modality/QUANTITY/MODALITY and training/*; an epoch has validation/* and training/*.
    Other records have no scalars.
    """
    of_kind = {"step": _of_step, "epoch": _of_epoch}.get(record["kind"], lambda record: {})
    found = of_kind(record)
    return {tag: float(value) for tag, value in found.items() if value is not None and math.isfinite(value)}


def _of_step(record: dict) -> dict[str, float | None]:
    dominance = record.get("dominance") or {}
    tags = {"loss/mean": record["loss"], "gradient/conflicts": record["conflicts"], "training/finite": record["finite"]}
    tags |= {f"training/{name}": record[name] for name in ("lr", "scale", "norm", "age") if name in record}
    tags |= {f"loss/{name}": value for name, value in record["losses"].items()}
    tags["gradient/projected"] = dominance.get("projected")
    for kind in ("norms", "weights"):
        tags |= {f"gradient/{kind}/{name}": value for name, value in (dominance.get(kind) or {}).items()}
    for quantity, values in (dominance.get("modality") or {}).items():
        tags |= {f"modality/{quantity}/{m}": value for m, value in values.items()}
    return tags


def _of_epoch(record: dict) -> dict[str, float | None]:
    parts = record.get("per_region") or record.get("metrics") or {}  # older runs call the metrics per_region
    tags = {"validation/score": record["validation"], "training/seconds of an epoch": record.get("seconds")}
    return tags | {f"validation/{name}": value for name, value in parts.items()}
