"""What the tasks on samples share: sequences in memory, and the files of a manifest."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from gmd.config import TrainSamples
from gmd.data import SPLITS
from gmd.data.pairs import Pairs, Values
from gmd.data.sequences.missing_modalities import make_absent
from gmd.data.sequences.samples import Sample
from gmd.errors import UserError
from gmd.models.multimodal import FeatureNetwork, run_modalities
from gmd.scoring.outcomes import Outcomes, score, score_name
from gmd.scoring.sequences.prediction import Collate, predict_samples
from gmd.scoring.sequences.tables import mean_over_subsets, subset_table
from gmd.subsets import Subset, all_subsets
from gmd.together import Apart, in_turn
from gmd.training.tasks import criteria
from gmd.training.tasks.several_outcomes import criteria_of, samples_labelled
from gmd.training.tasks.task import Batch, Task, Validation

# criterion, metric and score
REGRESSION = (criteria.absolute_error, criteria.negative_error, criteria.closeness)
CLASSES = (criteria.cross_entropy, criteria.accuracy, criteria.probability)


@dataclass(frozen=True)
class SampleData:
    """The samples of a run, and all that training and evaluation need to know of them.

    Attributes:
        splits: "train", "validation" and "test".
        about: what splits.json says of them: what the network is built from, and a "checksum".
        notes: sentences for the user.
        outcomes: what is predicted of a sample.
        collate: makes samples a batch to predict.
    """

    splits: Mapping[str, list[Sample]]
    about: dict[str, Any]
    notes: tuple[str, ...]
    outcomes: Outcomes
    collate: Collate


class Batches(Protocol):
    """The batches of an epoch, see `SequenceBatches`."""

    epoch: int
    start: int

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch[Any]]: ...


class SampleTask(Task[FeatureNetwork, Values]):
    """Learns classes or numbers of samples, or of each of their steps; features are fused before the head.

    Its targets are [n], or [n, L] of L steps, or [n, O] of several outcomes: float32 numbers or int64 classes, see
    `gmd.training.tasks.criteria` and `several_outcomes`; its predictions have a last dimension of all their outputs.

    config: of the run, with the modalities that the network has.
    """

    config: TrainSamples
    data: SampleData

    def __init__(self, config: TrainSamples, data: SampleData):
        self.config = config
        self.data = data
        first, *more = data.outcomes
        self.criterion, self.metric, self.score = (
            criteria_of(data.outcomes) if more else CLASSES if first.classes else REGRESSION
        )
        self.counted = samples_labelled if more else criteria.targets_there
        self.score_name = score_name(data.outcomes)
        self.score_title = f"{self.score_name}, mean over the subsets of the modalities"
        if any(outcome.score_name == "R2" for outcome in data.outcomes):
            self.score_limits = None  # it is below 0 for who does worse than the mean
        self._missing = config.missing_of(config.modalities, config.seed)
        self._training = make_absent(data.splits["train"], self._missing)
        self._batches = self.training_batches()
        one_class = first.classes and not more and not data.about.get("per_step")
        self.samples = len(self._training) if one_class else None
        self.steps_per_epoch = math.ceil(len(self._batches) / config.accumulate)

    @abstractmethod
    def training_batches(self) -> Batches:
        """Returns the batches of the training samples, without what they are to lack."""

    def check(self) -> None:
        """Does nothing: whoever has made this task has read and checked all splits."""

    def described(self) -> dict:
        data = self.data
        named = {split: [{"name": sample.name} for sample in data.splits[split]] for split in SPLITS}
        about = data.about | ({"missing_list": listed} if (listed := self._missing.checksum()) else {})
        return {"data": str(self.config.data), "about": about, "notes": list(data.notes)} | named

    def notes(self) -> list[str]:
        names: list[str] = [sample.name for sample in self._training]
        return [*self.data.notes, *self._missing.notes("training samples", names)]

    def batches(self, epoch: int, start: int = 0) -> Iterable[Batch[Values]]:
        self._batches.epoch, self._batches.start = epoch, start
        return self._batches

    def to_device(self, inputs: Pairs[Values], targets: Tensor, device: torch.device) -> Batch[Values]:
        """Returns a batch on the network's device, numbers in the unit that the network learns them in."""
        scales = torch.tensor([(outcome.mean, outcome.std) for outcome in self.data.outcomes], dtype=torch.float64)
        if targets.is_floating_point() and bool((scales != torch.tensor([0.0, 1.0])).any()):
            mean, std = scales.squeeze(0).unbind(dim=-1)  # [] of one outcome, [O] of several
            targets = ((targets.double() - mean) / std).float()  # numbers may be large, and differ little
        return replace(inputs, values={m: value.to(device) for m, value in inputs.values.items()}), targets.to(device)

    def outputs(self, network: FeatureNetwork, inputs: Pairs[Values]) -> Pairs[Tensor]:
        """Runs the network and returns each modality's features, which are fused before the head."""
        outputs = run_modalities(network, inputs)
        return replace(outputs, values={m: value.float() for m, value in outputs.values.items()})

    def predict(
        self, network: FeatureNetwork, outputs: Pairs[Tensor], subset: Subset | None
    ) -> tuple[Tensor, list[int]]:
        fused, samples = network.fuse(outputs, subset)
        return network.head(fused), samples

    def validate(self, network: FeatureNetwork, apart: Apart = in_turn) -> Validation:
        """Measures the validation samples' metrics, means over the subsets that exist. The score is made of them."""
        data, modalities = self.data, self.config.modalities
        samples, subsets = data.splits["validation"], all_subsets(modalities)
        predictions = predict_samples(network, samples, subsets, self.config, data.outcomes, data.collate, apart)
        means = mean_over_subsets(subset_table(predictions, modalities, data.outcomes))
        return Validation(score(means, data.outcomes), means)


def with_modalities(
    splits: Mapping[str, list[Sample]], known: tuple[str, ...], modalities: tuple[str, ...]
) -> tuple[dict[str, list[Sample]], list[str]]:
    """Returns the splits with these modalities only, and a note if samples have none of them, which are left out.

    known: the modalities that the data have
    Raises UserError for a modality that the data do not have, or if no sample of a split is left.
    """
    if unknown := [m for m in modalities if m not in known]:
        expected = f"expected some of {', '.join(known)}"
        raise UserError(f"--modalities: the data have no {' or '.join(unknown)}, {expected}")
    kept = {
        split: [few for sample in samples if (few := _only(sample, modalities)).values]
        for split, samples in splits.items()
    }
    if empty := [split for split, samples in kept.items() if not samples]:
        raise UserError(f"--modalities: no sample of the {empty[0]} split has {' or '.join(modalities)}")
    lost = sum(map(len, splits.values())) - sum(map(len, kept.values()))
    return kept, [f"{lost} samples have none of {', '.join(modalities)} and are left out"] if lost else []


def _only(sample: Sample, modalities: tuple[str, ...]) -> Sample:
    return sample._replace(values={m: sample.values[m] for m in modalities if m in sample.values})
