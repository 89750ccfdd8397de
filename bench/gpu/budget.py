"""How much time a measurement has."""

import os
from time import monotonic

from gpu.stages import ENDS


def deadline(usual: float, reserve: float) -> float:
    """Returns the time from which nothing new may be begun, on the clock of `time.monotonic`.

    Args:
        usual: seconds from now, where nobody has set an end.
        reserve: seconds before the end of the stage, where this is one of `python -m gpu`: what the last case and the
            tables take.
    """
    end = os.environ.get(ENDS)
    return monotonic() + usual if end is None else float(end) - reserve
