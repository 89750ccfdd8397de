"""Generated sequences, of which it is known what each modality tells, and how hard that is to learn.

The score is the sum of three independent parts, one for each modality, cut at -3 and 3:

    text    a part of standard deviation 1. Every step shows it along one direction of feature space: linear, learnt
            within a few passes.
    audio   a part of standard deviation 1, in the product of three features, of which two have random signs at each
            step: nothing that is linear in the steps, nor any product of two features, tells of it. Learnt late.
    vision  a part of standard deviation 0.35, linear like text's.

What can be read from each by who knows this (`decode`), as correlation with the score and accuracy of its sign:

    text 0.66, 72 %     audio 0.67, 74 %     vision 0.18, 56 %     all three 0.96, 92 %

So text dominates joint training, and audio is what a method for balance can win. A SharedTransformer that is trained
for the mean absolute error on 420 samples (AdamW at 1e-3 with cosine decay) reads audio alone, after 5, 10, 15 and 30
passes, with a correlation of 0.16, 0.48, 0.55 and 0.58 if audio is all it is trained on, and of 0.07, 0.20, 0.46 and
0.52 if it is trained on all three jointly, whose correlation is 0.79 in the end.
"""

from pathlib import Path

import numpy as np
import torch

from gmd.data.sequences.converted_file import check_new, write_converted
from gmd.data.sequences.samples import LARGEST_SCORE, SENTIMENT_MODALITIES, Sample, SequenceData
from gmd.errors import UserError
from gmd.memory_limit import most_bytes
from gmd.output_paths import free_bytes

PARTS = {"text": 1.0, "audio": 1.0, "vision": 0.35}  # standard deviation of what each modality adds to the score
FEATURES = {"text": 16, "audio": 12, "vision": 10}
LENGTHS = (5, 40)  # shortest and longest sequence
FEWEST = 10
BYTES = 3000  # of a sample, in memory and in the file, at least
TRAINING, VALIDATION = 0.7, 0.15  # parts of the samples; the rest tests
_SIGN_NOISE, _PRODUCT_NOISE = 0.5, 0.5  # of audio's features


def write_sentiment_phantom(out: str | Path, samples: int = 600, seed: int = 0) -> None:
    """Writes a generated set in the layout of `gmd convert`: 70 % to train, 15 % to validate, 15 % to test.

    samples: at least 10
    seed: sample i depends on the seed and i alone, and the file's bytes on the seed and the number of samples
    Raises UserError: numbers that cannot be used, a file that exists already, a name that does not end in .npz.
    """
    if samples < FEWEST or not 0 <= seed < 2**32:
        raise UserError(
            f"{samples} samples with seed {seed}: at least {FEWEST} and a seed of 0 or more are needed, below 2^32"
        )
    check_new(Path(out))
    size = BYTES * samples
    if size > (most := min(most_bytes(), free_bytes(Path(out).parent))):
        raise UserError(
            f"{samples} samples take {size / 1e9:.3g} GB, more than the {most / 1e9:.3g} GB that there are for them in "
            "memory and on the disk; give fewer"
        )
    made = [make_sample(seed, index) for index in range(samples)]
    ends = round(TRAINING * samples), round((TRAINING + VALIDATION) * samples)
    splits = {"train": made[: ends[0]], "validation": made[ends[0] : ends[1]], "test": made[ends[1] :]}
    notes = (f"generated, {samples} samples, seed {seed}: text tells as much as audio and is learnt sooner",)
    write_converted(SequenceData(FEATURES, None, False, splits, notes), Path(out))


def make_sample(seed: int, index: int) -> Sample:
    """Makes one sample in memory, with a score in [-3, 3]; it depends on the seed and the index alone."""
    rng = np.random.default_rng([seed, index])
    parts: dict[str, float] = {m: rng.normal(0, PARTS[m]) for m in SENTIMENT_MODALITIES}
    values = {m: rng.standard_normal((rng.integers(LENGTHS[0], LENGTHS[1] + 1), FEATURES[m])) for m in parts}
    for m in ("text", "vision"):
        values[m] += parts[m] * _direction(m)
    audio = values["audio"]
    signs = rng.choice([-1.0, 1.0], (2, len(audio)))
    audio[:, :2] = signs.T + _SIGN_NOISE * audio[:, :2]
    audio[:, 2] = signs.prod(axis=0) * parts["audio"] + _PRODUCT_NOISE * audio[:, 2]
    score = np.clip(sum(parts.values()), -LARGEST_SCORE, LARGEST_SCORE)
    tensors = {m: torch.from_numpy(value.astype(np.float32)) for m, value in values.items()}
    return Sample(f"Phantom_{seed:03d}_{index:05d}", tensors, torch.tensor(score, dtype=torch.float32))


def decode(sample: Sample) -> dict[str, float]:
    """Reads each modality's part of the score from it, as only who knows how it was made can: modality -> part."""
    steps = {m: value.double().numpy() for m, value in sample.values.items()}
    told: dict[str, float] = {m: float((steps[m] @ _direction(m)).mean()) for m in ("text", "vision") if m in steps}
    if "audio" in steps:
        told["audio"] = float(steps["audio"][:, :3].prod(axis=1).mean())
    return {m: told[m] for m in sample.values}


def _direction(modality: str) -> np.ndarray:
    """Returns the direction of feature space that shows the modality's part, float64 [F] of unit length.

    It is the same for every seed: what learnt from one set can be tested on another.
    """
    direction = np.random.default_rng(len(modality)).standard_normal(FEATURES[modality])
    return direction / np.linalg.norm(direction)
