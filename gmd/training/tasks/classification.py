"""The task on the files of a manifest: classes or numbers from pictures, sound, text and features."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gmd.config import TrainClassify
from gmd.data.manifest.batches import ManifestBatches, collate_cells
from gmd.data.manifest.read import ManifestData, read_manifest
from gmd.data.manifest.statistics import input_statistics
from gmd.errors import UserError
from gmd.files import real_path
from gmd.models.classification.make import sharing_notes
from gmd.models.classification.network import ClassifierNetwork
from gmd.names import check_names
from gmd.training.networks import build_classifier, inputs_of
from gmd.training.outcomes import outcomes_of
from gmd.training.tasks.samples import SampleData, SampleTask, with_modalities
from gmd.training.tasks.task import own_share


class ClassifyTask(SampleTask[Any]):
    """Learns the labels of the samples of a manifest, whose files are read when they are needed.

    Raises UserError for data that cannot be used.
    """

    config: TrainClassify

    def __init__(self, config: TrainClassify):
        data = sample_data(config)
        self._inputs = inputs_of(data.about)
        super().__init__(_completed(config, tuple(self._inputs)), data)

    def training_batches(self) -> ManifestBatches:
        config = self.config
        return ManifestBatches(
            self._training,
            config.modalities,
            self._inputs,
            config.preparation(),
            config.batch,
            config.seed,
            config.workers,
            training=True,
            share=own_share(),
        )

    def build_network(self) -> ClassifierNetwork:
        network = build_classifier(self.config, self.data.about)
        network.set_input_statistics(input_statistics(self._training, self._inputs, self.config.preparation()))
        return network

    def notes(self) -> list[str]:
        shared = sharing_notes(self._inputs) if self.config.network == "ds" else ()
        return [*super().notes(), *shared]


def sample_data(config: TrainClassify) -> SampleData:
    """Reads the manifest of a run, and checks the files that it names: their modalities of the run only.

    Raises UserError for data that cannot be used.
    """
    preparation = config.preparation()
    data = read_manifest(config.data, config.root, preparation, config.unreadable, config.target, config.seed)
    modalities = config.modalities or tuple(data.inputs)
    splits, notes = with_modalities(data.splits, tuple(data.inputs), modalities)
    inputs = {m: data.inputs[m] for m in modalities}
    about = {
        "inputs": {m: [kind, dict(sizes)] for m, (kind, sizes) in inputs.items()},
        "outputs": _outputs(config.data, data),
        "checksum": data.checksum(),
    }
    collate = partial(collate_cells, inputs=inputs, preparation=replace(preparation, augment=False))
    return SampleData(splits, about, (*data.notes, *notes), outcomes_of(about), collate)


def _outputs(path: Path, data: ManifestData) -> list[dict[str, Any]]:
    """Returns what splits.json says of the outputs, with the mean and the deviation of the training labels of numbers.

    One output has no name: it need not be told from others.
    Raises UserError for an output that no training row has a label of.
    """
    columns = torch.stack([sample.target.double() for sample in data.splits["train"]]).view(-1, len(data.outputs))
    outputs = []
    for (name, classes), column in zip(data.outputs, columns.unbind(dim=1), strict=True):
        labels = column[column.isfinite()]
        if not len(labels):
            raise UserError(f"{path}: {name}: no row of train has a label of it, from which it could be learnt")
        scale = (0.0, 1.0) if classes else (float(labels.mean()), float(labels.std(correction=0)) or 1.0)
        about = {"name": name if len(data.outputs) > 1 else "", "classes": classes and list(classes)}
        outputs.append(about | {"mean": scale[0], "std": scale[1]})
    return outputs


def _completed(config: TrainClassify, modalities: tuple[str, ...]) -> TrainClassify:
    """Returns the options with those that the data decide, checked once more with them."""
    root = None if config.root is None else real_path(config.root)
    config = replace(config, data=real_path(config.data), root=root, modalities=modalities)
    check_names(str(config.data), modalities)
    config.check_values()
    return config
