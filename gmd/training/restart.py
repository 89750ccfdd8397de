"""What torchrun starts anew, as one of its processes has died, goes on from the last checkpoint by itself."""

import os
from dataclasses import replace

from gmd.config.train_config import Config
from gmd.printing import say
from gmd.together import gathered
from gmd.torchrun import started


def gone_on(config: Config) -> Config:
    """Returns the options, after a restart by torchrun with `resume` if there is something to go on from."""
    # a place that cannot be looked at is the business of the checks that follow
    there = os.path.exists(config.out / "last.pt")
    there = there or (os.path.isdir(config.out) and any(config.out.glob("fold*/last.pt")))
    found = gathered((started().restarts, there), "the count of restarts")
    restarts = max(count for count, _ in found)  # by machine they differ
    if not restarts or config.resume:
        return config
    if not found[0][1]:  # as the first process sees it, whose files these are
        say(f"{config.out}: restart {restarts} by torchrun, before the first checkpoint; it begins anew")
        return config
    say(f"{config.out}: restart {restarts} by torchrun; it goes on from the last checkpoint")
    return replace(config, resume=True)
