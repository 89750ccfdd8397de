"""`python -m bench.measure.directions`: directions that bounds on compression take, for bench/results/directions.csv.

Of real cotangents: the gradients of the objectives at the modalities' outputs, of networks that have trained for a
while. Each rule finds directions, and says how much of the worst objective they leave out.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from bench.measure.cotangents import transformer_gram, unet_gram
from bench.measure.files import RESULTS, write_csv
from bench.measure.host import host_columns
from bench.measure.phantom_cotangents import Setting, phantom_grams
from gmd.surgery._compression import leading_directions

CSV = RESULTS / "directions.csv"
TOLS = (0.01, 0.03, 0.1)
NOTHING = 1e-13  # of an eigenvalue or a squared norm, relative to the largest


class Found(NamedTuple):
    """How many directions one output takes, and the largest error of an objective, relative to its own norm."""

    directions: int
    error: float


def together(gram: Tensor, tol: float) -> Found:
    """Keeps principal directions until the energy of all objectives together is known, which bounds no one's error."""
    values, vectors = _principal(gram)
    count = max(1, int((_left(values) > tol**2 * values.sum()).sum()))
    return _judged(gram, vectors[:, :count], values[:count])


def principal(gram: Tensor, tol: float) -> Found:
    """Keeps principal directions of the cotangents at unit length until the worst objective is known."""
    cosines = _cosines(gram)
    values, vectors = _principal(cosines)
    found = (_judged(cosines, vectors[:, :count], values[:count]) for count in range(1, len(values) + 1))
    return next(one for one in found if one.error <= tol or one.directions == len(values))


def subset(gram: Tensor, tol: float) -> Found:
    """Keeps objectives' own cotangents: always that of the one whose error is largest (pivoted Cholesky)."""
    rest, count = _cosines(gram).clone(), 0
    while float(rest.diagonal().max()) > max(tol**2, NOTHING):
        worst = int(rest.diagonal().argmax())
        rest -= torch.outer(rest[worst], rest[worst]) / rest[worst, worst]
        count += 1
    return Found(count, float(rest.diagonal().max().clamp(min=0).sqrt()))


def reweighted(gram: Tensor, tol: float) -> Found:
    """Does what `gmd.GMD(tol=...)` does."""
    found = leading_directions(gram[None], tol, [torch.float32])
    return Found(found.counts[0], float(found.discarded.sqrt()))


def at_least(gram: Tensor, tol: float) -> Found:
    """Counts the directions that any rule needs, as the mean of the objectives' errors is no more than the worst."""
    values, _ = _principal(_cosines(gram))
    return Found(max(1, int((_left(values) > tol**2 * values.sum()).sum())), float("nan"))


RULES: dict[str, Callable[[Tensor, float], Found]] = {
    "energy of all together": together,
    "subset of the objectives": subset,
    "principal directions": principal,
    "reweighted (gmd)": reweighted,
    "at least": at_least,
}


def _cosines(gram: Tensor) -> Tensor:
    """Returns the Gramian of those cotangents that are not zero, at unit length."""
    there = gram.diagonal() > 0
    gram = gram[there][:, there]
    norms = gram.diagonal().sqrt()
    return gram / norms[:, None] / norms


def _principal(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Returns eigenvalues above rounding, the largest first, and their vectors in columns."""
    values, vectors = torch.linalg.eigh(gram)
    count = int((values > NOTHING * values[-1]).sum())
    return values.flip(0)[:count], vectors.flip(1)[:, :count]


def _left(values: Tensor) -> Tensor:
    """Returns the sums of the eigenvalues that are left without the first 0, 1, ... of them."""
    return values.flip(0).cumsum(dim=0).flip(0)


def _judged(gram: Tensor, vectors: Tensor, values: Tensor) -> Found:
    energy = gram.diagonal()
    left = (energy - vectors.square() @ values)[energy > 0] / energy[energy > 0]
    return Found(vectors.shape[1], float(left.max().clamp(min=0).sqrt()))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.measure.directions", description=__doc__)
    parser.add_argument("--out", type=Path, default=CSV)
    options = parser.parse_args()
    rows = []
    for case, grams in cases(Setting()):
        rows += rows_of(case, grams)
    write_csv(options.out, rows, host_columns())


def cases(setting: Setting) -> Iterator[tuple[str, list[Tensor]]]:
    """Yields a name and Gramians [M, T, T] of the cotangents of M outputs, of one or more steps."""
    unet = [unet_gram()]
    yield "U-Net after 40 steps", unet
    scales = torch.logspace(0, -3, unet[0].shape[-1], dtype=torch.float64)
    yield "the same, losses from 1 to 1/1000", [gram * scales[:, None] * scales for gram in unet]
    grams = phantom_grams(setting)
    yield f"phantoms, first {setting.moment} steps", grams[: setting.moment]
    yield f"phantoms, last {setting.moment} of {setting.steps}", grams[-setting.moment :]
    yield "transformer after 40 steps", [transformer_gram()]


def rows_of(case: str, grams: Sequence[Tensor]) -> list[dict]:
    """Returns a row for each rule and tol.

    own: objectives that reach an output, and so its backward passes without compression; mean over outputs and steps
    directions: backward passes with it, the same mean
    worst_error: the largest error of an objective at an output in any step, relative to its own gradient there
    """
    of_outputs = [gram for step in grams for gram in step]
    own = fmean(int((gram.diagonal() > 0).sum()) for gram in of_outputs)
    rows = []
    for tol in TOLS:
        for name, rule in RULES.items():
            found = [rule(gram, tol) for gram in of_outputs]
            columns = {
                "directions": fmean(one.directions for one in found),
                "worst_error": max(one.error for one in found),
            }
            sizes = {"T": grams[0].shape[-1], "outputs": len(grams[0]), "steps": len(grams)}
            rows.append({"case": case} | sizes | {"own": own, "tol": tol, "rule": name} | columns)
    return rows


if __name__ == "__main__":
    main()
