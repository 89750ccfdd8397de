"""What a surgeon remembers goes into nnU-Net's checkpoints, as a part of the optimizer's state.

nnU-Net writes the state dict of its optimizer into each checkpoint, and gives it back; torch lets others add to it.
"""

from collections.abc import Callable
from typing import Any

import torch

from gmd.surgery import Surgeon

KEY = "gmd"


def keep_with(
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    surgeon: object,
    told: Callable[[str], object],
) -> None:
    """Lets the optimizer's state dict hold also what is drawn from next, and the weights that a surgeon has taken.

    A state dict without them can be loaded too: then weights are taken at the next step. So they are where the state is
    of a surgeon with another `every`.

    Args:
        optimizer: of the training.
        generator: what orders of projection and random subsets are drawn from.
        surgeon: what makes one gradient of the losses; a gmd.Surgeon has weights that last for several steps.
        told: is called with a sentence when weights could not be taken over.
    """

    def add(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        kept = {
            "generator": generator.get_state(),
            "surgeon": surgeon.state_dict() if isinstance(surgeon, Surgeon) else None,
        }
        return state | {KEY: kept}

    def take(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        state = dict(state)
        kept = state.pop(KEY, None)
        if kept is None:
            told("The checkpoint has nothing of gmd's: weights are taken at the next step.")
            return state
        generator.set_state(kept["generator"].cpu())
        if isinstance(surgeon, Surgeon) and kept["surgeon"] is not None:
            if kept["surgeon"]["schedule"]["every"] == surgeon.every:
                surgeon.load_state_dict(kept["surgeon"])
            else:
                told("The checkpoint is of another `every`: weights are taken at the next step.")
        return state

    optimizer.register_state_dict_post_hook(add)
    optimizer.register_load_state_dict_pre_hook(take)
