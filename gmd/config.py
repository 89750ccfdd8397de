"""What a training run is asked to do: the options of `gmd train brats`, and `config.json` in its folder."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from gmd.data.cases import BRATS_MODALITIES
from gmd.data.labels import SCHEMES
from gmd.errors import UserError
from gmd.models.unet3d import UNet3d
from gmd.precision import Precision
from gmd_kernels import MAX_OBJECTIVES

# A resumed run is the same run when these change: they say where and when, not what is computed.
MAY_CHANGE = ("data", "out", "cache", "validate_every", "device", "resume")


@dataclass(frozen=True)
class TrainBrats:
    """Train one network that segments with any subset of the modalities.

    Example: gmd train brats --data BraTS2021 --method gmd --out runs/brats
    """

    data: Path
    """Folder of the case folders; folders `train`, `test` (and `validation`) in it are the splits."""
    out: Path = Path("runs/brats")
    """Folder of this run: configuration, splits, metrics, checkpoints, pictures."""
    method: Literal["joint", "enumerate", "gmd"] = "gmd"
    """joint: loss on all modalities; enumerate: mean of the losses of all subsets; gmd: surgery on these."""
    modalities: tuple[str, ...] = BRATS_MODALITIES
    """The modalities that the network has; a case may lack any of them, but not all."""
    patterns: tuple[str, ...] = ()
    """For other file names than BraTS's: KEY=GLOB for each modality, seg (labels), mask (brain; optional)."""
    labels: str | None = None
    """Meaning of the labels: brats2015, brats2018, brats2023 or binary. By default told by the file names."""
    width: float = 0.5
    """Factor on the published 32, 64, 128, 256, 512 channels."""
    patch: tuple[int, int, int] = (96, 96, 96)
    """Size of the random patches in voxels, multiples of 16; smaller volumes are padded."""
    epochs: int = 100
    """Passes over the training cases; the learning rate decays to 0 over them."""
    steps_per_epoch: int | None = None
    """Optimizer steps per epoch; by default one patch of every training case."""
    batch: int = 1
    """Patches per step."""
    lr: float = 1e-3
    """Learning rate of AdamW at the start."""
    weight_decay: float = 1e-5
    """Weight decay of AdamW."""
    precision: Precision = "fp32"
    """Of the network; losses and parameters stay fp32. bf16: half the memory, and faster on GPUs since 2020 and CPUs
    with bf16 instructions (AMX, AVX-512 BF16). fp16: for older GPUs; losses are scaled, steps that overflow skipped."""
    granularity: Literal["model", "module", "tensor"] = "model"
    """What gmd projects as one gradient: the whole model's, each module's or each tensor's. Conflicts that cancel out
    over the model show in its parts; the time is the same."""
    tol: float = 0.0
    """Error, relative in norm, up to which gmd may compress the objectives' gradients before it back-propagates them.
    0: exact. From 0.01 on a step takes a fraction of the backward passes."""
    seed: int = 0
    """Of everything random: splits, initial weights, patches, flips, order of the projections."""
    max_bad_steps: int = 10
    """Stop after so many steps in a row that were skipped because a loss or a gradient was not finite."""
    validate_every: int = 5
    """Epochs between validations; the last epoch is always validated."""
    cache: int = 64
    """Training cases kept in memory, about 80 MB each for BraTS; others are read when their turn comes."""
    device: str = "auto"
    """auto: a GPU if there is one. Or cpu, cuda, cuda:1, ..."""
    resume: bool = False
    """Go on with the run in --out after its last finished epoch."""

    def check(self) -> None:
        """Raises UserError for a value that cannot work, before anything is read or written."""
        for name in ("width", "epochs", "steps_per_epoch", "batch", "lr", "max_bad_steps", "validate_every"):
            value = getattr(self, name)
            _check(value is None or value > 0, name, value, "a number above 0")
        for name in ("weight_decay", "seed", "cache", "tol"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        distinct = len(set(self.modalities)) == len(self.modalities) > 0
        _check(distinct, "modalities", self.modalities, "at least one name, and none of them twice")
        most = MAX_OBJECTIVES.bit_length() - 1
        few_enough = self.method != "gmd" or len(self.modalities) <= most
        _check(few_enough, "modalities", self.modalities, f"at most {most} for gmd, whose objectives are their subsets")
        _check(self.tol < 1, "tol", self.tol, "less than 1, at which nothing is left of the gradients")
        for name in ("granularity", "tol"):
            given, ordinary = getattr(self, name), getattr(TrainBrats, name)
            fits = self.method == "gmd" or given == ordinary
            _check(fits, name, given, f"--method gmd with it; {self.method} operates on no gradients")
        stride = UNet3d.stride
        nearest = tuple(max(1, round(size / stride)) * stride for size in self.patch)
        multiples = f"multiples of {stride}, the nearest being {_words(nearest)}"
        _check(nearest == self.patch, "patch", self.patch, multiples)
        _check(self.labels is None or self.labels in SCHEMES, "labels", self.labels, f"one of {_schemes()}")
        if self.patterns and self.labels is None:
            raise UserError(f"--patterns does not say what the label values mean; add --labels, one of {_schemes()}")
        self.torch_device()

    def torch_device(self) -> torch.device:
        """The device that `device` names. Raises UserError if it is not there."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # a torch built without CUDA asserts
            reason = str(error).splitlines()[0]
            raise UserError(f"--device: {self.device} cannot be used ({reason}); give auto, cpu or a GPU") from error
        return torch.device(self.device)

    def to_dict(self) -> dict:
        """Plain values, as JSON has them."""
        return {key: _plain(value) for key, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict, source: str | Path) -> "TrainBrats":
        """The inverse of `to_dict`. Raises UserError that names `source` if a field is not known."""
        expected = {field.name for field in dataclasses.fields(cls)}
        if odd := sorted(expected.symmetric_difference(values)):
            raise UserError(f"{source}: written by another version of gmd: it differs in {', '.join(odd)}; train anew")
        paths = {key: Path(values[key]) for key in ("data", "out")}
        tuples = {key: tuple(values[key]) for key in ("modalities", "patterns", "patch")}
        return cls(**(values | paths | tuples))


def differences(ours: TrainBrats, theirs: TrainBrats) -> list[str]:
    """`"width: 0.5 here, 1.0 there"` for each field, but for those of MAY_CHANGE, that differs."""
    a, b = ours.to_dict(), theirs.to_dict()
    fields = (key for key in a if key not in MAY_CHANGE)
    return [f"{key}: {a[key]} here, {b[key]} there" for key in fields if a[key] != b[key]]


def _plain(value):
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def _schemes() -> str:
    return ", ".join(f"{scheme.name} (values {_words(scheme.values)})" for scheme in SCHEMES.values())


def _words(values: object) -> str:
    """As one would type it on the command line."""
    return " ".join(map(str, values)) if isinstance(values, tuple) else str(values)


def _check(good: bool, name: str, got: object, expected: str) -> None:
    if not good:
        raise UserError(f"--{name.replace('_', '-')}: got {_words(got)}, expected {expected}")
