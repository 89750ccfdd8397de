"""`python -m bench.measure.mfeat --data mfeat.npz`: the arms on digits seen by six modalities, 63 objectives.

The data are UCI's Multiple Features (van Breukelen et al., Kybernetika 1998): 2000 handwritten digits. Runs of one seed
are paired: the same samples, initial weights, order of the batches and dropout. A finished run leaves its row in a file
of its own and is not done again, so that this can be stopped, or split over processes by `--seeds`, at any time.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gmd
from bench.measure.arms import ARMS, Arm, arms_for
from bench.measure.files import RESULTS
from bench.measure.host import ROOT, host_columns
from bench.measure.paired_runs import measure
from bench.measure.sequences import predict
from gmd.config.weighting_options import weighting_options
from gmd.data.modality_dropout import drop_modalities
from gmd.data.pairs import Pairs
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.shared_transformer import SharedTransformer
from gmd.subsets import all_subsets, subset_name
from gmd.surgery.mean import MeanGradient
from gmd.surgery.report import Report
from gmd.training.objectives import full_objective, subset_objectives
from gmd.training.tasks.criteria import accuracy, cross_entropy

CSV, WORK = RESULTS / "mfeat.csv", ROOT / "runs" / "mfeat"
MODALITIES = ("fou", "fac", "kar", "pix", "zer", "mor")
CLASSES = 10
SEEDS = 5
# compression saves nothing on paths as short as these
DEFAULT = [arm.name for arm in ARMS if "tol" not in arm.options]

Samples = tuple[dict[str, Tensor], Tensor]  # modality -> one step of each sample, [n, 1, F]; digits [n] int64


@dataclass(frozen=True)
class Setting:
    """The task, the same for every arm. The defaults are the committed study."""

    width: int = 32
    layers: int = 1
    epochs: int = 40
    batch: int = 32
    lr: float = 1e-3
    weight_decay: float = 1e-2
    training: int = 300  # samples
    validation: int = 200  # that nobody looks at: they are there so that the test samples are those of others' figures
    test: int = 1000


@dataclass
class Split:
    """A seed's samples.

    Attributes:
        training, test: the numbers of the samples.
        order: of the training samples, drawn anew for each epoch.
    """

    training: np.ndarray
    test: np.ndarray
    order: np.random.Generator


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.measure.mfeat", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="mfeat.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(SEEDS)))
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in ARMS], default=DEFAULT)
    parser.add_argument("--out", type=Path, default=CSV)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the runs' rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    setting, samples = Setting(), read(options.data)
    runs = runs_of(options.seeds, options.arms)
    one_run = partial(run, samples=samples, setting=setting)
    measure("mfeat", runs, one_run, asdict(setting), options.work, options.out)


def runs_of(seeds: Sequence[int], names: Sequence[str]) -> list[tuple[int, Arm]]:
    """Returns the seed and the arm of each run, a whole seed before the next."""
    return [(seed, arm) for seed in seeds for arm in arms_for(MODALITIES) if arm.name in names]


def read(path: Path) -> Samples:
    """Reads all samples: each modality's features are a sequence of one step."""
    with np.load(path, allow_pickle=False) as arrays:
        values = {m: torch.from_numpy(arrays[m]).float()[:, None, :] for m in MODALITIES}
        return values, torch.from_numpy(arrays["digit"]).long()


def run(arm: Arm, seed: int, folder: Path, *, samples: Samples, setting: Setting) -> dict[str, object]:
    """Trains and scores one network, and returns its row, shares of digits that are told rightly. Writes nothing."""
    split = draw_split(len(samples[1]), seed, setting)
    network = make_network(samples[0], split, seed, setting)
    start = time.process_time()  # not the clock: others may have the processor meanwhile
    reports = train(network, arm, seed, samples, split, setting)
    seconds = time.process_time() - start
    cost = {"cpu_s_per_step": seconds / len(reports)}
    return training_columns(reports) | score_columns(score(network, samples, split.test)) | cost | host_columns()


def draw_split(number: int, seed: int, setting: Setting) -> Split:
    """Draws the samples that train and those that are tested on."""
    drawn = np.random.default_rng(seed).permutation(number)
    training, _, test, _ = np.split(drawn, np.cumsum([setting.training, setting.validation, setting.test]))
    return Split(training, test, np.random.default_rng([seed, 1]))


def make_network(values: Mapping[str, Tensor], split: Split, seed: int, setting: Setting) -> SharedTransformer:
    """Makes the transformer of Dynamic Sharing, which standardises with the training samples' statistics.

    Seeds torch's own generator, from which the dropout draws.
    """
    torch.manual_seed(seed)
    features = {m: value.shape[-1] for m, value in values.items()}
    network = SharedTransformer(features, CLASSES, per_step=False, width=setting.width, layers=setting.layers)
    training = {m: value[split.training, 0] for m, value in values.items()}
    network.set_input_statistics({m: (value.mean(dim=0), value.std(dim=0)) for m, value in training.items()})
    return network


