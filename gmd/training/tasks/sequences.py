"""The tasks on sequences, sentiment and digits among them: transformers on sequences of text, audio, images."""

import hashlib
import shlex
from dataclasses import replace

from torch import Tensor

from gmd.config import TrainAnySequences, TrainDigits, TrainSentiment, TrainSequences
from gmd.data import SPLITS
from gmd.data.padded import Padded
from gmd.data.pairs import EncodedPairs, Pairs
from gmd.data.sequences.batches import SequenceBatches, collate
from gmd.data.sequences.samples import SENTIMENT_MODALITIES, SequenceData, as_classes
from gmd.data.sequences.sequence_files import Reading, read_sequences
from gmd.errors import UserError, shown
from gmd.files import real_path
from gmd.models.multimodal import FeatureNetwork
from gmd.models.sequences.input_statistics import input_statistics
from gmd.models.sequences.network import SequenceNetwork
from gmd.scoring.outcomes import Outcome
from gmd.training.networks import build_sequence_network
from gmd.training.tasks.samples import SampleData, SampleTask, with_modalities
from gmd.training.tasks.task import own_share


class SequenceTask(SampleTask[Padded]):
    """Learns a score or a class of each sequence, or of each of its steps, from sequences in memory.

    Raises UserError for data that cannot be used.
    """

    config: TrainSequences

    def __init__(self, config: TrainSequences):
        data = sample_data(config)
        completed = replace(config, data=real_path(config.data), modalities=tuple(data.about["features"]))
        if not config.modalities:
            completed.check_values()
        super().__init__(completed, data)

    def training_batches(self) -> SequenceBatches:
        config = self.config
        return SequenceBatches(self._training, config.modalities, config.batch, config.seed, own_share())

    def build_network(self) -> SequenceNetwork:
        network = build_sequence_network(self.config, self.data.about)
        network.set_input_statistics(input_statistics(self._training))
        return network

    def outputs(self, network: FeatureNetwork, inputs: Pairs[Padded]) -> Pairs[Tensor]:
        """Does what that of the base does, and keeps the encoded steps where classifiers are to see them."""
        if self.config.classifiers == "transformers" and isinstance(network, SequenceNetwork):
            return _with_steps(network, inputs)
        return super().outputs(network, inputs)


def _with_steps(network: SequenceNetwork, inputs: Pairs[Padded]) -> EncodedPairs:
    """Runs the network as `outputs` does, and keeps what it pools, for classifiers to look at."""
    steps = {m: network.encoded(values, network.modalities.index(m)) for m, values in inputs.values.items()}
    values = {m: network.pool(of_one).float() for m, of_one in steps.items()}
    kept = {m: Padded(of_one.values.detach().float(), of_one.lengths) for m, of_one in steps.items()}
    return EncodedPairs(inputs.num_samples, inputs.samples, values, kept, numbers=inputs.numbers)


def sample_data(config: TrainSequences) -> SampleData:
    """Reads the data of a run, as `read_data`."""
    data = read_data(config)
    shape = {"features": data.features, "classes": data.classes and list(data.classes), "per_step": data.per_step}
    unit = {} if data.unit is None else {"unit": list(data.unit)}
    outcome = Outcome("", data.classes, data.largest_score, *(data.unit or ()))
    return SampleData(data.splits, shape | unit | {"checksum": checksum(data)}, data.notes, (outcome,), collate)


def read_data(config: TrainSequences) -> SequenceData:
    """Reads the data of a run: its modalities only, and classes in place of scores if these are its targets.

    Raises UserError for data that cannot be used.
    """
    if isinstance(config, TrainDigits):
        from gmd.data.sequences.digits import read_digits  # brings scikit-learn, which the others do without

        return _of_modalities(read_digits(config.data, config.seed), config.modalities)
    if isinstance(config, TrainSentiment):
        return _with_known(_read_sentiment(config), config.modalities)
    assert isinstance(config, TrainAnySequences)  # there are no other tasks on sequences
    data = read_sequences(config.data, Reading(config.seed, numbers=True, fold=config.fold))
    return _of_modalities(data, config.modalities or tuple(data.features))


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
        return _of_modalities(data, modalities)
    absent = [m for m in modalities if m not in known]
    note = f"the data have no {' and no '.join(absent)}: the network has {' and '.join(known)}"
    return _of_modalities(replace(data, notes=(*data.notes, note)), known)


def _of_modalities(data: SequenceData, modalities: tuple[str, ...]) -> SequenceData:
    """Returns the data with these modalities only. Raises UserError as `with_modalities`."""
    splits, notes = with_modalities(data.splits, tuple(data.features), modalities)
    features = {m: data.features[m] for m in modalities}
    return replace(data, features=features, splits=splits, notes=(*data.notes, *notes))


def checksum(data: SequenceData) -> str:
    """Returns a checksum of all values and targets, which differs for other data under the same names."""
    digest = hashlib.blake2b(digest_size=8)
    for split in SPLITS:
        for sample in data.splits[split]:
            for tensor in (*sample.values.values(), sample.target):
                digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
