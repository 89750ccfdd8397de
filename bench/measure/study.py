"""`python -m bench.measure.study`: trains and scores every method on the same phantoms, for bench/results/study.csv.

Runs of one seed are paired: the same cases, initial weights and patches. A finished run leaves its row in a file of its
own and is not done again, so that the study can be stopped, or split over processes by `--seeds`, at any time.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

import pandas as pd
import torch
from tqdm import tqdm

from bench.measure.host import ROOT, host_columns
from gmd.config import TrainBrats
from gmd.data.segmentation.cases import find_cases
from gmd.data.segmentation.names import BRATS_MODALITIES
from gmd.data.segmentation.phantom import write_phantoms
from gmd.data.segmentation.volumes import load_case
from gmd.data.text_files import write_json
from gmd.files import replacing
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.models.segmentation.unet3d import UNet3d
from gmd.monitor.metrics_file import METRICS
from gmd.scoring.segmentation.scores import evaluate_cases
from gmd.scoring.segmentation.tables import Row, mean_over_subsets, subset_table
from gmd.subsets import subset_name
from gmd.training.loop import train
from gmd.training.saved_run import load_run

CSV, WORK = ROOT / "bench" / "results" / "study.csv", ROOT / "runs" / "study"


@dataclass(frozen=True)
class Arm:
    """One of the methods that are compared. energy: the share that compression may discard; 0 is exact."""

    name: str
    method: Literal["joint", "enumerate", "gmd"]
    granularity: Literal["model", "module", "tensor"] = "model"
    energy: float = 0.0


ARMS = (
    Arm("joint", "joint"),
    Arm("enumerate", "enumerate"),
    Arm("gmd", "gmd"),
    Arm("gmd, by module", "gmd", "module"),
    Arm("gmd, by tensor", "gmd", "tensor"),
    Arm("gmd, 1e-4", "gmd", energy=1e-4),
    Arm("gmd, 1e-3", "gmd", energy=1e-3),
    Arm("gmd, 1e-2", "gmd", energy=1e-2),
)


@dataclass(frozen=True)
class Setting:
    """The task, the same for every arm. The defaults are the committed study."""

    steps: int = 160
    width: float = 0.25
    shape: int = 32  # voxels along each axis of a phantom
    patch: int = 16
    batch: int = 2
    train_cases: int = 16
    test_cases: int = 12
    lr: float = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.measure.study", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--steps", type=int, default=Setting.steps, help="of the optimizer, in each run")
    parser.add_argument("--out", type=Path, default=CSV)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of data, runs and their rows")
    options = parser.parse_args()
    study(options.seeds, replace(Setting(), steps=options.steps), options.out, options.work)


def study(seeds: Sequence[int], setting: Setting, out: Path, work: Path) -> None:
    """Does the runs that are not done yet, a whole seed before the next; `out` gets the rows of all that are done."""
    folder = work / f"{setting.steps} steps"
    write_setting(folder / "setting.json", setting)
    runs = [(seed, arm) for seed in seeds for arm in ARMS]
    for seed, arm in tqdm(runs, desc="study", unit="run"):
        row = folder / f"seed {seed}" / arm.name / "row.json"
        if not row.exists():
            write_json(row, run(arm, seed, setting, row.parent))
        collect(folder, out)


def write_setting(path: Path, setting: Setting) -> None:
    """Writes down the setting of the runs in a folder, and how many parameters their network has.

    Raises ValueError where runs of another setting or another network are: rows of both would pass for one study.
    """
    wanted = asdict(setting) | {"parameters": num_parameters(setting)}
    if path.exists() and (found := json.loads(path.read_text(encoding="utf-8"))) != wanted:
        raise ValueError(f"{path.parent}: holds runs of {found}, not of {wanted}; give another --work")
    write_json(path, wanted)


def num_parameters(setting: Setting) -> int:
    """Returns how many parameters the network of this width has."""
    with torch.device("meta"):
        network = UNet3d(BRATS_MODALITIES, ("WT", "TC", "ET"), setting.width)
    return sum(parameter.numel() for parameter in network.parameters())


def collect(folder: Path, out: Path) -> None:
    """Writes the rows of all finished runs, in the order of seeds and arms, whichever process has done them."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/*/row.json")]
    order = [arm.name for arm in ARMS]
    rows.sort(key=lambda row: (row["seed"], order.index(row["arm"])))
    with replacing(out) as unfinished:
        pd.DataFrame(rows).to_csv(unfinished, index=False)


