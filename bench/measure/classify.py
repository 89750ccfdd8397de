"""`gmd train classify`: `python -m bench.measure.classify --fsdd fsdd.npz --mosi mosi_utterances.npz --mfeat mfeat.npz`

Digits as pictures and sound, MOSI as text and features, digits seen by six modalities as features. All is done by the
commands that users have, on manifests. Runs of one seed are paired: the same rows, order and, of one network, initial
weights. A finished run leaves its rows in a file of its own and is not done again, so that this can be stopped, or
split over processes by its options, at any time.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from bench.measure import classify_data
from bench.measure.arms import Arm
from bench.measure.classify_data import Written
from bench.measure.files import RESULTS
from bench.measure.host import ROOT, host_columns
from bench.measure.sentiment import Study, run_once
from gmd.files import replacing

CSV, WORK = RESULTS / "classify.csv", ROOT / "runs" / "classify"
SEEDS = 3
SMALL_STRIP = "strip-mlp:32:1-1-1-1"  # a million parameters


def _four(prefix: str, options: Mapping[str, object]) -> tuple[Arm, ...]:
    """Returns joint training and three methods beside it, on one network."""
    joint = f"{prefix}, joint"
    others = (Arm(f"{prefix}, {m}", {**options, "method": m}, joint) for m in ("dropout", "gmd", "mla"))
    return Arm(joint, {**options, "method": "joint"}), *others


def _on(network: str, *methods: str) -> tuple[Arm, ...]:
    """Returns methods on a network, measured against the first of them."""
    base = f"{network}, {methods[0]}"
    arms = (
        Arm(f"{network}, {m}", {"network": network, "method": m}, base if m != methods[0] else None) for m in methods
    )
    return tuple(arms)


@dataclass(frozen=True)
class Data:
    """A data set: the function from its file, a folder and a seed to a manifest, and what is trained on that."""

    write: Callable[[Path, Path, int], Written]
    common: Mapping[str, object]
    arms: tuple[Arm, ...]


DATA = {
    "digits": Data(
        classify_data.digits,
        {"epochs": 5, "validate_every": 5, "batch": 16, "image_size": 64, "rate": 8000, "seconds": 1, "mels": 32},
        (*_four("Strip-MLP", {"pictures": SMALL_STRIP}), *_four("ResNet-18", {"pictures": "resnet18"})),
    ),
    "mosi": Data(
        classify_data.mosi,
        {"epochs": 10, "validate_every": 1, "batch": 32, "width": 32, "layers": 1, "longest": 50, "vocabulary": 4096},
        (*_on("branches", "joint", "dropout", "gmd", "mla"), *_on("ds", "joint", "gmd"), *_on("late", "joint", "cggm")),
    ),
    "mfeat": Data(
        classify_data.mfeat,
        {"epochs": 40, "validate_every": 40, "batch": 32, "width": 32, "layers": 1},
        (
            *_on("ds", "joint", "enumerate"),
            Arm("ds, gmd", {"network": "ds", "method": "gmd", "every": 8}, "ds, joint"),
            *_on("branches", "joint", "mla"),
            *_on("late", "joint", "cggm"),
        ),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.measure.classify", description=__doc__)
    parser.add_argument("--fsdd", type=Path, help="fsdd.npz, for digits")
    parser.add_argument("--mosi", type=Path, help="mosi_utterances.npz")
    parser.add_argument("--mfeat", type=Path, help="mfeat.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(SEEDS)))
    names = list(dict.fromkeys(arm.name for data in DATA.values() for arm in data.arms))
    parser.add_argument("--arms", nargs="+", choices=names, default=names, metavar="ARM")
    parser.add_argument("--out", type=Path, default=CSV)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the manifests, the runs and their rows")
    options = parser.parse_args()
    sources = {"digits": options.fsdd, "mosi": options.mosi, "mfeat": options.mfeat}
    given = {name: source for name, source in sources.items() if source is not None}
    if not given:
        parser.error("nothing to do: give --fsdd, --mosi or --mfeat")
    torch.set_num_threads(1)
    measure(given, options.seeds, options.arms, options.work, options.out)


def measure(sources: Mapping[str, Path], seeds: Sequence[int], names: Sequence[str], work: Path, out: Path) -> None:
    """Does the runs that are not done yet, a whole seed before the next; `out` gets the rows of all that are done."""
    runs = [(d, arm, seed) for seed in seeds for d in sources for arm in DATA[d].arms if arm.name in names]
    written: dict[tuple[str, int], Written] = {}
    for name, arm, seed in tqdm(runs, desc="classify", unit="run"):
        folder = work / name / f"seed {seed}"
        if (name, seed) not in written:
            written[name, seed] = DATA[name].write(sources[name].resolve(), folder / "data", seed)
        run(name, arm, seed, written[name, seed], folder)
        collect(work, out)


def run(name: str, arm: Arm, seed: int, data: Written, folder: Path) -> None:
    """Trains and scores one network, unless that is done."""
    # a thread that learns has nothing to do while another reads: it reads itself
    study = Study("classify", "", {**DATA[name].common, "root": str(data.root), "workers": 0}, ())
    run_once(study, arm, seed, data=data.manifest, work=folder, host=host_columns() | {"threads": 1})


def collect(work: Path, out: Path) -> None:
    """Writes the rows of all finished runs: of each, all modalities, each alone, the mean of the subsets, the worst."""
    rows = []
    for name, data in DATA.items():
        for path in sorted(work.glob(f"{name}/seed */classify/*/rows.json")):
            found = json.loads(path.read_text(encoding="utf-8"))["rows"]
            if found[0]["arm"] in (arm.name for arm in data.arms):
                rows += [{"data": name} | row for row in summary(found)]
    order = {(name, arm.name): place for name, data in DATA.items() for place, arm in enumerate(data.arms)}
    rows.sort(key=lambda row: (list(DATA).index(row["data"]), row["seed"], order[row["data"], row["arm"]]))
    with replacing(out) as unfinished:
        pd.DataFrame(rows).to_csv(unfinished, index=False, float_format="%.6g")


def summary(rows: Sequence[dict]) -> list[dict]:
    """Returns those rows of a run that are kept, of all its subsets and their mean; `part` says which each is."""
    subsets = [row for row in rows if row["subset"] != "mean"]
    [mean] = (row for row in rows if row["subset"] == "mean")
    alone = {row["subset"]: row for row in subsets if "+" not in row["subset"]}
    parts = {f"alone: {modality}": row for modality, row in alone.items()}
    parts["all"] = max(subsets, key=lambda row: row["subset"].count("+"))
    parts |= {"mean": mean, "worst": min(subsets, key=lambda row: row["accuracy"])}
    # a modality has a column, of whether it is in the subset
    return [{"part": part} | {k: v for k, v in row.items() if k not in alone} for part, row in parts.items()]


if __name__ == "__main__":
    main()
