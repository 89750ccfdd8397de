"""Small sets of sequences in the layouts in which they are handed around, for the tests of their readers."""

import csv

import h5py
import numpy as np

from helpers.sequence_cases import FEATURES, SIZES, write_pickle

MISA_PARTS = {"train": "train", "valid": "dev", "test": "test"}
DIALOGUES = 9  # that train; two more test


def word_samples(seed=0, actual_words=True):
    """What MISA's pickles hold, with the actual words, or MAG-BERT's, without: part -> samples."""
    rng = np.random.default_rng(seed)
    content = {}
    for split, size in SIZES.items():
        samples = content.setdefault(MISA_PARTS[split], [])
        for i in range(size):
            length = int(rng.integers(1, 6))
            words = [f"Word{k}" for k in rng.integers(0, 9, length)]
            vision, audio = (rng.standard_normal((length, FEATURES[m])) for m in ("vision", "audio"))
            score = np.array([[rng.uniform(-3, 3)]], np.float32)
            numbers = np.arange(length)
            inputs = (numbers, vision, audio, words) if actual_words else (words, vision, audio)
            samples.append((inputs, score, f"{split}video[{i}]"))
    return content


def write_misa(folder, content):
    folder.mkdir()
    for part, samples in content.items():
        write_pickle(folder / f"{part}.pkl", samples)
    return folder


def dialogues(seed=0):
    """What DialogueRNN's pickle of IEMOCAP holds: a list of nine, to be made a tuple."""
    rng = np.random.default_rng(seed)
    names = [f"Ses0{1 + i % 5}_impro{i:02}" for i in range(DIALOGUES + 2)]
    lengths = {name: int(rng.integers(2, 6)) for name in names}
    features = [
        {name: [rng.standard_normal(size).astype(np.float32) for _ in range(lengths[name])] for name in names}
        for size in (FEATURES["text"], FEATURES["audio"], FEATURES["vision"])
    ]
    utterances = {name: [f"{name}_F{i:03}" for i in range(lengths[name])] for name in names}
    speakers = {name: ["F", "M"] * 3 for name in names}
    labels = {name: rng.integers(0, 6, lengths[name]).tolist() for name in names}
    sentences = {name: ["words"] * lengths[name] for name in names}
    return [utterances, speakers, labels, *features, sentences, set(names[:DIALOGUES]), set(names[DIALOGUES:])]


def mfn_arrays(seed=0):
    """What MFN's files hold: name -> array, for each split X with 325 features, and y."""
    rng = np.random.default_rng(seed)
    found = {}
    for split, size in SIZES.items():
        steps = rng.standard_normal((size, 7, 325)).astype(np.float32)
        steps[:, 5:] = 0
        found |= {f"X_{split}": steps, f"y_{split}": rng.uniform(-3, 3, size).astype(np.float32)}
    return found


def write_mfn(folder, arrays):
    folder.mkdir()
    for name, array in arrays.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file.create_dataset("data", data=array, compression="gzip")
    return folder


def write_mmin(folder, seed=0, folds=(1, 2)):
    """IEMOCAP in MMIN's layout; returns the folder, and fold -> part -> (names, classes)."""
    rng = np.random.default_rng(seed)
    names = [f"Ses0{1 + i % 5}F_impro01_F{i:03}" for i in range(12)]
    for place, size in (("A/comparE", 3), ("V/denseface", 4), ("L/bert_large", 6)):
        path = folder / f"{place}.h5"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            for name in names:
                file[name] = 5 + rng.standard_normal((int(rng.integers(1, 8)), size)).astype(np.float32)
    lists = {}
    with h5py.File(folder / "A" / "comparE_mean_std.h5", "w") as file:
        for fold in folds:
            file[f"{fold}/mean"], file[f"{fold}/std"] = np.full(3, 5.0 + fold), np.array([2.0, 1.0, 0.0])
            order = rng.permutation(12)
            parts = {"trn": order[:6], "val": order[6:9], "tst": order[9:]}
            target = folder / "target" / str(fold)
            target.mkdir(parents=True)
            for part, members in parts.items():
                classes = members % 4
                np.save(target / f"{part}_label.npy", np.eye(4)[classes])
                np.save(target / f"{part}_int2name.npy", np.array([[names[i].encode()] for i in members]))
                lists.setdefault(fold, {})[part] = ([names[i] for i in members], classes.tolist())
    return folder, lists


def write_csd(path, name, entries):
    """A computational sequence. entries: name -> (features, intervals)"""
    with h5py.File(path, "w") as file:
        for entry, (features, intervals) in entries.items():
            file[f"{name}/data/{entry}/features"] = features
            file[f"{name}/data/{entry}/intervals"] = intervals
        file[f"{name}/metadata/root name"] = np.array([b"x"])


def csd_folder(folder, seed=0):
    """A folder of the SDK's: 6 videos of two segments each, steps of half a second; labels by interval."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    videos = [f"v{i}" for i in range(6)]
    steps = np.arange(0, 4, 0.5)
    times = np.stack([steps, steps + 0.5], axis=1)
    for file, size in (
        ("CMU_MOSI_TimestampedWordVectors", 6),
        ("CMU_MOSI_COVAREP", 3),
        ("CMU_MOSI_VisualFacet_4.1", 4),
    ):
        write_csd(folder / f"{file}.csd", file, {v: (1 + rng.random((8, size)), times) for v in videos})
    labels = {v: (rng.uniform(-3, 3, (2, 1)), np.array([[0.0, 1.5], [1.5, 4.0]])) for v in videos}
    write_csd(folder / "CMU_MOSI_Opinion_Labels.csd", "Opinion Segment Labels", labels)
    for split, members in (("train", videos[:3]), ("valid", videos[3:4]), ("test", videos[4:])):
        (folder / f"{split}.txt").write_text("\n".join(members) + "\n")
    return folder


def table_rows(seed=0, target="score", steps=False):
    """The rows of a csv table, its header first. steps: whether utterances have several rows, in any order."""
    rng = np.random.default_rng(seed)
    header = ["id", "split", target, *(["step"] if steps else []), "text_0", "text_1", "heart rate_0", "comment"]
    rows = []
    for number in range(9):
        split = ("train", "train", "valid", "test")[number % 4]
        label = f"{rng.uniform(-3, 3):.3f}" if target == "score" else ("calm", "tense")[number % 2]
        for step in rng.permutation(3) if steps else [0]:
            values = [f"{value:.4f}" for value in rng.standard_normal(3)]
            rows.append([f"u{number}", split, label, *([str(step)] if steps else []), *values, "nothing"])
    return [header, *rows]


def write_table(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path
