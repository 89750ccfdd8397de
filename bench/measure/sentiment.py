"""Every method on real data: `python -m bench.measure.sentiment --mosi mosi_utterances.npz --fsdd fsdd.npz`

Runs of one seed are paired: the same split of the videos, initial weights (of one network) and order of the samples. A
finished run leaves its rows in a file of its own and is not done again, so that this can be stopped at any time.
"""

import argparse
import io
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from bench.measure.arms import ARMS, Arm, arms_for
from bench.measure.host import ROOT, host_columns
from gmd import threads
from gmd.cli import main as main_of_gmd
from gmd.config import TrainSentiment
from gmd.data.text_files import write_json
from gmd.files import replacing

RESULTS, WORK = ROOT / "bench" / "results", ROOT / "runs" / "real"
SEEDS, MANY_SEEDS = 5, 10


@dataclass(frozen=True)
class Study:
    """One data set: the command that trains, the options of all arms, and the arms.

    seeds: how many seeds an arm is run with, by its name; SEEDS where it is not there.
    """

    task: str
    csv: str
    common: Mapping[str, object]
    arms: tuple[Arm, ...]
    seeds: Mapping[str, int] = field(default_factory=dict)

    def runs(self, seeds: Sequence[int]) -> list[tuple[Arm, int]]:
        """Returns the arm and the seed of each run, a whole seed before the next."""
        return [(arm, seed) for seed in seeds for arm in self.arms if seed < self.seeds.get(arm.name, SEEDS)]


LATE, LATE_JOINT = {"network": "late"}, "joint, late fusion"
# CGGM as in the paper's ablation: without, magnitude alone, direction alone, both
ABLATION = (
    Arm(LATE_JOINT, LATE | {"method": "joint"}),
    Arm("cggm, rho", LATE | {"method": "cggm", "lam": 0}, LATE_JOINT),
    Arm("cggm, lambda", LATE | {"method": "cggm", "rho": 0}, LATE_JOINT),
    Arm("cggm, both", LATE | {"method": "cggm"}, LATE_JOINT),
    Arm("ogm-ge", LATE | {"method": "ogm-ge"}, LATE_JOINT),
)


MOSI = Study(
    "sentiment",
    "mosi.csv",
    {"epochs": 20, "batch": 8, "validate_every": 5},
    (
        *arms_for(TrainSentiment.modalities),
        Arm("cggm, shared network", {"method": "cggm"}, "joint"),
        Arm("cggm-gmd", {"method": "cggm-gmd"}, "joint"),
        *ABLATION,
        Arm("joint, branches", {"network": "branches", "method": "joint"}),
        Arm("mla", {"network": "branches", "method": "mla"}, "joint, branches"),
        Arm("joint, branches, sign", {"network": "branches", "method": "joint", "target": "sign"}),
        Arm("mla, sign", {"network": "branches", "method": "mla", "target": "sign"}, "joint, branches, sign"),
    ),
    seeds=dict.fromkeys((arm.name for arm in ARMS), MANY_SEEDS),
)
DIGITS = Study(
    "digits",
    "digits.csv",
    {"epochs": 4, "validate_every": 4},
    (
        Arm("joint, branches", {"network": "branches", "method": "joint"}),
        Arm("mla", {"network": "branches", "method": "mla"}, "joint, branches"),
        *ABLATION,
        Arm("audio alone", {"network": "branches", "method": "joint", "modalities": ["audio"]}),
        Arm("image alone", {"network": "branches", "method": "joint", "modalities": ["image"]}),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.measure.sentiment", description=__doc__)
    parser.add_argument("--mosi", type=Path, help="mosi_utterances.npz")
    parser.add_argument("--fsdd", type=Path, help="fsdd.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(MANY_SEEDS)))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the runs and their rows")
    options = parser.parse_args()
    given = [(MOSI, options.mosi), (DIGITS, options.fsdd)]
    if not any(data for _, data in given):
        parser.error("nothing to do: give --mosi, --fsdd or both")
    for study, data in given:
        if data is not None:
            measure(study, data, options.seeds, options.out / study.csv, options.work)


def measure(study: Study, data: Path, seeds: Sequence[int], out: Path, work: Path) -> None:
    """Does the runs that are not done yet, one on each core at a time, and writes all rows to `out`."""
    runs = study.runs(seeds)
    host = host_columns() | {"threads": 1}
    start = time.monotonic()
    # processes that stay: libraries take longer to import than a small network to train
    cpus = threads.machine().cpus
    with ProcessPoolExecutor(cpus, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        done = pool.map(partial(run_once, study, data=data, work=work, host=host), *zip(*runs, strict=True))
        rows = [row for some in tqdm(done, desc=study.task, total=len(runs), unit="run") for row in some]
    print(f"{study.task}: {len(runs)} runs in {time.monotonic() - start:.0f} s")
    with replacing(out) as unfinished:
        pd.DataFrame(rows).to_csv(unfinished, index=False)
    print(out)


def run_once(study: Study, arm: Arm, seed: int, *, data: Path, work: Path, host: dict) -> list[dict]:
    """Trains and scores one network by the commands that users have.

    Returns a row for each subset of the modalities, and one for their mean. Raises ValueError where a run of that name
    but of other options is: rows of both would pass for one study.
    """
    run = work / study.task / f"{arm.name}, seed {seed}"
    given = {**study.common, **arm.options, "seed": seed, "device": "cpu"}
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}  # as in JSON
    kept = run / "rows.json"
    if kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["options"] != options:
            raise ValueError(f"{run}: holds a run of {found['options']}, not of {options}; give another --work")
        return found["rows"]
    for left in run.glob("*.pt"):  # of a training that was stopped
        left.unlink()
    call_gmd("train", study.task, *_command_line(options | {"data": data, "out": run}))
    call_gmd("evaluate", str(run))
    table = pd.read_csv(run / "evaluation" / "table.csv")
    head = {"arm": arm.name, "base": arm.base, "seed": seed}
    rows = [head | row | host for row in json.loads(table.to_json(orient="records"))]
    write_json(kept, {"options": options, "rows": rows})
    return rows


def call_gmd(*arguments: str) -> None:
    """Runs the command; raises RuntimeError with what it said if it fails."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = main_of_gmd(arguments)
    if status:
        raise RuntimeError(f"gmd {' '.join(arguments)}: exit {status}\n{said.getvalue()[-2000:]}")


def _command_line(options: Mapping[str, object]) -> list[str]:
    """Returns the options as words: {"batch": 8, "modalities": ["audio"]} as --batch 8 --modalities audio."""
    words = []
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


if __name__ == "__main__":
    main()
