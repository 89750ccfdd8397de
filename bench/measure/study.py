"""`python -m bench.measure.study`: trains and scores every arm on the same phantoms, for bench/results/study.csv.

Runs of one seed are paired: the same cases, initial weights and patches. A finished run leaves its row in a file of its
own and is not done again, so that the study can be stopped, or split over processes by `--seeds`, at any time.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

import torch

from bench.measure.arms import ARMS, Arm, arms_for
from bench.measure.host import ROOT, host_columns
from bench.measure.paired_runs import measure
from gmd.config import TrainBrats
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.phantom import write_phantoms
from gmd.data.segmentation.volumes import load_case
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.models.unet3d import UNet3d
from gmd.monitor.metrics_file import METRICS
from gmd.scoring.segmentation.scores import evaluate_cases
from gmd.scoring.segmentation.tables import Row, mean_over_subsets, subset_table
from gmd.subsets import subset_name
from gmd.training.loop import train
from gmd.training.saved_run import load_run

CSV, WORK = ROOT / "bench" / "results" / "study.csv", ROOT / "runs" / "study"
SEEDS = 5


@dataclass(frozen=True)
class Setting:
    """The task, the same for every arm. The defaults are the committed study."""

    steps: int = 160
    width: float = 0.25
    shape: int = 32  # voxels along each axis of a phantom
    patch: int = 16
    batch: int = 2
    train_cases: int = 16
    test_cases: int = 24
    lr: float = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.measure.study", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(SEEDS)))
    parser.add_argument("--arms", nargs="+", choices=[arm.name for arm in ARMS], default=[arm.name for arm in ARMS])
    parser.add_argument("--steps", type=int, default=Setting.steps, help="of the optimizer, in each run")
    parser.add_argument("--out", type=Path, default=CSV)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of data, runs and their rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    setting = replace(Setting(), steps=options.steps)
    study(runs_of(options.seeds, options.arms), setting, options.out, options.work)


def runs_of(seeds: Sequence[int], names: Sequence[str]) -> list[tuple[int, Arm]]:
    """Returns the seed and the arm of each run, a whole seed before the next."""
    return [(seed, arm) for seed in seeds for arm in arms_for(BRATS_MODALITIES) if arm.name in names]


def study(runs: Sequence[tuple[int, Arm]], setting: Setting, out: Path, work: Path) -> None:
    """Does the runs that are not done yet; `out` gets the rows of all that are.

    Raises ValueError where runs of another setting or another network are: rows of both would pass for one study.
    """
    whole = asdict(setting) | {"parameters": num_parameters(setting)}
    measure("study", runs, partial(run, setting=setting), whole, work / f"{setting.steps} steps", out)


def num_parameters(setting: Setting) -> int:
    """Returns how many parameters the network of this width has."""
    with torch.device("meta"):
        network = UNet3d(BRATS_MODALITIES, ("WT", "TC", "ET"), setting.width)
    return sum(parameter.numel() for parameter in network.parameters())


def run(arm: Arm, seed: int, folder: Path, *, setting: Setting) -> dict[str, object]:
    """Trains and scores one network, and returns its row."""
    config = training_config(arm, seed, setting, make_data(folder.parent / "phantoms", seed, setting), folder / "run")
    for left in config.out.glob("*.pt"):  # of a training that was stopped: its time is not known, so it starts anew
        left.unlink()
    start = time.process_time()  # not the clock: others may have the processor meanwhile
    train(config)
    seconds = time.process_time() - start
    steps = read_steps(config.out / METRICS)
    cost = {"steps": setting.steps, "cpu_s_per_step": seconds / setting.steps}
    return training_columns(steps) | score_columns(score(config)) | cost | host_columns()


def make_data(out: Path, seed: int, setting: Setting) -> Path:
    """Writes hard phantoms, in three splits that share no case with each other or with another seed's, into `out`."""
    counts = {"train": setting.train_cases, "validation": 1, "test": setting.test_cases}
    for number, (split, count) in enumerate(counts.items()):
        if len(list((out / split).glob("Phantom_*"))) < count:
            for left in (out / split).rglob("*.nii.gz"):
                left.unlink()
            write_phantoms(out / split, count, (setting.shape,) * 3, len(counts) * seed + number, "hard")
    return out


