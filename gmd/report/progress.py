"""How far a training is: trained to the end, ended early, still at it, or interrupted."""

from gmd.config import TrainConfig
from gmd.report.history import History


def progress(history: History, config: TrainConfig) -> str:
    """Returns sentences on how far the training is, and on what to do if that is not to the end."""
    done = history.finished_epochs
    skipped = f" {history.skipped} of {history.steps} steps were skipped: not finite." if history.skipped else ""
    if done >= config.epochs:
        return f"Trained for all {done} epochs.{skipped}"
    if _out_of_patience(history, config):
        return f"Ended by --patience {config.patience} after {done} of {config.epochs} epochs.{skipped}"
    return (
        f"{done} of {config.epochs} epochs are finished: the training goes on, or was interrupted. In that case "
        f"add --resume to the command below.{skipped}"
    )


def pace(history: History) -> str:
    """Returns how often a surgeon that takes weights now and then has taken them; nothing of other methods."""
    if not history.refreshed:
        return ""
    often = f"every {history.paced / history.refreshed:.1f} steps on average"
    failed = f" {history.failures} times they were not finite, and those of before stayed." if history.failures else ""
    return f"The weights were taken at {history.refreshed} of {history.paced} steps, {often}.{failed}"


def _out_of_patience(history: History, config: TrainConfig) -> bool:
    """Returns whether --patience has ended the training: that many validations since the best one, or since the start.

    A validation whose score was NaN counts as one. Its `validation` is None, like that of an epoch without validation,
    but it has metrics.
    """
    best = history.best_validation()
    validated = [epoch for epoch in history.epochs if epoch.metrics or epoch.validation is not None]
    since = [epoch for epoch in validated if best is None or epoch.number > best.epoch]
    return config.patience is not None and len(since) >= config.patience
