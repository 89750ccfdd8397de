"""What torchrun starts anew, as one of its processes has died, goes on from the last checkpoint by itself."""

from dataclasses import replace

from gmd.config.train_config import Config
from gmd.printing import say
from gmd.together import gathered
from gmd.torchrun import started


def gone_on(config: Config) -> Config:
    """Returns the options, after a restart by torchrun with `resume` if there is something to go on from."""
    restarts = started().restarts
    if not restarts or config.resume:
        return config
    there = [config.out / "last.pt", *config.out.glob("fold*/last.pt")]
    # as the first process sees it, whose files these are
    if not gathered(any(path.exists() for path in there), "the restart")[0]:
        say(f"{config.out}: restart {restarts} by torchrun, before the first checkpoint; it begins anew")
        return config
    say(f"{config.out}: restart {restarts} by torchrun; it goes on from the last checkpoint")
    return replace(config, resume=True)