def train(
    network: SharedTransformer, arm: Arm, seed: int, samples: Samples, split: Split, setting: Setting
) -> list[Report]:
    """Trains the network as `gmd train` does, with a learning rate that decays to 0. Returns a report for each step."""
    optimizer = torch.optim.AdamW(network.parameters(), setting.lr, weight_decay=setting.weight_decay)
    total = setting.epochs * -(-setting.training // setting.batch)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=total, power=0.9)
    generator = torch.Generator().manual_seed(seed)
    backward = make_backward(arm.options, optimizer, generator)
    reports = []
    network.train()
    for _ in range(setting.epochs):
        drawn = split.order.permutation(split.training)
        for start in range(0, len(drawn), setting.batch):
            inputs, digits = batch_of(samples, drawn[start : start + setting.batch])
            inputs = drop_modalities(inputs, generator) if arm.method == "dropout" else inputs
            outputs = run_modalities(network, inputs)
            alone = arm.method in ("joint", "dropout")
            objectives = full_objective if alone else subset_objectives
            losses = objectives(outputs, digits, cross_entropy, partial(predict, network))
            optimizer.zero_grad()
            reports.append(backward(losses, outputs))
            optimizer.step()
            scheduler.step()
    return reports


def make_backward(
    options: Mapping[str, Any], optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> Callable[[dict, Pairs[Tensor]], Report]:
    """Returns the function from losses and outputs to `.grad`: the surgeon's backward pass, of an arm's options."""
    given = {name: value for name, value in options.items() if name != "method"}
    if options["method"] == "gmd":
        surgeon: gmd.Surgeon = gmd.GMD(optimizer, generator=generator, **given)
    elif options["method"] == "surgery":
        chosen: dict[str, Any] = dict(weighting_options(given.pop("weighting_options", ())))
        weighting = gmd.Weighting(given.pop("weighting"), **chosen)
        surgeon = gmd.Surgeon(optimizer, weighting, **given)
    else:
        mean = MeanGradient(optimizer)
        return lambda losses, outputs: mean.backward(list(losses.values()))
    # without `tol` whole passes are faster here: a modality's path is as short as what is behind it
    return lambda losses, outputs: surgeon.backward(
        {subset_name(subset): loss for subset, loss in losses.items()}, outputs.values if surgeon.tol else None
    )


def batch_of(samples: Samples, members: np.ndarray) -> tuple[Pairs[Tensor], Tensor]:
    """Returns these samples as a batch, in which all have all modalities, and their digits."""
    values, digits = samples
    everybody = {m: list(range(len(members))) for m in values}
    return Pairs(len(members), everybody, {m: value[members] for m, value in values.items()}), digits[members]


@torch.no_grad()
def score(network: SharedTransformer, samples: Samples, members: np.ndarray) -> dict[str, float]:
    """Returns the accuracy on these samples with each subset of the modalities: its name -> share."""
    network.eval()
    inputs, digits = batch_of(samples, members)
    outputs = run_modalities(network, inputs)
    predictions = {subset: predict(network, outputs, subset)[0] for subset in all_subsets(MODALITIES)}
    return {subset_name(subset): float(accuracy(predicted, digits)) for subset, predicted in predictions.items()}


def score_columns(shares: Mapping[str, float]) -> dict[str, object]:
    """Returns the mean over the subsets, the worst of them, all modalities, and each alone."""
    worst = min(shares, key=shares.__getitem__)
    alone = {f"alone_{m}": shares[m] for m in MODALITIES}
    full = shares[subset_name(MODALITIES)]
    return {"mean": fmean(shares.values()), "worst": shares[worst], "full": full, "worst_subset": worst, **alone}


def training_columns(reports: Sequence[Report]) -> dict[str, object]:
    """Returns what the steps were like; `_first` is the first tenth of them, `_last` the last quarter.

    Conflicts are of the steps at which gradients were compared; None where there was one gradient only.
    """
    parts = {"first": reports[: max(1, len(reports) // 10)], "last": reports[-max(1, len(reports) // 4) :]}
    columns: dict[str, object] = {
        "skipped": sum(not report.finite for report in reports),
        "loss_last": fmean(float(report.losses.mean()) for report in parts["last"]),
        "refreshed": fmean(report.refreshed for report in reports) if len(reports[0].gram) > 1 else None,
    }
    for when, some in parts.items():
        known = [float(report.conflicts) for report in some if report.refreshed and len(report.gram) > 1]
        columns[f"conflicts_{when}"] = fmean(known) if known else None
    return columns


if __name__ == "__main__":
    main()
