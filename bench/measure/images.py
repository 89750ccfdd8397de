"""`python -m bench.measure.images`: a small Strip-MLP beside ResNet-18, on digits and on drawn shapes, 32 pixels wide.

The settings are the same for both networks, and nobody has tuned them. A finished training leaves its row in a file of
its own and is not done again; one that was stopped goes on. So this can be stopped, or split over processes by its
options, at any time. Times are of one thread's processor, so that a busy machine does not count.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from bench.measure.files import RESULTS
from bench.measure.host import ROOT, host_columns
from bench.measure.paired_runs import write_setting
from examples.images.options import Options
from examples.images.training import train
from gmd.data.text_files import write_json
from gmd.files import replacing

CSV, WORK = RESULTS / "images.csv", ROOT / "runs" / "images"
DATA = ("digits", "generated")
NETWORKS = ("strip:32:1-1-1-1", "resnet18")
SEEDS = 3


@dataclass(frozen=True)
class Setting:
    """What is the same for both networks. The defaults are the committed study."""

    image_size: int = 32
    epochs: int = 10
    warmup_epochs: int = 2
    batch: int = 32
    lr: float = 1e-3
    augmentation: str = "shift"
    mixup: float = 0.0
    cutmix: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.measure.images", description=__doc__)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(SEEDS)))
    parser.add_argument("--out", type=Path, default=CSV)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the trainings and their rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measure(options.data, options.networks, options.seeds, Setting(), options.work, options.out)


def measure(names: list[str], networks: list[str], seeds: list[int], setting: Setting, work: Path, out: Path) -> None:
    """Does the trainings that are not done yet; `out` gets the rows of all that are done.

    Raises ValueError where trainings of another setting are in the folder `work`.
    """
    write_setting(work / "setting.json", asdict(setting))
    trainings = [(name, seed, network) for name in names for seed in seeds for network in networks]
    for name, seed, network in tqdm(trainings, desc="images", unit="training"):
        folder = work / name / network.replace(":", " ") / f"seed {seed}"
        if not (folder / "row.json").exists():
            write_json(folder / "row.json", run(name, network, seed, setting, folder))
        collect(work, out)


def run(name: str, network: str, seed: int, setting: Setting, folder: Path) -> dict[str, object]:
    """Trains one network, and returns its row: accuracies are shares of 1."""
    options = Options(data=name, out=folder, network=network, seed=seed, device="cpu", **asdict(setting))
    if (folder / "last.pt").exists():
        options = Options(**(vars(options) | {"resume": True}))
    begun = time.process_time()
    result = train(options)
    seconds = (time.process_time() - begun) / setting.epochs
    return {"data": name, "seed": seed} | result | {"cpu_s_per_epoch": seconds} | host_columns()


def collect(work: Path, out: Path) -> None:
    """Writes the rows of all finished trainings, in the order of data, seeds and networks."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in work.glob("*/*/*/row.json")]
    rows.sort(key=lambda row: (DATA.index(row["data"]), row["seed"], NETWORKS.index(row["network"])))
    with replacing(out) as unfinished:
        pd.DataFrame(rows).to_csv(unfinished, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
