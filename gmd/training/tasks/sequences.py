"""The tasks on sequences, sentiment and digits among them: transformers on sequences of text, audio, images."""

import hashlib
import math
import shlex
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from gmd.config import TrainAnySequences, TrainDigits, TrainSentiment, TrainSequences
from gmd.data import SPLITS
from gmd.data.padded import Padded
from gmd.data.pairs import EncodedPairs, Pairs
from gmd.data.sequences.batches import SequenceBatches
from gmd.data.sequences.missing_modalities import make_absent
from gmd.data.sequences.samples import SENTIMENT_MODALITIES, Sample, SequenceData, as_classes
from gmd.data.sequences.sequence_files import Reading, read_sequences
from gmd.errors import UserError, shown
from gmd.files import real_path
from gmd.models.multimodal import run_modalities
from gmd.models.sequences.input_statistics import input_statistics
from gmd.models.sequences.network import SequenceNetwork
from gmd.scoring.sequences.metrics import main_metric
from gmd.scoring.sequences.prediction import predict_samples
from gmd.scoring.sequences.tables import mean_over_subsets, subset_table
from gmd.subsets import Subset, all_subsets
from gmd.training.networks import build_sequence_network
from gmd.training.tasks import criteria
from gmd.training.tasks.task import Batch, Task, Validation

# criterion, metric and score
REGRESSION = (criteria.absolute_error, criteria.negative_error, criteria.closeness)
CLASSES = (criteria.cross_entropy, criteria.accuracy, criteria.probability)


class SequenceTask(Task[SequenceNetwork, Padded]):
    """Learns a score or a class of each sequence, or of each of its steps, from sequences in memory.

    Its targets are [n] or [n, L]: float32 scores or int64 classes, see `gmd.training.tasks.criteria`; its predictions
    have a last dimension more, of the classes, or of 1.
    Raises UserError for data that cannot be used.
    """

    config: TrainSequences

    def __init__(self, config: TrainSequences):
        self.data = read_data(config)
        self.config = replace(config, data=real_path(config.data), modalities=tuple(self.data.features))
        if not config.modalities:
            self.config.check_values()
        self.criterion, self.metric, self.score = CLASSES if self.data.classes else REGRESSION
        self.score_name = main_metric(self.data.classes, self.data.unit)
        self.score_title = f"{self.score_name}, mean over the subsets of the modalities"
        self._missing = config.missing_of(self.config.modalities, config.seed)
        self._training = make_absent(self.data.splits["train"], self._missing)
        self._batches = SequenceBatches(self._training, self.config.modalities, config.batch, config.seed)
        self.samples = len(self._training)
        self.steps_per_epoch = math.ceil(len(self._batches) / config.accumulate)

    def check(self) -> None:
        """Does nothing: whoever has made this task has read and checked all splits."""

    def described(self) -> dict:
        data = self.data
        named = {split: [{"name": sample.name} for sample in data.splits[split]] for split in SPLITS}
        shape = {"features": data.features, "classes": data.classes and list(data.classes), "per_step": data.per_step}
        about = shape | {"checksum": checksum(data)}
        about |= {} if data.unit is None else {"unit": list(data.unit)}
        about |= {"missing_list": listed} if (listed := self._missing.checksum()) else {}
        return {"data": str(self.config.data), "about": about, "notes": list(data.notes)} | named

    def notes(self) -> list[str]:
        names = [sample.name for sample in self._training]
        return [*self.data.notes, *self._missing.notes("training samples", names)]

    def build_network(self) -> SequenceNetwork:
        network = build_sequence_network(self.config, self.described()["about"])
        network.set_input_statistics(input_statistics(self._training))
        return network

    def batches(self, epoch: int, start: int = 0) -> Iterable[Batch[Padded]]:
        self._batches.epoch, self._batches.start = epoch, start
        return self._batches

    def to_device(self, inputs: Pairs[Padded], targets: Tensor, device: torch.device) -> Batch[Padded]:
        """Returns a batch on the network's device, with targets in the unit that the network learns them in."""
        if self.data.unit is not None:
            mean, deviation = self.data.unit
            targets = ((targets.double() - mean) / deviation).float()  # numbers may be large, and differ little
        return replace(inputs, values={m: value.to(device) for m, value in inputs.values.items()}), targets.to(device)

    def outputs(self, network: SequenceNetwork, inputs: Pairs[Padded]) -> Pairs[Tensor]:
        """Runs the network and returns each modality's features, which are fused before the head."""
        if self.config.classifiers == "transformers":
            return _with_steps(network, inputs)
        outputs = run_modalities(network, inputs)
        return replace(outputs, values={m: value.float() for m, value in outputs.values.items()})

    def predict(
        self, network: SequenceNetwork, outputs: Pairs[Tensor], subset: Subset | None
    ) -> tuple[Tensor, list[int]]:
        fused, samples = network.fuse(outputs, subset)
        return network.head(fused), samples

    def validate(self, network: SequenceNetwork) -> Validation:
        """Measures the validation samples' metrics, means over the subsets that exist. `score_name` is one of them."""
        modalities = self.config.modalities
        samples, unit = self.data.splits["validation"], self.data.unit
        predictions = predict_samples(network, samples, all_subsets(modalities), self.config, unit)
        table = subset_table(predictions, modalities, self.data.classes, self.data.largest_score)
        means = mean_over_subsets(table)
        return Validation(means[self.score_name], means)


