"""Networks that tell classes or numbers from samples of pictures, sound, text and features."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from gmd.data.manifest.inputs import Input
from gmd.models.attention_fusion import AttentionFusion
from gmd.models.classification.picture_networks import PictureNetwork
from gmd.models.classification.pictures import PictureEncoders
from gmd.models.classification.sequences import SequenceEncoders
from gmd.models.multimodal import FeatureNetwork
from gmd.models.sequences.input_statistics import Statistics
from gmd.models.sequences.standardised import Standardised, set_statistics

GROUPS = {"pictures": ("image", "audio"), "sequences": ("text", "features")}  # whose kinds can share a network


class ClassifierNetwork(FeatureNetwork):
    """A network for each modality, or one for all of the same group, the mean of their features, and a head.

    Args:
        inputs: modality -> its kind and sizes, in the order of their indices.
        outputs: C, how many numbers the head returns: classes, or the classes and numbers of several outputs.
        pictures: how the network for images and spectrograms is made; nothing is made of it where there are none.
        width: d of the features.
        layers: number of blocks of the transformers for text and features.
        heads: number of the attention's heads; it has to divide the width.
        dropout: rate, of the transformers.
        shared: whether pictures and spectrograms share a network, and text and features another one (Dynamic Sharing),
            if there are two modalities of a group; else each modality has its own.

    Call it with the values of one modality and its index, of a batch of n samples: images float [n, K, 3, H, W],
    spectrograms float [n, 1, T, mels], Padded tokens int64 [n, L], or Padded features float [n, L, F]. It returns
    features [n, d]. `head` makes fused features into predictions [n, C].

    Raises ValueError for sizes that do not fit together, when it is made and when it is called.
    """

    def __init__(
        self,
        inputs: Mapping[str, Input],
        outputs: int,
        pictures: PictureNetwork,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        shared: bool,
    ):
        super().__init__()
        _check_sizes(inputs, outputs, width, heads)
        self.modalities = tuple(inputs)
        groups = {group: members_of(group, inputs) for group in GROUPS}
        self.places = {m: (group, place) for group, members in groups.items() for place, m in enumerate(members)}
        of_pictures, of_sequences = groups.values()
        self.by_sample = not of_pictures  # whose BatchNorms mix the samples
        if of_pictures:
            self.pictures = PictureEncoders(of_pictures, pictures, width, shared and len(of_pictures) > 1)
        if of_sequences:
            together = shared and len(of_sequences) > 1
            self.sequences = SequenceEncoders(of_sequences, width, layers, heads, dropout, together)
        self.head = nn.Linear(width, outputs)

    def forward(self, values: Any, modality: int) -> Tensor:
        group, place = self.places[self.modalities[modality]]
        return getattr(self, group)(values, place)

    def set_input_statistics(self, statistics: Statistics) -> None:
        """Sets the means and deviations that images (by channel), spectrograms (by band) and features are standardised
        with, which are 0 and 1 at first.

        Modalities that are not given keep theirs. A standard deviation of 0 counts as 1.
        Raises ValueError for text, for a modality that the network does not know, and for numbers it cannot divide by.
        """
        layers = [module for module in self.modules() if isinstance(module, Standardised)]
        set_statistics({layer.modality: layer for layer in layers}, statistics)

    def private_parameters(self, modality: str) -> list[nn.Parameter]:
        """Returns the parameters that belong to this modality alone."""
        group, place = self.places[modality]
        return getattr(self, group).private_parameters(place)


class LateClassifier(AttentionFusion, ClassifierNetwork):
    """The same, but the fused features are what a transformer makes of a token for each modality.

    See ClassifierNetwork for the arguments.
    """

    def __init__(
        self,
        inputs: Mapping[str, Input],
        outputs: int,
        pictures: PictureNetwork,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        shared: bool,
    ):
        super().__init__(inputs, outputs, pictures, width, layers, heads, dropout, shared)
        self.add_fusion(width, heads, dropout)


def members_of(group: str, inputs: Mapping[str, Input]) -> dict[str, Input]:
    """Returns the modalities of a group, one of GROUPS."""
    return {m: given for m, given in inputs.items() if given.kind in GROUPS[group]}


def _check_sizes(inputs: Mapping[str, Input], outputs: int, width: int, heads: int) -> None:
    """Raises ValueError for inputs and sizes that no network can have."""
    kinds = [kind for group in GROUPS.values() for kind in group]
    if not inputs:
        raise ValueError("inputs: expected at least one modality, got none")
    for modality, given in inputs.items():
        if given.kind not in kinds:
            raise ValueError(f"inputs[{modality!r}]: expected one of {', '.join(kinds)}, got {given.kind!r}")
        if wrong := [name for name, size in given.sizes.items() if size < 1]:
            raise ValueError(f"inputs[{modality!r}]: expected {wrong[0]} of at least 1, got {given.sizes[wrong[0]]}")
    if outputs < 1:
        raise ValueError(f"outputs: expected at least 1, got {outputs}")
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(f"width: expected a multiple of the {heads} heads, got {width}")
