"""Pictures and spectrograms become features, by a network for each modality or by one for all of them."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from gmd.data.manifest.inputs import Input
from gmd.models.classification.picture_networks import PictureNetwork, side_of
from gmd.models.sequences.standardised import Standardised
from gmd.sharing import Shared, share

CHANNELS = {"image": 3, "audio": 1}  # kind -> of a picture; a spectrogram is a picture of one channel


class Stem(Standardised):
    """What each modality has for itself: its pictures are standardised, made squares if need be, and convolved.

    The pixels of an image are standardised by channel, those of a spectrogram by band.

    Args:
        modality: its name, for error messages.
        given: the kind and the sizes of its pictures.
        convolution: the first one of the network.
        side: of the squares that the pictures are resampled to, in pixels; None leaves them as they are.
    """

    def __init__(self, modality: str, given: Input, convolution: nn.Conv2d, side: int | None):
        super().__init__(modality, CHANNELS["image"] if given.kind == "image" else given.sizes["mels"])
        self.of_images = given.kind == "image"
        self.shape = _shape_of(given)
        self.side = side
        self.convolution = convolution

    def forward(self, pictures: Tensor) -> Tensor:
        """Convolves the K pictures of each sample: [n, K, 3, H, W], or [n, 1, T, mels], to [n * K, C, h, w].

        Raises ValueError for another shape.
        """
        if pictures.ndim != 1 + len(self.shape) or pictures.shape[1:] != self.shape:
            expected = ", ".join(map(str, self.shape))
            raise ValueError(f"{self.modality}: expected [n, {expected}], got {list(pictures.shape)}")
        if self.of_images:
            standard = ((pictures - self.mean[:, None, None]) / self.std[:, None, None]).flatten(0, 1)
        else:
            standard = (pictures - self.mean) / self.std
        if self.side is not None and standard.shape[2:] != (self.side, self.side):
            standard = F.interpolate(standard, (self.side, self.side), mode="bilinear", antialias=True)
        return self.convolution(standard)


class PictureEncoders(nn.Module):
    """A network for the pictures of several modalities.

    Args:
        inputs: modality -> its kind, image or audio, and its sizes.
        network: how the parts of the network for pictures are made.
        width: d of the features.
        shared: whether one network serves all modalities, with stems and norms (their running statistics too) of each
            one's own; else each has its own.

    Call it with the pictures of one modality, images [n, K, 3, H, W] or spectrograms [n, 1, T, mels], and its index; it
    returns [n, d], for K frames the projected mean of theirs.
    """

    def __init__(self, inputs: Mapping[str, Input], network: PictureNetwork, width: int, shared: bool):
        super().__init__()
        self.shared = shared
        sides = {m: side_of(*_shape_of(given)[-2:]) for m, given in inputs.items()}
        if shared:
            sides = dict.fromkeys(inputs, max(sides.values()))  # one body is made for one side
        self.stems = nn.ModuleList(
            Stem(m, given, network.stem(CHANNELS[given.kind]), sides[m] if network.square else None)
            for m, given in inputs.items()
        )
        if shared:
            bodies: list[nn.Module] = [share(network.body(max(sides.values())), tuple(inputs))]
        else:
            bodies = [network.body(side) for side in sides.values()]
        self.bodies = nn.ModuleList(bodies)
        self.projections = nn.ModuleList(nn.Linear(network.features, width) for _ in bodies)

    def forward(self, pictures: Tensor, place: int) -> Tensor:
        convolved = self.stems[place](pictures)
        features = self.bodies[0](convolved, place) if self.shared else self.bodies[place](convolved)
        projection = self.projections[0 if self.shared else place]
        return projection(features.unflatten(0, (len(pictures), -1)).mean(dim=1))

    def private_parameters(self, place: int) -> list[nn.Parameter]:
        """Returns the parameters that belong to the modality of this index alone."""
        own = [*self.stems[place].parameters()]
        if isinstance(shared := self.bodies[0], Shared):
            return own + shared.private_parameters(place)
        return [*own, *self.bodies[place].parameters(), *self.projections[place].parameters()]


def _shape_of(given: Input) -> tuple[int, ...]:
    """Returns the shape of one sample's pictures."""
    sizes = given.sizes
    if given.kind == "image":
        return sizes["frames"], CHANNELS["image"], sizes["height"], sizes["width"]
    return CHANNELS["audio"], sizes["steps"], sizes["mels"]
