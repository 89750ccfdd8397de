"""Builds the networks of runs from their configurations."""

import math
from collections.abc import Mapping
from importlib import util
from typing import Any

import torch

from gmd.config import TrainBrats, TrainClassify, TrainConfig, TrainSequences
from gmd.config.checks import check_option
from gmd.data.manifest.inputs import Input
from gmd.errors import UserError
from gmd.models.classification.make import make_classifier
from gmd.models.classification.network import ClassifierNetwork
from gmd.models.classification.picture_networks import picture_network
from gmd.models.multimodal import MultimodalNetwork
from gmd.models.segmentation.architectures import ARCHITECTURES
from gmd.models.segmentation.monai_networks import make_monai_network
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.models.segmentation.shared_network import SharedSegmentation
from gmd.models.sequences.branch_network import BranchNetwork
from gmd.models.sequences.encoder import EXPANSION
from gmd.models.sequences.late_fusion import LateFusionTransformer
from gmd.models.sequences.network import SequenceNetwork
from gmd.models.sequences.shared_transformer import SharedTransformer
from gmd.models.unet3d import UNet3d
from gmd.training.outcomes import outcomes_of
from gmd.training.own_network import own_network

BLOCK = 4 + 2 * EXPANSION  # matrices of width x width in a block of a transformer
SEQUENCE_NETWORKS = {"ds": SharedTransformer, "late": LateFusionTransformer, "branches": BranchNetwork}


def build_network(config: TrainBrats) -> SegmentationNetwork:
    """Builds the network of a segmentation run, on the CPU, with initial weights from torch's current random state.

    `config.labels` must name a scheme, as it does in the configuration of a run. A function of the user's own is
    imported and called: who calls this has asked `config.check_named`.
    Raises UserError for a configuration without labels, and for a network that cannot be made here.
    """
    network = _segmentation_network(config, tuple(config.label_scheme().regions))
    # the faster memory format; a checkpoint loads into either
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs lack it


def _segmentation_network(config: TrainBrats, regions: tuple[str, ...]) -> SegmentationNetwork:
    if config.network == "unet":
        return UNet3d(config.modalities, regions, config.width)
    if config.has_own_network:
        return own_network(config, regions)
    _check_installed(config.network)
    network, last = make_monai_network(config.network, len(regions), config.patch, config.width)
    stride = ARCHITECTURES[config.network].stride(config.patch)
    return SharedSegmentation(network, config.modalities, regions, stride, last)


def check_network(config: TrainBrats) -> None:
    """Raises UserError if the network of a run cannot be made here, or is none that the method can train.

    It is known before anything is read: a function of the user's own is called, and what it returns is tried.
    """
    if not config.has_own_network:
        _check_installed(config.network)
        return
    network = own_network(config, tuple(config.label_scheme().regions))
    expected = f"a network whose last layer is a convolution, with --method {config.method}, which takes its features"
    check_option(not config.method.startswith("cggm") or network.last is not None, "network", config.network, expected)


def _check_installed(name: str) -> None:
    """Raises UserError if a package is absent that a network needs."""
    needs = ARCHITECTURES[name].needs
    if needs is not None and util.find_spec(needs) is None:
        raise UserError(f"--network {name}: needs {needs}, which is not installed; it comes by: pip install {needs}")


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


def build_classifier(config: TrainClassify, about: Mapping[str, Any]) -> ClassifierNetwork:
    """Builds the network of a run on the files of a manifest, on the CPU, with weights from torch's random state.

    about: what the run's splits.json says of its data: "inputs" (modality -> kind and sizes) and "outputs".
    Raises UserError if the network shares what cannot be shared.
    """
    outputs = sum(outcome.width for outcome in outcomes_of(about))
    of_config = (config.network, config.pictures, config.width, config.layers, config.heads, config.dropout)
    return make_classifier(inputs_of(about), outputs, *of_config)


def inputs_of(about: Mapping[str, Any]) -> dict[str, Input]:
    """Returns what the modalities give a network. about: as in `build_classifier`"""
    return {m: Input(kind, sizes) for m, (kind, sizes) in about["inputs"].items()}


def network_of(config: TrainConfig, about: dict) -> MultimodalNetwork:
    """Builds the network of a run of any task.

    about: as in `build_sequence_network` or `build_classifier`; segmentation needs none of it
    """
    if isinstance(config, TrainBrats):
        return build_network(config)
    if isinstance(config, TrainClassify):
        return build_classifier(config, about)
    assert isinstance(config, TrainSequences)  # all other tasks are on sequences
    return build_sequence_network(config, about)


def network_bytes(config: TrainConfig, about: dict) -> int:
    """Returns about how many bytes the weights of a run's network take, of volumes the features of one patch besides.

    config, about: as in `network_of`
    """
    if isinstance(config, TrainBrats):
        architecture = ARCHITECTURES.get(config.network, ARCHITECTURES["unet"])  # nobody knows of one's own
        features = math.prod(config.patch) * architecture.channels * config.width
        return int(4 * (architecture.size(config.width) + features))
    if isinstance(config, TrainClassify):
        return _classifier_bytes(config, about)
    assert isinstance(config, TrainSequences)
    encoders = 1 if config.network == "ds" else len(config.modalities)
    return 4 * config.width * (BLOCK * config.width * config.layers * encoders + sum(about["features"].values()))


def _classifier_bytes(config: TrainClassify, about: Mapping[str, Any]) -> int:
    """Returns about how many bytes the weights of a classifier take."""
    size = config.width * sum(outcome.width for outcome in outcomes_of(about))
    for kind, sizes in inputs_of(about).values():
        if kind in ("image", "audio"):
            sides = (sizes["height"], sizes["width"]) if kind == "image" else (sizes["steps"], sizes["mels"])
            size += picture_network(config.pictures).parameters * max(1, math.prod(sides) // 224**2)
        else:
            size += config.width * (BLOCK * config.width * config.layers)
            size += config.width * sizes["vocabulary" if kind == "text" else "features"]
    return 4 * size
