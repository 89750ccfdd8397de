"""What several processes cannot train, told before anything is read or written."""

import torch

from gmd.config import TrainConfig
from gmd.config.checks import check_option
from gmd.errors import UserError
from gmd.together import processes
from gmd.torchrun import started
from gmd.training.methods import METHODS
from gmd.training.sharding import check_torch

# why a method knows no more than the share of its process
_REASONS = {
    "scalarised": "its weights follow the losses of earlier batches, which each process would know of its share alone",
    "cggm": "its classifiers learn, and are compared, in each process by themselves",
    "cggm-gmd": "its classifiers learn, and are compared, in each process by themselves",
    "ogm-ge": "which modality is ahead is told from the predictions of a whole batch, and the noise is of its gradient",
    "mla": "what keeps a modality's step off the others' is made of the features of whole batches",
    "qmf": "how hard a sample is follows from all its earlier losses, which one of the processes would not have seen",
}


def check_several(config: TrainConfig) -> None:
    """Raises UserError for options with which several processes cannot train together; one by itself can."""
    count = processes()
    if count == 1:
        expected = "torchrun, such as torchrun --nproc-per-node 2 -m gmd train ..., whose processes share the network"
        check_option(not config.shard, "shard", "one process", expected)
        return
    several = [name for name in config.methods() if METHODS[name].several]
    expected = f"{', '.join(several[:-1])} or {several[-1]} in several processes: {_REASONS.get(config.method, '')}"
    check_option(METHODS[config.method].several, "method", config.method, expected)
    expected = f"at least {count}, a sample for each of the {count} processes: it is the batch of all of them"
    check_option(config.batch >= count, "batch", config.batch, expected)
    expected = "1 in several processes, each of which takes weights from its whole share of a batch"
    check_option(config.fraction == 1, "fraction", config.fraction, expected)
    expected = "0 in several processes, of which each goes through the whole network for each objective"
    check_option(config.tol == 0, "tol", config.tol, expected)
    _check_device(config)
    if config.shard:
        expected = "global with --shard: a process that has parts of the parameters has no gradients of its own"
        check_option(config.scope == "global", "scope", config.scope, expected)
        check_torch()


def _check_device(config: TrainConfig) -> None:
    """Raises UserError unless each process of this machine has a GPU of its own, or none has one."""
    device, here = config.torch_device(), started()
    if device.type != "cuda":
        return
    expected = "auto, cuda or cpu in several processes, of which each has the GPU of its number"
    check_option(device.index is None, "device", config.device, expected)
    gpus = torch.cuda.device_count()
    if here.local_processes > gpus:
        raise UserError(
            f"--nproc-per-node: got {here.local_processes} processes for {gpus} GPU{'s' * (gpus > 1)} of this machine, "
            f"expected at most as many as GPUs; or give --device cpu"
        )
