"""From cells to tensors: what a batch of samples gives a network."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gmd.data.manifest.cells import Cell
from gmd.data.manifest.features import load_features
from gmd.data.manifest.images import load_image
from gmd.data.manifest.inputs import Input, Preparation
from gmd.data.manifest.sound import load_sound
from gmd.data.manifest.texts import load_tokens
from gmd.data.padded import Padded, pad
from gmd.data.pairs import Pairs, samples_having
from gmd.data.sequences.samples import Sample

SEQUENCES = ("text", "features")  # kinds whose values have lengths of their own, and are padded

Replaced = Counter[str]  # modality -> values that are replaced by 0, since nothing can be computed with them
Batch = tuple[Pairs, Tensor, Replaced]


def load_batch(
    samples: Sequence[Sample],
    modalities: Sequence[str],
    inputs: Mapping[str, Input],
    preparation: Preparation,
    random: Sequence[Sequence[int]] | None = None,
) -> Batch:
    """Loads the pairs of a batch that exist, with nothing filled in for those that do not.

    random: of training samples, the seed of each one's augmentation and frames; None: nothing is random
    returns the pairs, modality -> values as `Input` says, the targets, [n] or [n, O], and what was replaced
    Raises UserError for a file that cannot be decoded, with the line of its row.
    """
    having = samples_having([sample.values for sample in samples], modalities)
    replaced = Replaced()
    values: dict[str, Tensor | Padded] = {}
    for place, m in enumerate(modalities):
        loaded = []
        for s in having.get(m, ()):
            rng = None if random is None else np.random.default_rng([*random[s], place])
            value, bad = load_cell(samples[s].values[m], inputs[m], preparation, rng)
            loaded.append(value)
            replaced[m] += bad
        if loaded:
            values[m] = pad(loaded) if inputs[m].kind in SEQUENCES else torch.stack(loaded)
    return Pairs(len(samples), having, values), torch.stack([sample.target for sample in samples]), replaced


def load_cell(
    cell: Cell, given: Input, preparation: Preparation, rng: np.random.Generator | None
) -> tuple[Tensor, int]:
    """Returns a cell's value, and how many numbers in it are replaced by 0.

    rng: of a training sample; None: nothing is random
    returns image [K, 3, H, W], audio [1, T, M], text int64 [L], features [L, F]. Raises UserError as `load_batch`.
    """
    sizes = given.sizes
    if given.kind == "image":
        return load_image(cell, sizes["frames"], sizes["height"], preparation.augment, rng), 0
    if given.kind == "audio":
        return load_sound(cell, preparation, rng), 0
    if given.kind == "text":
        return load_tokens(cell, sizes["vocabulary"], sizes["longest"]), 0
    return load_features(cell, sizes["longest"])
