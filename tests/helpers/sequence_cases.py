"""Small sets of sequences, as their files hold them, for the tests of the readers."""

import pickle

import numpy as np
import torch

SIZES = {"train": 5, "valid": 3, "test": 4}
SPLIT_OF = {"train": "train", "valid": "validation", "test": "test"}
FEATURES = {"text": 6, "audio": 3, "vision": 4}


def table(lengths=(3, 12, 1, 4, 2, 5, 2), test=2, seed=0):
    """An utterance table of one video for each of the lengths, the last `test` of them to test on; rows shuffled."""
    rng = np.random.default_rng(seed)
    videos = np.repeat([f"video{i}" for i in range(len(lengths))], lengths)
    numbers = np.concatenate([np.arange(1, length + 1) for length in lengths])
    order = rng.permutation(len(videos))
    videos, numbers = videos[order], numbers[order]
    tested = [f"video{i}" for i in range(len(lengths) - test, len(lengths))]
    arrays = {m: rng.standard_normal((len(videos), size)).astype(np.float32) for m, size in FEATURES.items()}
    label = rng.uniform(-3, 3, len(videos)).astype(np.float32)
    return arrays | {
        "video": videos,
        "utt": numbers,
        "label": label,
        "bclstm_split": np.where(np.isin(videos, tested), "test", "train"),
    }


def ragged(samples, size, longest, rng):
    return [rng.standard_normal((rng.integers(1, longest + 1), size)).astype(np.float32) for _ in range(samples)]


def padded(sequences, longest, in_front=False):
    """[n, longest, F], zeros behind the sequences or before them."""
    result = np.zeros((len(sequences), longest, sequences[0].shape[1]), np.float32)
    for row, sequence in zip(result, sequences, strict=True):
        row[slice(longest - len(sequence), None) if in_front else slice(len(sequence))] = sequence
    return result


def mmsa(aligned=False, seed=0):
    """What a pickle of MMSA holds, and the sequences in it: split -> modality -> list."""
    rng = np.random.default_rng(seed)
    content, sequences = {}, {}
    for split, samples in SIZES.items():
        longest = {"text": 7, "audio": 7 if aligned else 20, "vision": 7 if aligned else 15}
        found = {m: ragged(samples, FEATURES[m], longest[m], rng) for m in FEATURES}
        scores = rng.uniform(-3, 3, samples)
        content[split] = {
            **{m: padded(found[m], longest[m]) for m in FEATURES},
            "text_bert": np.zeros((samples, 3, 7)),
            "raw_text": np.array([f"words {i}" for i in range(samples)], object),
            "id": [f"{split}$_${i}" for i in range(samples)],
            "regression_labels": scores,
            "classification_labels": np.sign(scores) + 1,
            "annotations": ["Negative"] * samples,
        }
        if not aligned:
            content[split] |= {f"{m}_lengths": [len(s) for s in found[m]] for m in ("audio", "vision")}
        sequences[split] = found
    return content, sequences


def mult(seed=0, ids=True, in_front=True):
    """What a pickle of MulT holds, aligned, padded in front; and the sequences in it."""
    rng = np.random.default_rng(seed)
    content, sequences = {}, {}
    for split, samples in SIZES.items():
        found = {m: ragged(samples, FEATURES[m], 9, rng) for m in FEATURES}
        content[split] = {m: padded(found[m], 9, in_front).astype(np.float64) for m in FEATURES}
        content[split]["labels"] = rng.uniform(-3, 3, (samples, 1, 1))
        if ids:
            content[split]["id"] = np.array([[f"{split}{i}".encode(), b"0.5", b"2.75"] for i in range(samples)])
        sequences[split] = found
    return content, sequences


def all_samples(data):
    return [sample for samples in data.splits.values() for sample in samples]


def write_pickle(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def write_npz(path, arrays):
    np.savez(path, **arrays)
    return path


def assert_same(one, other):
    """Two SequenceData, bit for bit."""
    assert (one.features, one.classes, one.per_step, one.notes) == (
        other.features,
        other.classes,
        other.per_step,
        other.notes,
    )
    assert list(one.features) == list(other.features)
    assert list(one.splits) == list(other.splits) == ["train", "validation", "test"]
    for split, samples in one.splits.items():
        for a, b in zip(samples, other.splits[split], strict=True):
            assert a.name == b.name
            assert list(a.values) == list(b.values)
            assert all(identical(a.values[m], b.values[m]) for m in a.values)
            assert identical(a.target, b.target)


def identical(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


def recordings(speakers=3, indices=range(14), seed=0):
    """What a file of spoken digits holds: noise, of some speakers."""
    rng = np.random.default_rng(seed)
    each = [(digit, f"speaker{s}", index) for digit in range(10) for s in range(speakers) for index in indices]
    lengths = rng.integers(300, 600, len(each))
    digits, speaker, index = zip(*each, strict=True)
    return {
        "waveform": rng.integers(-3000, 3000, lengths.sum()).astype(np.int16),
        "offset": np.concatenate([[0], lengths.cumsum()]),
        "digit": np.array(digits, np.int8),
        "speaker": np.array(speaker),
        "index": np.array(index, np.int16),
    }
