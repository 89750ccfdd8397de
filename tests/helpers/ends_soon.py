"""What makes a run that fails end soon and say where, for tests/conftest.py: Hypothesis, and pytest-xdist's workers."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

SHRINKING = 20  # seconds; Hypothesis has no setting for it and takes up to 300


def limit_hypothesis() -> None:
    """Every property test looks for a simpler case for SHRINKING seconds, reports one, and explains nothing.

    To explain, Hypothesis runs many cases again under a tracer, which calls of torch take minutes and gigabytes for.
    `make gpu` runs where Hypothesis may be missing.
    """
    try:
        from hypothesis import Phase, settings
        from hypothesis.internal.conjecture import engine
    except ImportError:
        return
    engine.MAX_SHRINKING_SECONDS = SHRINKING
    phases = [phase for phase in Phase if phase is not Phase.explain]
    settings.register_profile("ends soon", parent=settings(), phases=phases, report_multiple_bugs=False)
    settings.load_profile("ends soon")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object | None:
    """Ours in the place of --dist loadfile."""
    return scheduling_by_file()(config, log) if config.getoption("dist") == "loadfile" else None


def scheduling_by_file() -> type:
    """pytest-xdist's own, which gives work to a worker that has just died without falling over.

    It is killed for the memory it took, say. What sending to it raises would end the run before the message comes that
    the worker is gone, and that alone names the test. With it the work comes back.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _assign_work_unit(self, node: WorkerController) -> None:
            with suppress(OSError):
                super()._assign_work_unit(node)

    return Scheduling
