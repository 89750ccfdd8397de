"""The Gramians of the objectives' cotangents in each step of a training on phantoms."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.lr_scheduler import PolynomialLR
from tqdm import tqdm

from bench.measure.cotangents import cotangent_gram
from gmd.config import TrainBrats
from gmd.data.segmentation.phantom import write_phantoms
from gmd.models.multimodal import mean_fusion
from gmd.training.objectives import subset_objectives
from gmd.training.tasks import open_task


@dataclass(frozen=True)
class Setting:
    """The phantoms' training. The defaults are those of the committed figures, and of bench.measure.study."""

    steps: int = 160
    moment: int = 16  # steps that count as early, and as late
    width: float = 0.25
    shape: int = 32
    patch: int = 16
    batch: int = 2
    train_cases: int = 16
    lr: float = 0.01


def phantom_grams(setting: Setting) -> list[Tensor]:
    """Trains on hard phantoms, on the mean of the 15 objectives, and returns the Gramians of every step."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "phantoms"
        for seed, (split, count) in enumerate({"train": setting.train_cases, "validation": 1, "test": 1}.items()):
            write_phantoms(data / split, count, (setting.shape,) * 3, seed, "hard")
        return _trained_on(data, setting)


def _trained_on(data: Path, setting: Setting) -> list[Tensor]:
    torch.manual_seed(0)
    task = open_task(
        TrainBrats(
            (data,),
            data / "run",
            "enumerate",
            width=setting.width,
            patch=(setting.patch,) * 3,
            epochs=1,
            steps_per_epoch=setting.steps,
            batch=setting.batch,
            device="cpu",
        )
    )
    network = task.build_network()
    optimizer = torch.optim.AdamW(network.parameters(), setting.lr)
    schedule = PolynomialLR(optimizer, total_iters=setting.steps, power=0.9)
    grams = []
    for batch in tqdm(task.batches(1), desc="phantoms", unit="step"):
        inputs, targets = task.to_device(*batch, torch.device("cpu"))
        outputs = task.outputs(network, inputs)
        losses = list(subset_objectives(outputs, targets, task.criterion, mean_fusion).values())
        grams.append(cotangent_gram(losses, outputs.values))
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
        schedule.step()
    return grams
