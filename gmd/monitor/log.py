"""The log of a training: each record becomes a line of `metrics.jsonl`, and its numbers TensorBoard's scalars."""

from pathlib import Path

from gmd.files import sync
from gmd.monitor.metrics_file import METRICS, drop_metrics_after, write_record
from gmd.monitor.tensorboard import Scalars


class Log:
    """Appends records to what a run has logged, after dropping those of epochs and steps that no checkpoint holds.

        with Log(run, epochs, steps) as log:
            log.write(record)
            log.sync()  # before a checkpoint, which must not be ahead of what is recorded

    Args:
        run: the run's folder.
        epochs: finished, as the checkpoint says.
        steps: finished, as the checkpoint says.
    """

    def __init__(self, run: Path, epochs: int, steps: int):
        last = drop_metrics_after(run, epochs, steps)
        # an epoch's scalars stand at its last step, so that step is dropped in TensorBoard, and written once more
        first_step = last[0]["step"] if last and last[0]["kind"] == "step" else steps + 1
        self._scalars = Scalars(run, first_step)
        for record in last:
            self._scalars.write(record)
        self._metrics = open(run / METRICS, "a", encoding="utf-8")  # noqa: SIM115

    def write(self, record: dict) -> None:
        """Records a start, step or epoch, in both places. See `gmd.monitor.records`."""
        write_record(self._metrics, record)
        self._scalars.write(record)

    def sync(self) -> None:
        """Makes what was written survive a kill and a power cut."""
        self._scalars.flush()
        sync(self._metrics.fileno())

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: object) -> None:
        self._metrics.close()
        self._scalars.close()


class NoLog(Log):
    """That of a process which writes nothing, as another one does."""

    def __init__(self) -> None:
        pass

    def write(self, record: dict) -> None:
        """Does nothing."""

    def sync(self) -> None:
        """Does nothing."""

    def __exit__(self, *error: object) -> None:
        pass
