"""The tasks on sequences, sentiment and digits: transformers on sequences of text, audio, images."""

import hashlib
from dataclasses import replace

from gmd.config import TrainDigits, TrainSentiment, TrainSequences
from gmd.data import SPLITS
from gmd.data.padded import Padded
from gmd.data.sequences.batches import SequenceBatches, collate
from gmd.data.sequences.samples import SequenceData, as_classes
from gmd.data.sequences.sequence_files import read_sequences
from gmd.files import real_path
from gmd.models.sequences.input_statistics import input_statistics
from gmd.models.sequences.network import SequenceNetwork
from gmd.scoring.outcomes import Outcome
from gmd.training.networks import build_sequence_network
from gmd.training.tasks.samples import SampleData, SampleTask, with_modalities


class SequenceTask(SampleTask[Padded]):
    """Learns a score or a class of each sequence, or of each of its steps, from sequences in memory.

    Raises UserError for data that cannot be used.
    """

    config: TrainSequences

    def __init__(self, config: TrainSequences):
        super().__init__(replace(config, data=real_path(config.data)), sample_data(config))

    def training_batches(self) -> SequenceBatches:
        return SequenceBatches(self._training, self.config.modalities, self.config.batch, self.config.seed)

    def build_network(self) -> SequenceNetwork:
        network = build_sequence_network(self.config, self.data.about)
        network.set_input_statistics(input_statistics(self._training))
        return network


def sample_data(config: TrainSequences) -> SampleData:
    """Reads the data of a run, as `read_data`."""
    data = read_data(config)
    shape = {"features": data.features, "classes": data.classes and list(data.classes), "per_step": data.per_step}
    outcome = Outcome("", data.classes, data.largest_score)
    return SampleData(data.splits, shape | {"checksum": checksum(data)}, data.notes, (outcome,), collate)


def read_data(config: TrainSequences) -> SequenceData:
    """Reads the data of a run: its modalities only, and classes in place of scores if these are its targets.

    Raises UserError for data that cannot be used.
    """
    if isinstance(config, TrainDigits):
        from gmd.data.sequences.digits import read_digits  # brings scikit-learn, which sentiment does without

        data = read_digits(config.data, config.seed)
    else:
        data = read_sequences(config.data, config.seed)
        data = as_classes(data) if isinstance(config, TrainSentiment) and config.target == "sign" else data
    modalities = config.modalities
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
