"""Every manifest that `gmd manifest` makes is one that `gmd train classify` reads, down to the tensors of a batch."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gmd.data.manifest.inputs import Preparation
from gmd.data.manifest.layouts.build import write_manifest
from gmd.data.manifest.load import load_batch
from gmd.data.manifest.read import read_manifest
from helpers.layout_cases import (
    crema_d,
    crema_d_of_mla,
    food101_of_balancebenchmark,
    food101_of_cggm,
    food101_of_mla,
    food101_of_mmbt,
    iemocap,
    kinetics_sounds,
    mvsa,
)

CASES: dict[Callable[[Path], Path], tuple[str, dict[str, str]]] = {
    crema_d: ("crema-d", {"audio": "audio", "video": "image"}),
    crema_d_of_mla: ("crema-d", {"audio": "features", "video": "image"}),
    food101_of_mmbt: ("food101", {"image": "image", "text": "text"}),
    food101_of_mla: ("food101", {"image": "image", "text": "text"}),
    food101_of_cggm: ("food101", {"image": "image", "text": "text"}),
    food101_of_balancebenchmark: ("food101", {"image": "image", "text": "text"}),
    mvsa: ("mvsa", {"image": "image", "text": "text"}),
    kinetics_sounds: ("kinetics-sounds", {"audio": "features", "video": "image"}),
    iemocap: ("iemocap", {"text": "text", "audio": "audio", "video": "image"}),
}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_what_is_made_is_read(tmp_path: Path, make: Callable[[Path], Path]):
    data_set, kinds = CASES[make]
    root, out, preparation = make(tmp_path / "d"), tmp_path / "m.csv", Preparation()
    write_manifest(data_set, root, out)
    data = read_manifest(out, root, preparation)
    assert {modality: given.kind for modality, given in data.inputs.items()} == kinds
    assert all(len(sample.values) == len(kinds) for samples in data.splits.values() for sample in samples)
    pairs, targets, replaced = load_batch(data.splits["test"], list(kinds), data.inputs, preparation)
    assert set(pairs.values) == set(kinds)
    assert len(targets) == len(data.splits["test"])
    assert not replaced.total()
