"""Predicts one case with a trained network, and writes its label map to the disk."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from gmd.config import TrainBrats
from gmd.data.segmentation.volumes import load_case
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.predict.grid import Grid, write_image
from gmd.predict.request import Job
from gmd.predict.summary import case_line, region_volumes, score_line
from gmd.printing import say
from gmd.scoring.segmentation.prediction import fuse, predict_label_map, predict_modalities, present_volumes
from gmd.subsets import Subset


class Prediction(NamedTuple):
    """The prediction of one case, in RAS+.

    Attributes:
        present: the modalities that it was made from.
        labels: the label map, uint8 [X, Y, Z], on the CPU.
        probabilities: those of the regions, float32 [R, X, Y, Z] on the CPU, if they are asked for. They are the
            network's own, of each region by itself, and 0 outside the bounding box of every modality.
        affine: float64 [4, 4], voxel indices to mm.
    """

    present: Subset
    labels: Tensor
    probabilities: Tensor | None
    affine: np.ndarray


@dataclass
class Predictor:
    """A trained network, and what it takes to predict with it.

    Attributes:
        run: the folder of the training.
        config: that of the run, with the precision to predict in.
        network: on the device to predict on.
        zero_is_missing: whether a modality that has one value only counts as absent.
        show_scores: whether to print how the run scored for a subset of the modalities when it first occurs.
        scores_shown: the subsets for which that has been printed.
        affines: case -> its affine, of those that are written.
    """

    run: Path
    config: TrainBrats
    network: SegmentationNetwork
    zero_is_missing: bool
    show_scores: bool = True
    scores_shown: set[Subset] = field(default_factory=set)
    affines: dict[str, np.ndarray] = field(default_factory=dict)

    def predict_case(self, job: Job) -> Prediction:
        """Predicts a case, without writing anything. Raises UserError for a case that cannot be used."""
        case = load_case(job.case, False, self.zero_is_missing)
        volumes = present_volumes(self.network, case)
        outputs = predict_modalities(self.network, volumes, self.config.patch, self.config.precision, progress=True)
        labels = predict_label_map(outputs, self.config.label_scheme()).cpu()
        probabilities = fuse(outputs, volumes).sigmoid().cpu() if job.probabilities is not None else None
        return Prediction(tuple(volumes), labels, probabilities, case["affine"])

    def write(self, job: Job, prediction: Prediction) -> None:
        """Writes a case's prediction, and prints what is in it. Raises UserError if it cannot be written."""
        present, labels, probabilities, affine = prediction
        self.affines[job.case.name] = affine
        grid = Grid.of(next(iter(job.case.images.values())))
        if job.probabilities is not None and probabilities is not None:
            about = f"probabilities of {', '.join(self.network.regions)}"
            write_image(grid.image(probabilities.movedim(0, -1).numpy(), about), job.probabilities)
        write_image(grid.image(labels.numpy()), job.labels)  # last: it is what says that the case is done
        volumes = region_volumes(labels, affine, self.config.label_scheme())
        say(case_line(job, present, self.config.modalities, volumes))
        if self.show_scores and present not in self.scores_shown:
            self.scores_shown.add(present)
            say(score_line(self.run, present, self.network.regions))
