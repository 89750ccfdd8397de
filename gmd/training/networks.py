"""Builds the networks of runs from their configurations."""

import math

import torch

from gmd.config import TrainBrats, TrainConfig, TrainSequences
from gmd.models.multimodal import MultimodalNetwork
from gmd.models.sequences.branch_network import BranchNetwork
from gmd.models.sequences.encoder import EXPANSION
from gmd.models.sequences.late_fusion import LateFusionTransformer
from gmd.models.sequences.network import SequenceNetwork
from gmd.models.sequences.shared_transformer import SharedTransformer
from gmd.models.unet3d import CHANNELS, UNet3d

WEIGHTS = 13e6  # of the U-Net at width 1; they grow with the square of it
BLOCK = 4 + 2 * EXPANSION  # matrices of width x width in a block of a transformer
SEQUENCE_NETWORKS = {"ds": SharedTransformer, "late": LateFusionTransformer, "branches": BranchNetwork}


def build_network(config: TrainBrats) -> UNet3d:
    """Builds the network of a segmentation run, on the CPU, with initial weights from torch's current random state.

    `config.labels` must name a scheme, as it does in the configuration of a run. Raises UserError if it does not.
    """
    network = UNet3d(config.modalities, tuple(config.label_scheme().regions), config.width)
    # the faster memory format; a checkpoint loads into either
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs lack it


def build_sequence_network(config: TrainSequences, about: dict) -> SequenceNetwork:
    """Builds the network of a run on sequences, on the CPU, with weights from torch's current random state.

    about: what the run's splits.json says of its data: "features" (modality -> numbers of a step), "classes" (their
        names, or None for scores) and "per_step" (whether each step has a target).
    """
    return SEQUENCE_NETWORKS[config.network](
        features=about["features"],
        outputs=len(about["classes"]) if about["classes"] else 1,
        per_step=about["per_step"],
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        dropout=config.dropout,
    )


def network_of(config: TrainConfig, about: dict) -> MultimodalNetwork:
    """Builds the network of a run of any task. about: as in `build_sequence_network`; segmentation needs none of it"""
    if isinstance(config, TrainBrats):
        return build_network(config)
    assert isinstance(config, TrainSequences)  # all other tasks are on sequences
    return build_sequence_network(config, about)


def network_bytes(config: TrainConfig, about: dict) -> int:
    """Returns about how many bytes the weights of a run's network take, of volumes the features of one patch besides.

    config, about: as in `network_of`
    """
    if isinstance(config, TrainBrats):
        features = math.prod(config.patch) * CHANNELS[0] * config.width
        return int(4 * (WEIGHTS * config.width**2 + features))
    assert isinstance(config, TrainSequences)
    encoders = 1 if config.network == "ds" else len(config.modalities)
    return 4 * config.width * (BLOCK * config.width * config.layers * encoders + sum(about["features"].values()))
