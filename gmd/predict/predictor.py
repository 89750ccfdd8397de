"""Predicts one case with a trained network, and writes its label map to the disk."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor
from tqdm import tqdm

from gmd.config import TrainBrats
from gmd.data.segmentation.volumes import load_case
from gmd.errors import shown
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.predict.grid import Grid, write_image
from gmd.predict.label_map import paint
from gmd.predict.request import Job
from gmd.predict.summary import case_line, region_volumes, score_line
from gmd.scoring.segmentation.prediction import fuse, predict_modalities, present_volumes
from gmd.subsets import Subset


class Prediction(NamedTuple):
    """The prediction of one case, in RAS+.

    Attributes:
        present: the modalities that it was made from.
        logits: their mean, float32 [R, X, Y, Z] on the CPU; -inf outside the bounding box of each.
        affine: float64 [4, 4], voxel indices to mm.
    """

    present: Subset
    logits: Tensor
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
    """

    run: Path
    config: TrainBrats
    network: SegmentationNetwork
    zero_is_missing: bool
    show_scores: bool = True
    scores_shown: set[Subset] = field(default_factory=set)

    def predict_case(self, job: Job) -> Prediction:
        """Predicts a case, without writing anything. Raises UserError for a case that cannot be used."""
        case = load_case(job.case, None, self.zero_is_missing)
        volumes = present_volumes(self.network, case)
        outputs = predict_modalities(self.network, volumes, self.config.patch, self.config.precision, progress=True)
        return Prediction(tuple(volumes), fuse(outputs, volumes).cpu(), case["affine"])

    def write(self, job: Job, prediction: Prediction) -> None:
        """Writes a case's prediction, and prints what is in it. Raises UserError if it cannot be written."""
        present, logits, affine = prediction
        scheme = self.config.label_scheme()
        labels = paint((logits > 0).numpy(), scheme)
        grid = Grid.of(next(iter(job.case.images.values())))
        if job.probabilities is not None:
            about = f"probabilities of {', '.join(self.network.regions)}"
            write_image(grid.image(logits.sigmoid().movedim(0, -1).numpy(), about), job.probabilities)
        write_image(grid.image(labels), job.labels)  # last: it is what says that the case is done
        line = case_line(job, present, self.config.modalities, region_volumes(labels, affine, scheme))
        tqdm.write(shown(line))
        if self.show_scores and present not in self.scores_shown:
            self.scores_shown.add(present)
            tqdm.write(score_line(self.run, present, self.network.regions))
