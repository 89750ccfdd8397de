"""gmd.GMD in a LightningModule: the same bits as the loop in plain PyTorch, in whatever precision the Trainer has."""

import contextlib

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader

from helpers.multimodal_cases import Multimodal, assert_equal, batches, losses_of, plain_loop, surgeon_of

# Lightning's own, on how it uses torch and on how small this training is
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning:pytorch_lightning"),
]

DATA = batches(4)
CLIP = 0.05  # below the norm of these gradients


class Module(pl.LightningModule):
    """What a user writes: manual optimisation, the surgeon in the place of manual_backward.

    Args:
        wrapped: whether the surgeon gets Lightning's wrapper of the optimizer.
        clip: the norm to clip to, if any.
    """

    def __init__(self, wrapped: bool, clip: float | None):
        super().__init__()
        self.automatic_optimization = False
        self.wrapped, self.clip = wrapped, clip
        self.network = Multimodal()
        self.history, self.scales = [], []

    def configure_optimizers(self):
        return torch.optim.AdamW(self.network.parameters(), lr=0.1)

    def on_fit_start(self):
        self.surgeon = surgeon_of(self.optimizers(use_pl_optimizer=self.wrapped))

    def training_step(self, batch, index):
        x, target = batch
        optimizer = self.optimizers()
        optimizer.zero_grad()
        losses = losses_of(self.network(x), target)
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)  # Lightning unscales .grad by itself
        report = self.surgeon.backward(losses if scaler is None else [scaler.scale(loss) for loss in losses])
        if self.clip is not None:
            self.clip_gradients(optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm")
        optimizer.step()
        self.history.append(report.losses)
        self.scales.append(None if scaler is None else scaler.get_scale())


def fit(wrapped, clip=None, **options):
    module = Module(wrapped, clip)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet, **options)
    trainer.fit(module, DataLoader(DATA, batch_size=None))
    assert trainer.global_step == len(DATA), "Lightning counts the steps of its wrapper"
    return module


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("clip", [None, CLIP])
@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "torch's"])
def test_the_bits_are_those_of_a_plain_loop(wrapped, clip, precision):
    model = Multimodal()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    norms = []

    def before_step():
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP if clip else torch.inf))

    autocast = torch.autocast("cpu", torch.bfloat16, cache_enabled=False)
    with autocast if precision == "bf16-mixed" else contextlib.nullcontext():
        expected = plain_loop(model, optimizer, DATA, before_step)
    assert min(norms) > CLIP, "nothing to clip: this test would show nothing"

    module = fit(wrapped, clip, precision=precision)
    assert_equal(module.history, expected)
    assert_equal(list(module.network.parameters()), list(model.parameters()))


def test_float16_with_the_scaler_of_lightning():
    """It unscales `.grad` in its optimizer step: so GMD gets scaled losses, and no scaler."""
    model = Multimodal()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**17)  # float16 overflows in the first steps
    surgeon, scales = surgeon_of(optimizer), []
    for x, target in DATA:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16, cache_enabled=False):
            losses = losses_of(model(x), target)
            surgeon.backward([scaler.scale(loss) for loss in losses])
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    assert len(set(scales)) > 1, "no overflow: this test would show nothing"
    assert scales[-1] == scales[-2], "nothing but overflows: this test would show nothing"

    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**17))
    module = fit(wrapped=True, plugins=[plugin])
    assert module.scales == scales
    assert_equal(list(module.network.parameters()), list(model.parameters()))
