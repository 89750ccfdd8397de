"""The options of `gmd train brats`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tyro.conf import FlagCreatePairsOff

from gmd.config.checks import check_option, option_text
from gmd.config.train_config import TrainConfig
from gmd.data.segmentation.case import SAME_PLACE
from gmd.data.segmentation.data_sets import DataSet
from gmd.data.segmentation.label_scheme import LabelScheme
from gmd.data.segmentation.labels import SCHEMES, listed
from gmd.data.segmentation.names import BRATS_MODALITIES, check_keys, parse_patterns
from gmd.data.segmentation.own_labels import read_scheme
from gmd.errors import UserError
from gmd.models.segmentation.architectures import ARCHITECTURES
from gmd.names import OF_REGIONS, check_names

WIDEST = 100  # some hundred GB
MOST_FOLDS = 1000

_OWN_NETWORK = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*")


@dataclass(frozen=True)
class TrainBrats(TrainConfig):
    """Train one network that segments with any subset of the modalities.

    Options come from a YAML file, too: --config FILE, a run's config.yaml say; what stands on the line overrides it.

    Example: gmd train brats --data BraTS2021 --method gmd --out runs/brats

    Example: gmd train brats --config runs/brats/config.yaml --lr 5e-4 --out runs/slower
    """

    data: tuple[Path, ...]
    """Folders of cases, one for each data set; folders `train`, `test` (and `validation`) in one are its splits."""
    out: Path = Path("runs/brats")
    """Folder of this run: configuration, splits, metrics, checkpoints, pictures."""
    method: Literal["joint", "dropout", "enumerate", "gmd", "surgery", "scalarised", "cggm", "cggm-gmd"] = "gmd"
    """joint: loss on all modalities; dropout: on a random subset of them for each case and step; enumerate: mean of the
    losses of all subsets; gmd: surgery on these; surgery: the same with another --weighting;
    scalarised: the losses weighed by their values. cggm: joint, the modalities balanced by how fast each improves;
    cggm-gmd: the same around gmd."""
    modalities: tuple[str, ...] = BRATS_MODALITIES
    """The modalities that the network has; a case may lack any of them, but not all."""
    preset: Literal["gmd-brats", "cggm-brats"] | None = None
    """A published recipe's options, which others on the line, and in a file, override; what it sets and what differs
    from the publication is told before the training."""
    patterns: tuple[str, ...] = ()
    """For other file names than BraTS's: KEY=GLOB for each modality, seg (labels), mask (brain; optional)."""
    channels: tuple[str, ...] = ()
    """For images that are numbered, or volumes of a 4-D file, in imagesTr, as in the Medical Segmentation Decathlon and
    for nnU-Net: the modality of each, in order. By default told by dataset.json."""
    labels: tuple[str, ...] = ()
    """Meaning of the label values: brats2015, brats2018, brats2023, brats2024-gli, brats2023-met, brats2025-met,
    brats2023-ped, brats2024-ped, brats2023-men, brats2024-men-rt, msd, binary, or a YAML file of your own; one for all
    of --data, or one for each. By default told by the names of BraTS's cases. Predictions have those of the first."""
    affine_tolerance: float = SAME_PLACE
    """Millimetres by which the affines of a case's files may differ, which other tools round."""
    network: str = "unet"
    """unet: the U-Net of Dynamic Sharing. MONAI's segresnet, dynunet (nnU-Net's), swinunetr, unetr, basicunet,
    attentionunet and vnet, of which each modality gets norms of its own. Or package.module:function, a function of
    yours that is called with regions=R and returns a network of one modality, from [n, 1, X, Y, Z] to logits
    [n, R, X, Y, Z]."""
    width: float = 0.5
    """Factor on the channels that the network was published with, of the U-Net 32, 64, 128, 256, 256; the published
    command has 0.5."""
    patch: tuple[int, int, int] = (96, 96, 96)
    """Size of the random patches in voxels, multiples of 16, of 32 for swinunetr, of 8 for segresnet; smaller volumes
    are padded."""
    steps_per_epoch: int | None = None
    """Optimizer steps per epoch; by default one patch of every training case."""
    folds: int | None = None
    """Cross-validation: the patients in so many parts, each the test cases of a run of its own, OUT/fold0 and so on;
    folders `train`, `validation` and `test` in the data mean nothing then."""
    fold: int | None = None
    """With --folds: train this one only, counted from 0, into OUT."""
    train_list: Path | None = None
    """Cases to train on, one name a line, or the first column of a table `case,...`; then folders `train`, `validation`
    and `test` mean nothing, and cases in no list are not used. `HG_` and `LG_` before a name may be there or not."""
    val_list: Path | None = None
    """Cases that validate; without it a part of --train-list does, drawn by --seed."""
    test_list: Path | None = None
    """Cases to test on; without it gmd evaluate needs --data."""
    cache: int = 64
    """Training cases kept in memory, about 80 MB each for BraTS; others are read when their turn comes."""

    no_check: FlagCreatePairsOff[bool] = False  # or there were a --no-no-check
    """Begin without reading every case of all splits first, which finds bad files before the first step."""

    TASK: ClassVar = "brats"
    POSITIVE: ClassVar[tuple[str, ...]] = ("width", "steps_per_epoch", *TrainConfig.POSITIVE)
    NOT_NEGATIVE: ClassVar[tuple[str, ...]] = ("cache", "affine_tolerance", *TrainConfig.NOT_NEGATIVE)

    def __post_init__(self) -> None:
        # one folder and one label scheme are what most runs have
        for name, alone in (("data", (str, Path)), ("labels", str)):
            if isinstance(value := getattr(self, name), alone):
                object.__setattr__(self, name, (Path(value) if name == "data" else value,))

    @classmethod
    def from_dict(cls, values: dict, source: str | Path) -> "TrainBrats":
        """Makes a configuration of the values that `to_dict` returned, or that of an earlier version did.

        Raises UserError, which names `source`, for options that are unknown, missing, or of another type.
        """
        # runs of earlier versions have one folder and one label scheme, not lists of them
        lists = {key: [values[key]] for key in ("data", "labels") if isinstance(values.get(key), str)}
        # in later versions
        added = {"channels": [], "affine_tolerance": SAME_PLACE, "no_check": False, "network": "unet"}
        added |= dict.fromkeys(("train_list", "val_list", "test_list"))
        return super().from_dict(added | values | lists, source)

    def check_values(self) -> None:
        """Raises UserError for a value that cannot work anywhere."""
        super().check_values()
        check_option(self.width <= WIDEST, "width", self.width, f"at most {WIDEST}")
        few = self.folds is None or 2 <= self.folds <= MOST_FOLDS
        check_option(few, "folds", self.folds, f"at least 2, at most {MOST_FOLDS}")
        in_range = self.fold is None or 0 <= self.fold < (self.folds or 0)
        expected = f"0 to {self.folds - 1}" if self.folds else "--folds with it"
        check_option(in_range, "fold", self.fold, expected)
        self._check_lists()
        self._check_network()
        self._check_data()

    @property
    def lists(self) -> dict[str, Path | None]:
        """Returns the list of each split, if the user gives any: "train", "validation" and "test" -> file or None."""
        return {"train": self.train_list, "validation": self.val_list, "test": self.test_list}

    def _check_lists(self) -> None:
        """Raises UserError for lists without one to train on, and for lists with folds: both say who tests."""
        for name in ("val_list", "test_list"):
            given = getattr(self, name)
            check_option(given is None or self.train_list is not None, name, given, "--train-list with it")
        nothing = self.train_list is None or self.folds is None
        check_option(nothing, "train_list", self.train_list, "no --folds with it, which split the cases otherwise")

    @property
    def has_own_network(self) -> bool:
        """Whether the network is made by a function outside of gmd, `package.module:function`."""
        return ":" in self.network

    def check_named(self, named: str | None, source: str | Path) -> None:
        """Raises UserError if the network is made by a function that only a file names, not the user: it is code.

        named: what the user has given as --network; None: nothing
        source: the file or the run that the configuration is of
        """
        if named is not None:
            expected = f"{self.network}, the network of {source}, or nothing"
            check_option(named == self.network, "network", named, expected)
        elif self.has_own_network:
            raise UserError(
                f"{source}: its network is made by {self.network}, code that a file names and gmd does not know; if "
                f"you trust it, add --network {self.network}"
            )

    def _check_network(self) -> None:
        """Raises UserError unless there is such a network, and it takes the width and the patch."""
        known = self.network in ARCHITECTURES or _OWN_NETWORK.fullmatch(self.network) is not None
        expected = f"one of {', '.join(ARCHITECTURES)}, or package.module:function"
        check_option(known, "network", self.network, expected)
        if self.has_own_network:  # it says itself what it takes, when it is made
            check_option(min(self.patch) > 0, "patch", self.patch, "sizes of 1 voxel or more")
            return
        architecture = ARCHITECTURES[self.network]
        free = architecture.has_width or self.width == type(self).width
        check_option(free, "width", self.width, f"nothing: the channels of {self.network} are given")
        nearest = architecture.nearest(self.patch)
        multiples = f"{architecture.expected(self.patch)}, the nearest being {option_text(nearest)}"
        of = "" if self.network == "unet" else f" for {self.network}"
        check_option(nearest == self.patch, "patch", self.patch, f"{multiples}{of}")

    def check_new(self) -> None:
        """Raises UserError for what a run that begins now must not have; see `TrainConfig.check_new`."""
        super().check_new()
        check_names("--channels", self.channels)
        for option in self.labels:
            check_names("--labels", tuple(read_scheme(option).regions), OF_REGIONS)

    def _check_data(self) -> None:
        """Raises UserError unless there are data, and label schemes for none, all or each of them."""
        check_option(len(self.data) > 0, "data", "nothing", "at least one folder of cases")
        for option in self.labels:
            both = tuple(region for region in read_scheme(option).regions if region in self.modalities)
            check_option(not both, "labels", both, "regions that are not called as a modality is: tables have both")
        for_all_or_each = len(self.labels) in (0, 1, len(self.data))
        check_option(
            for_all_or_each, "labels", self.labels, f"one for all of --data, or one for each ({len(self.data)})"
        )
        if patterns := parse_patterns(self.patterns):
            check_keys(self.modalities, patterns)
        if self.patterns and not self.labels:
            reason = "--patterns does not say what the label values mean; add --labels, one of these:"
            raise UserError(reason, listed(SCHEMES.values()))

    def data_sets(self) -> list[DataSet]:
        """Returns the data sets to find the cases of."""
        patterns = parse_patterns(self.patterns) or None
        options = self.labels if len(self.labels) == len(self.data) else (self.labels or (None,))[:1] * len(self.data)
        schemes = [read_scheme(option) if option else None for option in options]
        return [
            DataSet(root, self.modalities, patterns, self.channels, scheme, self.affine_tolerance)
            for root, scheme in zip(self.data, schemes, strict=True)
        ]

    def label_scheme(self) -> LabelScheme:
        """Returns what the label values of the run's predictions mean: those of its first data set.

        Raises UserError if `labels` does not say: in a run it does, since the data tell where the user has not.
        """
        if not self.labels:
            reason = "--labels: got nothing, and the data do not say; expected one of these:"
            raise UserError(reason, listed(SCHEMES.values()))
        return read_scheme(self.labels[0])
