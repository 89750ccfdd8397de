"""What a training cost: time, memory, device; and with which versions, and when, it was started."""

from statistics import median

from gmd.report.facts import NOT_RECORDED, Fact, duration
from gmd.report.history import History


def resources(history: History) -> list[Fact]:
    """Returns the costs of the whole training; a figure that the run has not recorded is called so."""
    return [*_times(history), _peak_memory(history), *_latest_start(history)]


def _times(history: History) -> list[Fact]:
    """Returns how long all epochs took, the median one, and a step of it, each with its validation."""
    seconds = [epoch.seconds for epoch in history.epochs if epoch.seconds is not None]
    whole = each = step = NOT_RECORDED
    if seconds:
        whole, each = duration(sum(seconds)), duration(median(seconds))
        steps_per_epoch = history.epochs[-1].step / len(history.epochs)
        step = f"{median(seconds) / steps_per_epoch:.3g} s" if steps_per_epoch else NOT_RECORDED
    return [Fact("Time of all epochs", whole), Fact("Median epoch", each), Fact("Median epoch, per step", step)]


def _peak_memory(history: History) -> Fact:
    """Returns the most memory, in MB, that any epoch has recorded."""
    memory = [epoch.memory_MB for epoch in history.epochs if epoch.memory_MB is not None]
    if not memory:
        return Fact("Peak memory", NOT_RECORDED)
    # the peak of a process is never reset: that of a fold is also that of the folds before it
    on_cpu = bool(history.starts) and history.starts[-1].device.startswith("CPU")
    return Fact("Peak memory", f"{max(memory):,.0f} MB{' of the process' if on_cpu else ''}")


def _latest_start(history: History) -> list[Fact]:
    """Returns on what, and with which versions, the training was last started or gone on with."""
    names = ("Device", "Threads", "Parameters", "Versions", "Started")
    if not history.starts:
        return [Fact(name, NOT_RECORDED) for name in names]
    start = history.starts[-1]
    versions = f"gmd {start.gmd}, torch {start.torch}"
    values = (start.device, str(start.threads), f"{start.parameters:,}", versions, _start_times(history))
    return [Fact(*named) for named in zip(names, values, strict=True)]


def _start_times(history: History) -> str:
    """Returns when the training was started, and each time that it was gone on with."""
    first, *again = [start.time for start in history.starts]
    return first + "".join(f"; gone on with {time}" for time in again)