def training_config(arm: Arm, seed: int, setting: Setting, data: Path, out: Path) -> TrainBrats:
    """Returns a run's configuration. It has one epoch: the schedule decays over the steps whatever they are called, and
    only the end is validated."""
    return TrainBrats(
        (data,),
        out,
        **arm.options,
        width=setting.width,
        patch=(setting.patch,) * 3,
        epochs=1,
        steps_per_epoch=setting.steps,
        batch=setting.batch,
        lr=setting.lr,
        seed=seed,
        device="cpu",
    )


def read_steps(metrics: Path) -> list[dict]:
    """Returns the records of the training steps, in their order, from a run's file of metrics."""
    records = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return [record for record in records if record["kind"] == "step"]


def training_columns(steps: list[dict]) -> dict[str, object]:
    """Returns what the steps of a training were like; `_first` is the first tenth of them, `_last` the last quarter.

    conflicts: the share of the pairs of objectives whose whole gradients have a negative inner product, in the steps
        at which gradients were compared
    refreshed: the share of these steps
    They and what compression did are None where there was one gradient only.
    """
    first, last = steps[: max(1, len(steps) // 10)], steps[-max(1, len(steps) // 4) :]
    several = steps[0]["cosines"] is not None
    return {
        "skipped": sum(not step["finite"] for step in steps),
        "loss_last": fmean(step["loss"] for step in last),
        "refreshed": fmean(step["cosines"] is not None for step in steps) if several else None,
        "conflicts_first": mean_conflicts(first),
        "conflicts_last": mean_conflicts(last),
        **compression_columns(steps if several else []),
    }


def mean_conflicts(steps: list[dict]) -> float | None:
    """Returns the mean share of pairs in conflict, over the steps at which gradients were compared, if there are."""
    shares = [step["conflicts"] for step in steps if step["conflicts"] is not None]
    return fmean(shares) if shares else None


def compression_columns(steps: list[dict]) -> dict[str, float | None]:
    """Returns means over the steps: directions kept of each modality's output, share of the energy discarded."""
    compressed = [step for step in steps if step["discarded"] is not None]
    return {
        name: fmean(fmean(step[name]) for step in compressed) if compressed else None
        for name in ("directions", "discarded")
    }


def score(config: TrainBrats) -> list[Row]:
    """Returns the scores of the held-out cases, of all subsets, with the last weights of a run.

    A learning rate that decays to 0 needs no choice of a best epoch.
    """
    trained, network = load_run(config.out, "last")  # with the labels that the data tell
    assert isinstance(trained, TrainBrats)
    assert isinstance(network, SegmentationNetwork)
    [data] = config.data
    loaded = map(load_case, find_cases(data / "test", config.modalities))
    scores = evaluate_cases(network, loaded, trained.label_scheme(), config.patch)
    return subset_table(scores, config.modalities, network.regions)


def score_columns(rows: list[Row]) -> dict[str, object]:
    """Returns hard Dice: the mean over the subsets, the worst of them, all modalities, and each alone.

    A subset's is the mean over regions of its means over cases.
    """
    dice = {subset_name(row.subset): fmean(row.dice.values()) for row in rows}
    worst, full = min(dice, key=dice.__getitem__), max(rows, key=lambda row: len(row.subset)).subset
    return {
        "mean": fmean(dice.values()),
        "worst": dice[worst],
        "full": dice[subset_name(full)],
        "worst_subset": worst,
        **{f"alone_{modality}": dice[modality] for modality in full},
        **{f"mean_{region}": value for region, value in mean_over_subsets(rows).items()},
    }


if __name__ == "__main__":
    main()
