"""A run's trained network, on its device and in the precision to predict in, and of the task that is expected."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from torch import nn

from gmd.config import TrainBrats, TrainConfig, TrainSamples
from gmd.errors import UserError
from gmd.models.multimodal import FeatureNetwork
from gmd.models.precision import Precision, slowness
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.printing import say
from gmd.training.saved_run import load_run

Config = TypeVar("Config", bound=TrainConfig)


def check_segments(run: Path, config: TrainConfig, advice: str = "give a run of brats") -> TrainBrats:
    """Returns the configuration of a run that segments.

    advice: what to do with a run of another task. Raises UserError, which says so, for such a run.
    """
    if not isinstance(config, TrainBrats):
        raise UserError(f"{run}: was trained on {config.TASK}, which has no volumes to segment; {advice}")
    return config


def load_segmentation(
    run: Path,
    which: Literal["best", "last"],
    precision: Precision | None = None,
    device: str | None = None,
    named: str | None = None,
) -> tuple[TrainBrats, SegmentationNetwork]:
    """Loads a run that segments, and says so if its precision is slow on the device.

    Args:
        run: its folder.
        which: the checkpoint.
        precision: what the network computes in; None: that of the training.
        device: auto, cpu, cuda, cuda:1, ...; None: that of the training.
        named: the network of the run, if that is one of the user's own; see `load_run`.

    returns the run's configuration, with this precision and device, and the network on that device
    Raises UserError: a run of another task; what `load_run` raises; a device that is not there.
    """
    config, network = load_run(run, which, named)
    config = check_segments(run, config)
    assert isinstance(network, SegmentationNetwork)
    return _ready(config, network, precision, device), network


def load_feature_network(
    run: Path, which: Literal["best", "last"], precision: Precision | None = None
) -> tuple[TrainSamples, FeatureNetwork]:
    """Loads a run on samples; what it takes, returns and raises is as in `load_segmentation`."""
    config, network = load_run(run, which)
    if not isinstance(config, TrainSamples):
        raise UserError(
            f"{run}: was trained on {config.TASK}, which has no sequences; give a run of sequences, sentiment, digits "
            "or classify"
        )
    assert isinstance(network, FeatureNetwork)
    return _ready(config, network, precision, device=None), network


def _ready(config: Config, network: nn.Module, precision: Precision | None, device: str | None) -> Config:
    """Moves the network to its device; returns the configuration with the precision and the device that are asked for.

    Prints a line if that precision is slow on that device.
    """
    device = config.device if device is None else device
    config = replace(config, precision=precision or config.precision, device=device)
    network.to(config.torch_device())
    if slow := slowness(config.precision, config.torch_device()):
        say(slow)
    return config
