"""`python -m bench.measure.directions`: directions that bounds on compression take, for bench/results/directions.csv.

Of real cotangents: the gradients of the objectives at the modalities' outputs, of networks that have trained for a
while. Each rule finds directions, and says how much of the worst objective they leave out.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import PolynomialLR
from tqdm import tqdm

import gmd_kernels as gk
from bench.measure.blobs import MODALITIES
from bench.measure.files import RESULTS, write_csv
from bench.measure.host import host_columns
from bench.measure.sequences import make_batch, make_network, subset_losses, tensors_of
from bench.measure.step import Step, region_loss
from gmd.config import TrainBrats
from gmd.data.pairs import Pairs
from gmd.data.segmentation.phantom import write_phantoms
from gmd.models.multimodal import mean_fusion, run_modalities
from gmd.models.sequences.shared_transformer import SharedTransformer
from gmd.surgery._compression import leading_directions
from gmd.training.objectives import subset_objectives
from gmd.training.tasks import open_task

CSV = RESULTS / "directions.csv"
TOLS = (0.01, 0.03, 0.1)
NOTHING = 1e-13  # of an eigenvalue or a squared norm, relative to the largest


class Found(NamedTuple):
    """How many directions one output takes, and the largest error of an objective, relative to its own norm."""

    count: int
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
    return next(one for one in found if one.error <= tol or one.count == len(values))


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


@dataclass(frozen=True)
class Setting:
    """The phantoms' training. The defaults are those of the committed figures, and of bench.measure.study."""

    steps: int = 160
    moment: int = 16  # steps that count as early, and as late
    width: float = 0.25
    shape: int = 32
    patch: int = 16
    batch: int = 2
    train_cases: int = 16
    lr: float = 0.01


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


def unet_gram() -> Tensor:
    """Returns the Gramians of bench.measure.step's network at 32 voxels along each axis."""
    step = Step("exact float32", 0.5, 32)
    values = {m: step.volumes[i : i + 1] for i, m in enumerate(MODALITIES)}
    outputs = run_modalities(step.network, Pairs(1, {m: [0] for m in MODALITIES}, values))
    return cotangent_gram(list(subset_objectives(outputs, step.target, region_loss).values()), tensors_of(outputs))


def transformer_gram() -> Tensor:
    """Returns the Gramians of bench.measure.sequence_step's network of width 64."""
    network = make_network(SharedTransformer, 64, 2)
    inputs, scores = make_batch(seed=1)
    outputs = run_modalities(network, inputs)
    return cotangent_gram(subset_losses(network, outputs, scores), tensors_of(outputs))


def phantom_grams(setting: Setting) -> list[Tensor]:
    """Trains on hard phantoms, on the mean of the 15 objectives, and returns the Gramians of every step."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "phantoms"
        for seed, (split, count) in enumerate({"train": setting.train_cases, "validation": 1, "test": 1}.items()):
            write_phantoms(data / split, count, (setting.shape,) * 3, seed, "hard")
        return _trained_on(data, setting)


def _trained_on(data: Path, setting: Setting) -> list[Tensor]:
    torch.manual_seed(0)
    task = open_task(
        TrainBrats(
            (data,),
            data / "run",
            "enumerate",
            width=setting.width,
            patch=(setting.patch,) * 3,
            epochs=1,
            steps_per_epoch=setting.steps,
            batch=setting.batch,
            device="cpu",
        )
    )
    network = task.build_network()
    optimizer = torch.optim.AdamW(network.parameters(), setting.lr)
    schedule = PolynomialLR(optimizer, total_iters=setting.steps, power=0.9)
    grams = []
    for batch in tqdm(task.batches(1), desc="phantoms", unit="step"):
        inputs, targets = task.to_device(*batch, torch.device("cpu"))
        outputs = task.outputs(network, inputs)
        losses = list(subset_objectives(outputs, targets, task.criterion, mean_fusion).values())
        grams.append(cotangent_gram(losses, tensors_of(outputs)))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
        schedule.step()
    return grams


def cotangent_gram(losses: Sequence[Tensor], outputs: dict[str, Tensor]) -> Tensor:
    """Returns [M, T, T] float64, of the losses' gradients at each output, zeros where there is none."""
    values = list(outputs.values())
    rows = [torch.autograd.grad(loss, values, retain_graph=True, allow_unused=True) for loss in losses]
    return gk.gram(rows, groups=range(len(values)))


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
            columns = {"directions": fmean(one.count for one in found), "worst_error": max(one.error for one in found)}
            sizes = {"T": grams[0].shape[-1], "outputs": len(grams[0]), "steps": len(grams)}
            rows.append({"case": case} | sizes | {"own": own, "tol": tol, "rule": name} | columns)
    return rows


if __name__ == "__main__":
    main()
