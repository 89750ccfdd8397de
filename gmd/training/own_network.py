"""Networks of the user's own: `--network package.module:function` names what makes one, for one modality.

Nothing is imported because a file says so: who calls this has seen to it that the user has named the function.
"""

import importlib
import inspect
import traceback
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from gmd.config import TrainBrats
from gmd.config.checks import option_text
from gmd.errors import UserError, shown
from gmd.models.multimodal import MultimodalNetwork
from gmd.models.segmentation.shared_network import SharedSegmentation
from gmd.models.segmentation.trial import output_of

LIKELY_STRIDES = (8, 16, 32, 64)
Patch = tuple[int, int, int]


def own_network(config: TrainBrats, regions: tuple[str, ...]) -> SharedSegmentation:
    """Calls the function that `config.network` names, and shares what it returns among the modalities.

    Raises UserError: no such function, one that fails, and a network that cannot be shared or does not fit the patch
    and the regions, as was tried before.
    """
    function = _imported(config.network)
    network = _made(function, config, len(regions), config.patch)
    try:
        shared = SharedSegmentation(network, config.modalities, regions, stride=1, last=None)
    except (ValueError, TypeError, RuntimeError) as error:  # what `share` refuses, and what cannot be copied
        raise _error(config, f"what it returns cannot be shared ({error})") from error
    last = _tried(function, network, config, len(regions))
    if last is not None:
        shared.end_with(last)
    return shared


def _imported(path: str) -> Callable[..., Any]:
    """Returns the function that `package.module:function` names. Raises UserError if there is none."""
    module_name, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):  # it is there, and imports another one that is not
            raise UserError(f"--network: {module_name} cannot be imported: {_told(error)}") from error
        mend = "if it is a file or a package in this folder, set PYTHONPATH=. in the environment"
        raise UserError(f"--network: got {path}, but Python finds no module {error.name}; {mend}") from error
    except Exception as error:  # whatever code of others raises
        raise UserError(f"--network: {module_name} cannot be imported: {_told(error)}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            named = [key for key, value in vars(found).items() if inspect.isfunction(value) or inspect.isclass(value)]
            has = f"it has {', '.join(sorted(named)[:10])}" if named else "it has no functions"
            raise UserError(f"--network: got {path}, but {module_name} has no {shown(part, 80)}; {has}")
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"--network: got {path}, which is {_kind(found)}, expected a function that makes a network")
    return found


def _made(function: Callable[..., Any], config: TrainBrats, regions: int, patch: Patch) -> nn.Module:
    """Calls the function with what it takes of regions, patch and width. Raises UserError unless a network comes."""
    try:
        parameters = dict(inspect.signature(function).parameters)
    except ValueError:  # a class or function written in C may have none
        parameters = {}
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    given = {"patch": patch, "width": config.width}
    given = {name: value for name, value in given.items() if takes_all or name in parameters}
    if "width" not in given and config.width != TrainBrats.width:
        raise UserError(f"--width: got {config.width}, but {config.network} takes no argument width; leave it out")
    try:
        network = function(regions=regions, **given)
    except Exception as error:  # whatever code of others raises
        listed = ", ".join(f"{name}={value}" for name, value in {"regions": regions, **given}.items())
        raise _error(config, f"called with {listed} it raises {_told(error)}") from error
    if not isinstance(network, nn.Module):
        raise _error(config, f"it returns {_kind(network)}, expected a torch.nn.Module")
    if isinstance(network, MultimodalNetwork):
        reason = (
            "it returns a network of several modalities already, expected one of a single modality, which gmd shares"
        )
        raise _error(config, reason)
    return network


def _tried(function: Callable[..., Any], network: nn.Module, config: TrainBrats, regions: int) -> str | None:
    """Returns the name of the network's last layer if that is a convolution. Raises UserError for other outputs."""
    last = None
    for training in (False, True):
        try:
            output, last = output_of(network, config.patch, training)
        except Exception as error:  # whatever code of others raises
            text = option_text(config.patch)
            other = _patch_that_fits(function, config, regions)
            expected = f"sizes that {config.network} takes{other and f', such as {option_text(other)}'}"
            raise UserError(f"--patch: got {text}, expected {expected}; it raises {_told(error)}") from error
        _check_output(output, config, regions, "in training" if training else "in evaluation")
    return last


def _check_output(output: Any, config: TrainBrats, regions: int, mode: str) -> None:
    if isinstance(output, (list, tuple)):
        reason = f"{mode} the network returns {_kind(output)} of {len(output)}, expected one tensor of logits"
        raise _error(config, f"{reason}; switch its deep supervision, or its other outputs, off")
    if not isinstance(output, Tensor):
        raise _error(config, f"{mode} the network returns {_kind(output)}, expected a tensor of logits")
    expected, got = [1, regions, *config.patch], list(output.shape)
    if got != expected:
        of = f"of volumes {[1, 1, *config.patch]} the network makes {got} {mode}"
        raise _error(config, f"{of}, expected logits {expected}: one channel for each region, in the size of --patch")
    if not output.is_floating_point():
        raise _error(config, f"{mode} the network returns {output.dtype}, expected logits of a floating type")


def _patch_that_fits(function: Callable[..., Any], config: TrainBrats, regions: int) -> Patch | None:
    """Returns a patch near that of the configuration which a network of the function takes; None if none is found."""
    for stride in LIKELY_STRIDES:
        x, y, z = (max(1, round(size / stride)) * stride for size in config.patch)
        try:
            output, _ = output_of(_made(function, config, regions, (x, y, z)), (x, y, z), training=True)
        except Exception:  # it takes this one neither
            continue
        if isinstance(output, Tensor) and output.shape == (1, regions, x, y, z):
            return x, y, z
    return None


def _error(config: TrainBrats, reason: str) -> UserError:
    return UserError(f"--network {config.network}: {reason}")


def _kind(value: object) -> str:
    name = "nothing" if value is None else type(value).__name__
    return name if value is None else f"a{'n' if name[0].lower() in 'aeiou' else ''} {name}"


def _told(error: BaseException) -> str:
    """Returns what an error of the user's code says, and where it was raised."""
    first = (str(error) or "no message").splitlines()[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {shown(first, 300)}{where}"
