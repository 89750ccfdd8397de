"""The options that every training has, whatever it learns."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_type_hints

import torch
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from gmd.config import missing_modalities, modulation, optimisation, surgery
from gmd.config.checks import check_option
from gmd.config.environment import check_environment
from gmd.config.missing_modalities import MissingModalities
from gmd.config.optimisation import Optimisation
from gmd.config.surgery import Surgery
from gmd.data.text_files import brief
from gmd.errors import UserError, shown
from gmd.models.precision import Precision
from gmd.names import check_apart, check_names
from gmd.output_paths import check_folder
from gmd_kernels import MAX_OBJECTIVES

# A resumed run is the same run when these change: they say where and when, not what is computed.
MAY_CHANGE = (
    *("data", "root", "out", "train_list", "val_list", "test_list", "cache", "workers", "validate_every"),
    *("device", "shard", "resume", "force", "no_check", "preset"),
)
# as far as a task has them
PATHS = ("out", "data", "root", "missing_list", "train_list", "val_list", "test_list")
NOT_KEPT = ("force",)  # in no file: what was decided once, on the line, is not to be decided by a file later

Method = Literal[
    "joint",
    "dropout",
    "enumerate",
    "gmd",
    "surgery",
    "scalarised",
    "cggm",
    "cggm-gmd",
    "ogm-ge",
    "mla",
    "qmf",
]

LARGEST = 2**32  # no option is a number from there on
MOST_MODALITIES = 12  # of which there are 4095 subsets; each is scored at every validation

Config = TypeVar("Config", bound="TrainConfig")


@dataclass(frozen=True)
class Subject:
    """What is trained on what, by which method: the options that come first. The text below a field is its --help."""

    data: Path | tuple[Path, ...]
    """Where the data are."""
    out: Path
    """Folder of this run: configuration, splits, metrics, checkpoints, pictures."""
    method: Method = "gmd"
    """joint: loss on all modalities; dropout: on a random subset of them for each sample and step; enumerate: mean of
    the losses of all subsets; gmd: surgery on these; surgery: the same with another --weighting;
    scalarised: the losses weighed by their values. cggm: joint, the modalities balanced by how fast each improves;
    cggm-gmd: the same around gmd; ogm-ge: joint, the modality that is ahead slowed down; mla: one modality after the
    other; qmf: each modality alone and all, weighed by how sure they are, sample by sample."""
    modalities: tuple[str, ...] = ()
    """The modalities that the network has."""
    preset: str | None = None
    """The options of a published recipe, in the place of the defaults: what else stands on the line, or in a file, has
    precedence. What it sets, and what differs from the publication, is told before the training."""


@dataclass(frozen=True)
class TrainConfig(MissingModalities, Surgery, Optimisation, Subject):
    """The options that all tasks share; each task has those of its data and its network besides.

    The text below a field is its --help. (The fields of the last base come first.)
    """

    precision: Precision = "fp32"
    """Of the network; losses and parameters stay fp32. bf16: half the memory, and faster on GPUs since 2020 and CPUs
    with bf16 instructions (AMX, AVX-512 BF16). fp16: for older GPUs; losses are scaled, steps that overflow skipped."""
    rho: float = 1.3
    """cggm: strength of the modulation of the gradient's magnitude; 0 leaves it out."""
    lam: float = 0.1
    """cggm: weight of the loss on the gradient's direction; 0 leaves it out."""
    direction: Literal["gradient", "weights"] = "gradient"
    """cggm: cosines between the gradients of the classifiers and the fusion, or the cheaper ones of their weights."""
    balance: Literal["smooth", "published"] = "smooth"
    """cggm: how fast a modality improves is averaged over steps and bounded, or the published difference of two
    batches, which is noise."""
    classifier_lr: float = 1e-3
    """cggm: learning rate of the classifiers; published half of the network's."""
    seed: int = 0
    """Of everything random: splits, initial weights, order of the data, order of the projections."""
    max_bad_steps: int = 10
    """Stop after so many steps in a row that were skipped because a loss or a gradient was not finite."""
    validate_every: int = 5
    """Epochs between validations; the last epoch is always validated."""
    patience: int | None = None
    """Stop when so many validations in a row were no better than the best before them; by default after --epochs."""
    deterministic: bool = False
    """On a GPU: the same bits in every run on one machine, slower; what has no such way is an error. A CPU: always."""
    device: str = "auto"
    """auto: a GPU if there is one. Or cpu, cuda, cuda:1, ..."""
    resume: bool = False
    """Go on with the run in --out where it was stopped; on the same machine, bit for bit as if it had not been."""

    force: bool = False
    """Take --out over from a process that may still be at work there, as nobody can tell from here: one on another
    machine, whose lock is left. It is for you to know that it has ended."""

    TASK: ClassVar[str]
    # options of the task that configurations of before lack, and what these ran with
    ADDED: ClassVar[dict[str, object]] = {}
    POSITIVE: ClassVar[tuple[str, ...]] = (
        *("epochs", "batch", "accumulate", "lr", "decay", "clip", "classifier_lr"),
        *("max_bad_steps", "validate_every", "patience"),
    )
    NOT_NEGATIVE: ClassVar[tuple[str, ...]] = (
        *("weight_decay", "momentum", "warmup", "plateau_patience"),
        *("seed", "tol", "rho", "lam"),
    )
    # options that mean something to some methods only, and these methods
    FOR: ClassVar[dict[str, tuple[str, ...]]] = {
        **Surgery.FOR_SURGERY,
        "rho": ("cggm", "cggm-gmd"),
        "lam": ("cggm", "cggm-gmd"),
        "direction": ("cggm", "cggm-gmd"),
        "balance": ("cggm", "cggm-gmd"),
        "classifier_lr": ("cggm", "cggm-gmd"),
    }

    def check(self) -> None:
        """Raises UserError for a value that cannot work here, before anything is read or written."""
        self.check_values()
        self.torch_device()

    def check_values(self) -> None:
        """Raises UserError for a value that cannot work anywhere."""
        self._check_numbers()
        methods = self.methods()
        check_option(self.method in methods, "method", self.method, f"one of {', '.join(methods)} for this task")
        presets = [name for kind in get_args(get_type_hints(type(self))["preset"]) for name in get_args(kind)]
        check_option(self.preset in (None, *presets), "preset", self.preset, f"one of {', '.join(presets)}, or none")
        self._check_modalities()
        self._check_encoding()
        for name, ones in self.FOR.items():
            given, ordinary = getattr(self, name), getattr(type(self), name)
            expected = f"--method {' or '.join(ones)} with it; it means nothing to {self.method}"
            check_option(self.method in ones or given == ordinary, name, given, expected)
        self.check_surgery(self.method, self.modalities)
        if self.modalities:
            self.check_missing(self.modalities)
        self.check_optimisation()
        if self.schedule == "plateau" and self.patience is not None:
            late = self.patience > self.plateau_patience
            expected = f"more than --plateau-patience ({self.plateau_patience}), or the learning rate never falls"
            check_option(late, "patience", self.patience, expected)

    def check_new(self) -> None:
        """Raises UserError for what a run that begins now must not have, though one made before may.

        That is a name of a modality that files or tables cannot tell from something else, and an `out` that cannot be
        written to.
        """
        check_names("--modalities", self.modalities)
        check_folder(self.out, "--out")

    def _check_numbers(self) -> None:
        for name in self.POSITIVE:
            value = getattr(self, name)
            check_option(value is None or 0 < value < LARGEST, name, value, "a number above 0, and less than 2^32")
        for name in self.NOT_NEGATIVE:
            value = getattr(self, name)
            check_option(0 <= value < LARGEST, name, value, "0 or more, and less than 2^32")

    def _check_encoding(self) -> None:
        """Raises UserError for a path that is no text: config.yaml could not hold it, nor TensorBoard write there."""
        for name in PATHS:
            given = getattr(self, name, None)
            for path in given if isinstance(given, tuple) else (given,):
                text = not any("\ud800" <= letter <= "\udfff" for letter in str(path))
                check_option(text, name, path, "a path in UTF-8; rename that folder, or give a link to it")

    def _check_modalities(self) -> None:
        if not self.modalities and not type(self).modalities:
            return  # it is the data that decide, and all is checked again then
        check_option(len(self.modalities) > 0, "modalities", "nothing", "at least one name")
        check_apart("--modalities", self.modalities)
        few_subsets = len(self.modalities) <= MOST_MODALITIES
        expected = f"at most {MOST_MODALITIES}, of which {2**MOST_MODALITIES - 1} subsets are scored"
        check_option(few_subsets, "modalities", f"{len(self.modalities)} names", expected)
        most = MAX_OBJECTIVES.bit_length() - 1
        few_enough = self.method not in self.FOR["tol"] or len(self.modalities) <= most
        expected = f"at most {most} for {self.method}, whose objectives are their subsets"
        check_option(few_enough, "modalities", self.modalities, expected)
        enough = not self.method.startswith("cggm") or len(self.modalities) > 1
        expected = f"at least two for {self.method}, which balances one against the others"
        check_option(enough, "modalities", self.modalities, expected)

    @classmethod
    def methods(cls) -> tuple[str, ...]:
        """Returns the methods that the task allows."""
        return get_args(get_type_hints(cls)["method"])

    def torch_device(self) -> torch.device:
        """Returns the device that `device` names.

        Raises UserError if it is not there, or if the environment asks for kernels that cannot serve it.
        """
        device = self._device_there()
        check_environment(device)
        return device

    def _device_there(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.empty(0, device=self.device)
        # a torch built without CUDA asserts
        except (RuntimeError, AssertionError, NotImplementedError, ValueError, OverflowError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"--device: {self.device} cannot be used ({reason}); give auto, cpu or a GPU") from error
        device = torch.device(self.device)
        # torch takes meta and others too, on which nothing is computed, or not what is needed here
        check_option(device.type in ("cpu", "cuda"), "device", self.device, "auto, cpu or a GPU")
        return device

    def to_dict(self) -> dict:
        """Returns the options as plain values, as JSON has them, and the task."""
        values = {key: _plain(value) for key, value in dataclasses.asdict(self).items() if key not in NOT_KEPT}
        return {"task": self.TASK} | values

    @classmethod
    def from_dict(cls: type[Config], values: dict, source: str | Path) -> Config:
        """Makes a configuration of the values that `to_dict` returned, or that of an earlier version did.

        Raises UserError, which names `source`, for options that are unknown, missing, or of another type.
        """
        expected = {field.name for field in dataclasses.fields(cls) if field.name not in NOT_KEPT}
        added = optimisation.ADDED | surgery.ADDED | modulation.ADDED | cls.ADDED
        added |= {"preset": None, "classifier_lr": 1e-3}
        given = missing_modalities.as_now({key: value for key, value in values.items() if key != "task"})
        values = {key: value for key, value in added.items() if key in expected} | given
        if odd := sorted(expected.symmetric_difference(values), key=str):
            listed = shown(", ".join(map(str, odd)), 200)
            raise UserError(f"{source}: written by another version of gmd: it differs in {listed}; train anew")
        types = get_type_hints(cls)
        return cls(**{key: _typed(value, types[key], key, source) for key, value in values.items()})


def differences(ours: TrainConfig, theirs: TrainConfig) -> list[str]:
    """Says in which options two configurations differ, those of MAY_CHANGE left out: `"width: 0.5 here, 1.0 there"`.

    With the schedule that follows the validations, how often there is one decides what is computed.
    """
    a, b = ours.to_dict(), theirs.to_dict()
    deciding = ("validate_every",) if ours.schedule == "plateau" else ()
    fields = (key for key in a | b if key not in MAY_CHANGE or key in deciding)
    return [f"{key}: {a.get(key)} here, {b.get(key)} there" for key in fields if a.get(key) != b.get(key)]


def _typed(value: object, wanted: Any, name: str, source: str | Path) -> Any:
    """Returns a YAML file's value as the field has it, of the type `wanted`. Raises UserError if that cannot be."""
    converted = tuple(value) if isinstance(value, list) else value
    if wanted in (Path, Path | None) and isinstance(value, str):
        converted = Path(value)
    if wanted == tuple[Path, ...] and isinstance(converted, tuple):
        converted = tuple(Path(item) if isinstance(item, str) else item for item in converted)
    try:
        if isinstance(value, bool) and wanted is not bool:
            raise TypeCheckError("yes or no is no value of it")
        return check_type(converted, wanted, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        reason = shown(" ".join(str(error).split()), 200)
        raise UserError(
            f"{source}: {name}: got {brief(value)} ({reason}); mend it, or restore it from a copy"
        ) from error


def _plain(value: object) -> object:
    """Returns the value of a field as JSON has it."""
    return str(value) if isinstance(value, Path) else list(map(_plain, value)) if isinstance(value, tuple) else value
