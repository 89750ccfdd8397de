"""The networks that `--network` names, and published weights to begin with."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from examples.images.torchvision_here import resnet18
from gmd.errors import UserError, shown
from gmd.files import open_regular
from gmd.models.strip_mlp import VARIANTS, StripMLP

STRIP = {f"strip-{name}": variant for name, variant in VARIANTS.items()}  # published as T*, T, S and B
_OWN = re.compile(r"strip:(\d{1,4}):(\d{1,3})-(\d{1,3})-(\d{1,3})-(\d{1,3})")
_HEAD = ("head.", "fc.")  # the last layer, of Strip-MLP and of ResNet, which is of the classes it was trained on


def make_network(name: str, size: int, classes: int) -> nn.Module:
    """Makes an untrained network for pictures [n, 3, size, size], which returns scores [n, classes].

    Raises UserError for a name that is none, or a size that the network cannot take.
    """
    if name == "resnet18":
        return resnet18(num_classes=classes)
    own = _OWN.fullmatch(name)
    if own is None and name not in STRIP:
        raise UserError(
            f"--network: got {name}, expected one of {', '.join(STRIP)}, resnet18, or strip:WIDTH:DEPTHS as in "
            "strip:32:1-1-1-1"
        )
    numbers = tuple(map(int, own.groups())) if own else ()
    width, depths = (numbers[0], numbers[1:]) if own else STRIP[name]
    try:
        return StripMLP(size, classes, width, depths)
    except (TypeError, ValueError) as error:
        raise UserError(f"--network {name}, --image-size {size}: {error}") from error


def load_weights(network: nn.Module, path: Path) -> None:
    """Begins with somebody's weights; those of the last layer are left out if they are of other classes.

    path: what torch.save wrote of a state dict, or of a dictionary with one behind "model" or "network", as published
        checkpoints and those of this program are. Nothing in it is executed.
    Raises UserError, before anything is changed, for a file that is none, or weights that do not fit.
    """
    weights, here = _read_weights(path), network.state_dict()
    others = [name for name in weights if name.startswith(_HEAD) and _shape(weights, name) != _shape(here, name)]
    weights = {name: value for name, value in weights.items() if name not in others}
    wrong = [name for name in here | weights if _shape(here, name) != _shape(weights, name) and name not in others]
    if wrong:
        first, more = wrong[0], f", and {len(wrong) - 1} more" * (len(wrong) > 1)
        raise UserError(
            f"--init: {path}: {shown(first, 80)}: got {_shape(weights, first)}, expected {_shape(here, first)}{more}; "
            "the weights are of another network or another --image-size"
        )
    network.load_state_dict(here | weights)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        with open_regular(path) as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (UserError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a file of anything makes torch's reader raise anything; its advice is not passed on
        raise UserError(f"--init: {path}: no weights that torch reads without executing code") from error
    for key in ("model", "network"):
        content = content.get(key, content) if isinstance(content, dict) else content
    if not (isinstance(content, dict) and content and all(isinstance(value, Tensor) for value in content.values())):
        raise UserError(f"--init: {path}: expected a state dict, alone or behind 'model'")
    return content


def _shape(weights: dict[str, Tensor], name: str) -> str:
    return str(list(weights[name].shape)) if name in weights else "nothing"
