"""What torchrun starts anew, as one of its processes has died, goes on from the last checkpoint by itself."""

from dataclasses import replace

from gmd.config.train_config import Config
from gmd.printing import say
from gmd.together import gathered
from gmd.torchrun import started


def gone_on(config: Config) -> Config:
    """Returns the options, after a restart by torchrun with `resume` if there is something to go on from."""
    there = [config.out / "last.pt", *config.out.glob("fold*/last.pt")]
    own = started().restarts, any(path.exists() for path in there)
    found = gathered(own, "the count of restarts")
    restarts = max(count for count, _ in found)  # by machine they differ
    if not restarts or config.resume:
        return config
    if not found[0][1]:  # as the first process sees it, whose files these are
        say(f"{config.out}: restart {restarts} by torchrun, before the first checkpoint; it begins anew")
        return config
    say(f"{config.out}: restart {restarts} by torchrun; it goes on from the last checkpoint")
    return replace(config, resume=True)