def run(arm: Arm, seed: int, setting: Setting, folder: Path) -> dict[str, object]:
    """Trains and scores one network, and returns its row."""
    config = training_config(arm, seed, setting, make_data(folder.parent / "phantoms", seed, setting), folder / "run")
    for left in config.out.glob("*.pt"):  # of a training that was stopped: its time is not known, so it starts anew
        left.unlink()
    start = time.process_time()  # not the clock: others may have the processor meanwhile
    train(config)
    seconds = time.process_time() - start
    head = {
        "seed": seed,
        "arm": arm.name,
        "method": arm.method,
        "granularity": arm.granularity,
        "energy": arm.energy,
        "steps": setting.steps,
    }
    steps = read_steps(config.out / METRICS)
    cost = {"cpu_s_per_step": seconds / setting.steps}
    return head | training_columns(steps) | score_columns(score(config)) | cost | host_columns()


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
        arm.method,
        width=setting.width,
        patch=(setting.patch,) * 3,
        epochs=1,
        steps_per_epoch=setting.steps,
        batch=setting.batch,
        lr=setting.lr,
        granularity=arm.granularity,
        tol=math.sqrt(arm.energy),
        seed=seed,
        device="cpu",
    )


def read_steps(metrics: Path) -> list[dict]:
    """Returns the records of the training steps, in their order, from a run's file of metrics."""
    records = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return [record for record in records if record["kind"] == "step"]


def training_columns(steps: list[dict]) -> dict[str, object]:
    """Returns what the steps of a training were like; `_first` is the first tenth of them, `_last` the last quarter.

    Conflicts and compression are None where there was one objective only.
    """
    last = steps[-max(1, len(steps) // 4) :]
    several = steps[0]["cosines"] is not None
    return {
        "skipped": sum(not step["finite"] for step in steps),
        "loss_last": fmean(step["loss"] for step in last),
        **conflict_columns(steps[: max(1, len(steps) // 10)], last, several),
        **compression_columns(steps if several else []),
    }


def conflict_columns(first: list[dict], last: list[dict], several: bool) -> dict[str, float | None]:
    """Returns how much the objectives conflicted early and late, if there were several.

    conflicts: the share of the pairs of objectives whose whole gradients have a negative inner product
    parts: that share of the pairs in what is projected, where that is modules or tensors
    """
    columns: dict[str, float | None] = dict.fromkeys(("conflicts_first", "conflicts_last", "parts_first", "parts_last"))
    if several:
        for when, steps in (("first", first), ("last", last)):
            columns[f"conflicts_{when}"] = fmean(map(conflicting_pairs, steps))
            columns[f"parts_{when}"] = fmean(step["conflicts"] for step in steps)
    return columns


def compression_columns(steps: list[dict]) -> dict[str, float | None]:
    """Returns means over the steps: directions kept of each modality's output, share of the energy discarded."""
    compressed = [step for step in steps if step["discarded"] is not None]
    return {
        name: fmean(fmean(step[name]) for step in compressed) if compressed else None
        for name in ("directions", "discarded")
    }


def conflicting_pairs(step: dict) -> float:
    """Returns the share of the pairs of objectives whose gradients have a negative cosine."""
    cosines = step["cosines"]
    pairs = [cosines[i][j] for i in range(len(cosines)) for j in range(i)]
    return fmean(cosine < 0 for cosine in pairs)


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
    """Returns hard Dice by subset, worst and best; a subset's is the mean over regions of its means over cases."""
    dice = {subset_name(row.subset): fmean(row.dice.values()) for row in rows}
    worst, full = min(dice, key=dice.__getitem__), max(rows, key=lambda row: len(row.subset)).subset
    return {
        "dice_mean": fmean(dice.values()),
        "dice_worst": dice[worst],
        "worst": worst,
        "best": max(dice, key=dice.__getitem__),
        "dice_best": max(dice.values()),
        "dice_full": dice[subset_name(full)],
        **{f"dice_{modality}": dice[modality] for modality in full},
        **{f"mean_{region}": value for region, value in mean_over_subsets(rows).items()},
    }


if __name__ == "__main__":
    main()
