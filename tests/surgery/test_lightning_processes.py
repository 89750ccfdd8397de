"""gmd in two processes of Lightning, which runs a training step inside the forward of a DistributedDataParallel."""

import logging
import warnings

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader

from helpers import two_processes
from helpers.two_processes import CASES, Case, check_case, data_of, model_of, optimizer_of, parameters_of

pytest.importorskip("pytorch_lightning")

pytestmark = pytest.mark.slow


def train(case: Case) -> list[Tensor]:
    """The parameters after Lightning's manual optimisation, with the surgeon in the place of `self.manual_backward`."""
    import pytorch_lightning as pl

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # of loaders without workers, and of how it uses torch

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.network = model_of()

        def configure_optimizers(self):
            return optimizer_of(self.network)

        def on_fit_start(self):
            self.surgeon = case.make(self.optimizers())

        def training_step(self, batch, index):
            x, target = batch
            last = (index + 1) % case.accumulated == 0
            with self.trainer.strategy.block_backward_sync() if not last else torch.enable_grad():
                case.backward(self.surgeon, self.network(x), target, last)
            if last:
                self.optimizers().step()
                self.optimizers().zero_grad()

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    strategy = "ddp_find_unused_parameters_true" if case.lacking else "ddp"
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        max_epochs=1,
        use_distributed_sampler=False,
        enable_model_summary=False,
        **quiet,
    )
    module = Module()
    trainer.fit(module, DataLoader(data_of(dist.get_rank(), case.lacking), batch_size=None))
    return parameters_of(module)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return two_processes.run_pair(train, tmp_path_factory.mktemp("lightning"))


@pytest.mark.parametrize("name", CASES)
def test_the_parameters_are_those_of_a_plain_loop(results, name):
    check_case(results, name)
