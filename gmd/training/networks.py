"""The networks of runs, from their configurations."""

import torch

from gmd.config import TrainBrats, TrainSequences
from gmd.data.segmentation.labels import SCHEMES
from gmd.models.segmentation.unet3d import UNet3d
from gmd.models.sequences.branch_network import BranchNetwork
from gmd.models.sequences.late_fusion import LateFusionTransformer
from gmd.models.sequences.network import SequenceNetwork
from gmd.models.sequences.shared_transformer import SharedTransformer

SEQUENCE_NETWORKS = {"ds": SharedTransformer, "late": LateFusionTransformer, "branches": BranchNetwork}


def build_network(config: TrainBrats) -> UNet3d:
    """The network of a run, with torch's current random state; `config.labels` must name a scheme."""
    network = UNet3d(config.modalities, tuple(SCHEMES[config.labels].regions), config.width)
    return network.to(memory_format=torch.channels_last_3d)  # the faster one; a checkpoint loads into either


def build_sequence_network(config: TrainSequences, about: dict) -> SequenceNetwork:
    """The network of a run, with torch's current random state. `about`: what the run's splits.json says of its data."""
    return SEQUENCE_NETWORKS[config.network](
        features=about["features"],
        outputs=len(about["classes"]) if about["classes"] else 1,
        per_step=about["per_step"],
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        dropout=config.dropout,
    )
