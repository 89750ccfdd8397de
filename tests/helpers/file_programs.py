"""Files of sequences that are no pickles of splits, of which bytes were changed: HDF5, tensors, tables, tuples.

Each function makes the same bytes of the same seed, to be read by `helpers.read_pickles`.
"""

import io
import pickle
import random

import h5py
import torch

from helpers.pickle_programs import changed_bytes
from helpers.sequence_cases import mmsa
from helpers.sequence_layouts import dialogues, mfn_arrays, table_rows, word_samples


def hdf5(seed: int) -> bytes:
    rng = random.Random(seed)
    file = io.BytesIO()
    with h5py.File(file, "w", libver=rng.choice(["earliest", "latest"])) as written:
        for name, array in mfn_arrays().items():
            written.create_dataset(name, data=array[:2], compression=rng.choice([None, "gzip", "lzf"]))
    return changed_bytes(file.getvalue(), rng)


def tensors(seed: int) -> bytes:
    content = {
        split: {key: torch.as_tensor(part[key]) for key in ("text", "audio", "regression_labels")}
        for split, part in mmsa()[0].items()
    }
    file = io.BytesIO()
    torch.save(content, file)
    return changed_bytes(file.getvalue(), random.Random(seed))


def table(seed: int) -> bytes:
    rng = random.Random(seed)
    rows = table_rows(steps=rng.random() < 0.5, target=rng.choice(["score", "label"]))
    return changed_bytes("\n".join(map(",".join, rows)).encode(), rng)


def tuples(seed: int) -> bytes:
    rng = random.Random(seed)
    content = rng.choice([word_samples(), word_samples(actual_words=False), tuple(dialogues())])
    return changed_bytes(pickle.dumps(content, protocol=rng.randrange(6)), rng)
