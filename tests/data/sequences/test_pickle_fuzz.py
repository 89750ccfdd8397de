"""Whatever bytes a file of sequences consists of: data or a UserError, soon, in memory in proportion to its size."""

import collections
import os
import subprocess
import sys
from pathlib import Path

import pytest


def batch(make: str, seeds: range, folder: Path) -> collections.Counter:
    """Reads a file of each seed in a process of its own, see `helpers.read_pickles`; returns how it ended.

    seeds: the first that ends otherwise than in data or a refusal ends the batch
    """
    command = [sys.executable, "-m", "helpers.read_pickles", make, str(seeds.start), str(seeds.stop), str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = (folder / "told.txt").read_text().splitlines()
    ends = collections.Counter(line.partition(": ")[2] for line in lines)
    wrong = [line for line in lines if line.partition(": ")[2] not in ("data", "refused")]
    assert not wrong, f"{make} of seed {wrong[0] or '?'} (ended with {done.returncode}: {done.stderr})"
    assert len(lines) == len(seeds), done.stderr
    return ends


@pytest.mark.parametrize("make", ["program", "changed"])
def test_a_sample_of_pickles_that_nobody_wrote(make: str, tmp_path: Path):
    ends = batch(make, range(150), tmp_path)
    assert ends["refused"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("make", ["program", "changed", "hdf5", "tensors", "table", "tuples"])
@pytest.mark.parametrize("part", range(4))
def test_many_pickles_that_nobody_wrote(make: str, part: int, tmp_path: Path):
    batch(make, range(1000 * (part + 1), 1000 * (part + 1) + 600), tmp_path)
