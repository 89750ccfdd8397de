"""torchvision, or a line that says what to do: each torchvision fits one torch, built for the same CUDA or the CPU."""

from importlib import metadata

import torch

from gmd.errors import UserError

try:
    from torchvision.models import resnet18
    from torchvision.transforms import v2
except ModuleNotFoundError as error:
    raise UserError(
        f"{error.name} is not installed; the augmentations are torchvision's: install it from the index that torch "
        f"{torch.__version__} came from, for the CPU https://download.pytorch.org/whl/cpu"
    ) from error
except (ImportError, RuntimeError, OSError) as error:  # an operator or a symbol that the other half lacks
    raise UserError(
        f"torchvision {metadata.version('torchvision')} does not fit torch {torch.__version__} "
        f"({str(error).splitlines()[0]}): install both from one index, in versions that belong together"
    ) from error

__all__ = ["resnet18", "v2"]
