"""`python -m bench.measure.manifest_loader --fsdd fsdd.npz`: what reading pictures and sound costs a training.

Whole training steps whose batches one worker reads from files beside the same steps on batches in memory, in turns, an
epoch each, once the worker has started, which takes seconds of the first step; the seconds of checking a manifest, and
the memory that it takes, at two numbers of rows.
"""

import argparse
import csv
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional as F
from tqdm import tqdm

from bench.measure.digits_manifest import write_digits_manifest
from bench.measure.files import RESULTS, write_csv
from bench.measure.host import host_columns
from bench.measure.memory import with_peak_memory
from bench.measure.timing import seconds
from gmd.data.manifest.batches import ManifestBatches
from gmd.data.manifest.inputs import Preparation
from gmd.data.manifest.read import ManifestData, read_manifest
from gmd.data.manifest.statistics import input_statistics
from gmd.models.classification.make import make_classifier
from gmd.models.multimodal import run_modalities
from gmd.training.tasks.task import Batch

Case = tuple[str, str, Preparation]  # a network for pictures, what the sound is called, and how files are prepared

CSV = RESULTS / "manifest_loader_cpu.csv"
# of a second of sound at its own rate, since digits are short, and of three seconds that are resampled, the defaults
SHORT, LONG = Preparation(rate=8000, seconds=1, mels=32, augment=True), Preparation(augment=True)
CASES: tuple[Case, ...] = (("strip-mlp-light", "1 s at 8 kHz", SHORT), ("resnet18", "3 s at 16 kHz", LONG))
BATCH, SEED = 16, 0
ROUNDS, STEPS = 5, 6  # epochs of each way, and steps of an epoch
ROWS = (1000, 10_000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.measure.manifest_loader", description=__doc__)
    parser.add_argument("--fsdd", type=Path, required=True, help="fsdd.npz")
    parser.add_argument("--out", type=Path, default=CSV)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_digits_manifest(options.fsdd, Path(folder))
        rows = measure(manifest, CASES, ROUNDS, STEPS, ROWS)
    write_csv(options.out, rows, host_columns())


def measure(manifest: Path, cases: Iterable[Case], rounds: int, steps: int, sizes: Iterable[int]) -> list[dict]:
    """Returns the rows of all that is measured on a manifest of pictures and sound.

    rounds: epochs of each way; steps: of an epoch; sizes: rows of the manifests that are checked
    """
    rows = []
    with tqdm(unit="case", desc="manifest_loader") as bar:
        for size in sizes:
            rows.append(check_row(many_rows(manifest, size), size))
            bar.update()
        for network, name, preparation in cases:
            data = read_manifest(manifest, None, preparation)
            columns = step_columns(data, preparation, network, rounds, steps)
            rows.append({"case": f"steps of {network}, a batch of {BATCH}, sound of {name}", **columns})
            bar.update()
    return rows


def many_rows(manifest: Path, size: int) -> Path:
    """Writes a manifest of so many rows beside another, with a file of its own for each cell. Returns its path."""
    folder, path = manifest.parent, manifest.with_name(f"{size}.csv")
    with manifest.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    files = [number for number, name in enumerate(header) if ":" in name]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for i in range(size):
            row = rows[i * len(rows) // size if size < len(rows) else i % len(rows)].copy()
            for number in files:
                name = f"{size}/{i}.{number}{Path(row[number]).suffix}"
                (folder / name).parent.mkdir(exist_ok=True)
                os.link(folder / row[number], folder / name)
                row[number] = name
            writer.writerow([f"row {i}", *row[1:]])
    return path


def check_row(path: Path, size: int) -> dict[str, object]:
    """Returns the seconds of checking a manifest, and the memory of that and of reading some of its files."""
    data, checking = with_peak_memory(lambda: read_manifest(path, None, SHORT))
    taken = seconds(lambda: read_manifest(path, None, SHORT))
    _, reading = with_peak_memory(lambda: [None for _ in _epoch(data, SHORT, 0, STEPS)])
    return {"case": f"checking {size} rows", "seconds": taken, "peak_MB": checking, "peak_reading_MB": reading}


def step_columns(
    data: ManifestData, preparation: Preparation, pictures: str, rounds: int, steps: int
) -> dict[str, object]:
    """Returns the seconds of a training step on batches in memory and on those that a worker reads, and their ratio."""
    train = training_step(data, preparation, pictures)
    loader = _batches(data, preparation, 1)
    held = list(_epoch(data, preparation, 0, steps))
    for batch in _last(loader, 2):  # the first step after a worker has been forked copies the memory that it shares
        train(batch)
    memory, files = [], []
    for epoch in range(rounds):
        loader.epoch = epoch
        memory.append(seconds(lambda: [train(batch) for batch in held]) / steps)
        files.append(seconds(lambda: [train(batch) for batch in _last(loader, steps)]) / steps)
    reading = seconds(lambda: list(_epoch(data, preparation, 0, steps))) / steps
    ratio = median(ours / theirs for ours, theirs in zip(memory, files, strict=True))
    return {"memory_s": median(memory), "files_s": median(files), "reading_s": reading, "speed_kept": ratio}


def training_step(data: ManifestData, preparation: Preparation, pictures: str) -> Callable[[Batch], None]:
    """Returns what takes a step of joint training on a batch."""
    torch.manual_seed(SEED)
    classes = data.outputs[0].classes
    assert classes is not None  # digits
    network = make_classifier(data.inputs, len(classes), "branches", pictures, 64, 1, 4, 0.1)
    network.set_input_statistics(input_statistics(data.splits["train"], data.inputs, preparation, 50))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    network.train()

    def step(batch: Batch) -> None:
        outputs = run_modalities(network, batch[0])
        fused, _ = network.fuse(outputs, None)
        optimizer.zero_grad()
        F.cross_entropy(network.head(fused), batch[1]).backward()
        optimizer.step()

    return step


def _batches(data: ManifestData, preparation: Preparation, workers: int) -> ManifestBatches:
    return ManifestBatches(
        data.splits["train"], list(data.inputs), data.inputs, preparation, BATCH, SEED, workers, training=True
    )


def _epoch(data: ManifestData, preparation: Preparation, workers: int, steps: int) -> Iterable[Batch]:
    return _last(_batches(data, preparation, workers), steps)


def _last(batches: ManifestBatches, steps: int) -> Iterable[Batch]:
    """Yields the last batches of an epoch, so many, the loader having none of them when the first is asked for."""
    batches.start = max(0, len(batches) - steps)
    yield from batches


if __name__ == "__main__":
    main()