def _with_steps(network: SequenceNetwork, inputs: Pairs[Padded]) -> EncodedPairs:
    """Runs the network as `outputs` does, and keeps what it pools, for classifiers to look at."""
    steps = {m: network.encoded(values, network.modalities.index(m)) for m, values in inputs.values.items()}
    values = {m: network.pool(of_one).float() for m, of_one in steps.items()}
    kept = {m: Padded(of_one.values.detach().float(), of_one.lengths) for m, of_one in steps.items()}
    return EncodedPairs(inputs.num_samples, inputs.samples, values, kept, numbers=inputs.numbers)


def read_data(config: TrainSequences) -> SequenceData:
    """Reads the data of a run: its modalities only, and classes in place of scores if these are its targets.

    Raises UserError for data that cannot be used.
    """
    if isinstance(config, TrainDigits):
        from gmd.data.sequences.digits import read_digits  # brings scikit-learn, which the others do without

        return with_modalities(read_digits(config.data, config.seed), config.modalities)
    if isinstance(config, TrainSentiment):
        return _with_known(_read_sentiment(config), config.modalities)
    assert isinstance(config, TrainAnySequences)  # there are no other tasks on sequences
    data = read_sequences(config.data, Reading(config.seed, numbers=True, fold=config.fold))
    return with_modalities(data, config.modalities or tuple(data.features))


def _read_sentiment(config: TrainSentiment) -> SequenceData:
    """Reads scores of sentiment, or the signs of these. Raises UserError for data whose targets are classes."""
    reading = Reading(config.seed, clip_scores=config.clip_scores, scale_scores=config.scale_scores)
    data = read_sequences(config.data, reading)
    if data.classes is not None:
        raise UserError(
            f"{config.data}: its targets are classes ({shown(', '.join(data.classes), 200)}) and no sentiment; train "
            f"with: gmd train sequences --data {shlex.quote(str(config.data))}"
        )
    return as_classes(data) if config.target == "sign" else data


def _with_known(data: SequenceData, modalities: tuple[str, ...]) -> SequenceData:
    """Returns the data with these modalities only; of the three of sentiment, the default, with those that they have.

    Raises UserError as `with_modalities`.
    """
    known = tuple(m for m in modalities if m in data.features)
    if modalities != SENTIMENT_MODALITIES or known in ((), modalities):
        return with_modalities(data, modalities)
    absent = [m for m in modalities if m not in known]
    note = f"the data have no {' and no '.join(absent)}: the network has {' and '.join(known)}"
    return with_modalities(replace(data, notes=(*data.notes, note)), known)


def with_modalities(data: SequenceData, modalities: tuple[str, ...]) -> SequenceData:
    """Returns the data with these modalities only. Samples that have none of them are left out, and noted.

    Raises UserError for a modality that the data do not have, or if no sample of a split is left.
    """
    if unknown := [m for m in modalities if m not in data.features]:
        known = ", ".join(data.features)
        raise UserError(f"--modalities: the data have no {' or '.join(unknown)}, expected some of {known}")
    splits, lost = {}, 0
    for split, samples in data.splits.items():
        kept = [_only(sample, modalities) for sample in samples]
        splits[split] = [sample for sample in kept if sample.values]
        lost += len(kept) - len(splits[split])
        if not splits[split]:
            raise UserError(f"--modalities: no sample of the {split} split has {' or '.join(modalities)}")
    notes = (*data.notes, *([f"{lost} samples have none of {', '.join(modalities)} and are left out"] if lost else []))
    return replace(data, features={m: data.features[m] for m in modalities}, splits=splits, notes=notes)


def checksum(data: SequenceData) -> str:
    """Returns a checksum of all values and targets, which differs for other data under the same names."""
    digest = hashlib.blake2b(digest_size=8)
    for split in SPLITS:
        for sample in data.splits[split]:
            for tensor in (*sample.values.values(), sample.target):
                digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _only(sample: Sample, modalities: tuple[str, ...]) -> Sample:
    return sample._replace(values={m: sample.values[m] for m in modalities if m in sample.values})
