"""Makes a network for the kinds of input that there are."""

from collections.abc import Mapping

from gmd.data.manifest.inputs import Input
from gmd.errors import UserError
from gmd.models.classification.network import GROUPS, ClassifierNetwork, LateClassifier, members_of
from gmd.models.classification.picture_networks import picture_network

NETWORKS = {"ds": ClassifierNetwork, "late": LateClassifier, "branches": ClassifierNetwork}


def make_classifier(
    inputs: Mapping[str, Input],
    outputs: int,
    network: str,
    pictures: str,
    width: int,
    layers: int,
    heads: int,
    dropout: float,
) -> ClassifierNetwork:
    """Makes a network, on the CPU, with weights from torch's current random state.

    Args:
        inputs: modality -> its kind and sizes, in the order of their indices.
        outputs: C, how many numbers are predicted.
        network: "branches", an encoder for each modality, and the mean of their features (as MLA trains); "late", the
            same with a transformer for the fusion (as CGGM trains); "ds", one encoder for all modalities of pictures
            and sound and one for all of text and features, with norms of each one's own (Dynamic Sharing).
        pictures: the network for pictures and spectrograms, a name that `picture_network` knows.
        width, layers, heads, dropout: see ClassifierNetwork.

    Raises UserError for "ds" where no two modalities could share anything, and for an unknown network for pictures.
    Raises ValueError for sizes that do not fit together.
    """
    if network == "ds":
        check_sharing(inputs)
    made = picture_network(pictures)
    return NETWORKS[network](inputs, outputs, made, width, layers, heads, dropout, shared=network == "ds")


def check_sharing(inputs: Mapping[str, Input]) -> None:
    """Raises UserError if `ds` would share nothing."""
    if all(len(members_of(group, inputs)) < 2 for group in GROUPS):
        given = ", ".join(f"{m} ({kind})" for m, (kind, _) in inputs.items())
        raise UserError(
            f"--network ds: no two modalities of {given} could share a network: it takes two of images and sound, or "
            "two of text and features; take --network branches or late"
        )


def sharing_notes(inputs: Mapping[str, Input]) -> tuple[str, ...]:
    """Returns sentences on what `ds` shares, and which modality has nobody to share with."""
    notes = []
    for group in GROUPS:
        members = members_of(group, inputs)
        if len(members) > 1:
            notes.append(f"{', '.join(members)} share one network, with first layers and norms of their own")
        elif members:
            kinds = " or ".join(GROUPS[group])
            notes.append(f"{', '.join(members)} has a network of its own: no other modality is {kinds}")
    return tuple(notes)
