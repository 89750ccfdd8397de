"""Cases as `gmd view` shows them, and what stands in its pages."""

import base64
import html
import json
import re
import zlib
from pathlib import Path

import numpy as np
import torch

from gmd.subsets import all_subsets
from gmd.training.checkpoint import load_checkpoint, save_checkpoint
from gmd.view.case_view import CaseView, SubsetView, fullest_slices, worst_first
from helpers.evaluation_cases import untrained_run

REGIONS = ("WT", "TC", "ET")


def finding_run(folder: Path, data: Path, out: str = "run", **options) -> Path:
    """A run whose network, untrained, finds something in about half of the voxels, by what each modality shows."""
    run = untrained_run(folder, out, data=data, **options)
    state = load_checkpoint(run / "best.pt")
    torch.manual_seed(0)
    for name, parameter in state["network"].items():
        if ".norm" in name:
            parameter += 0.3 * torch.randn_like(parameter)
    state["network"]["head.bias"].zero_()
    save_checkpoint(run / "best.pt", state)
    return run


def made_up_view(
    shape: tuple[int, int, int] = (12, 14, 10),
    modalities: tuple[str, ...] = ("flair", "t1ce"),
    name: str = "case",
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> CaseView:
    """A dark gradient with a ball of nested regions in it; each prediction is the truth moved by a voxel or more."""
    places = np.stack(np.indices(shape))
    middle = np.array(shape).reshape(3, 1, 1, 1) // 2
    far = np.abs(places - middle).max(axis=0)
    ball = ((far <= 3) * 1 + (far <= 2) * 2 + (far <= 1) * 4).astype(np.uint8)
    images = {one: (10 + 20 * place + places[2]).astype(np.uint8) for place, one in enumerate(modalities)}
    predictions = [
        SubsetView(subset, np.roll(ball, 1 + place, axis=0), dict.fromkeys(REGIONS, 0.125 * (place % 7)))
        for place, subset in enumerate(all_subsets(modalities))
    ]
    ordered, start = worst_first(predictions), fullest_slices(ball)
    full = tuple(side + 5 for side in shape)
    return CaseView(name, full, (1, 2, 3), spacing, images, ball, ordered, start)


def about_of(page: str) -> dict:
    """What the script of a page is told."""
    return json.loads(re.search(r'<script type="application/json" id="about">(.*?)</script>', page, re.DOTALL)[1])


def volume_of(page: str, name: str) -> np.ndarray:
    """A volume of a page, unpacked as its script does."""
    letters = re.search(rf'<script type="text/plain" id="{name}">(.*?)</script>', page)[1]
    steps = np.frombuffer(zlib.decompress(base64.b64decode(letters, validate=True)), np.uint8)
    return np.cumsum(steps.reshape(about_of(page)["shape"]), axis=-1, dtype=np.uint8)


def captions_of(page: str) -> list[tuple[str, str]]:
    """The name of each prediction and its Dice, in the order of the page."""
    found = re.findall(r'<span class="name">(.*?)</span>.*?</button>', page, re.DOTALL)
    buttons = re.findall(r'<button type="button" class="subset".*?</button>', page, re.DOTALL)
    dice = [" ".join(re.findall(r"<span>(\w+ [\d.]+)</span>", button)) for button in buttons]
    return list(zip(map(html.unescape, found), dice, strict=True))
