"""Predicts one case with a trained network, and writes its label map to the disk."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np

from gmd.config import TrainBrats
from gmd.data.segmentation.volumes import load_case
from gmd.decoration import decoration
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.predict.grid import Grid, write_image
from gmd.predict.request import Job
from gmd.predict.summary import case_line, region_volumes, score_line
from gmd.printing import say
from gmd.scoring.segmentation.prediction import fuse, predict_label_map, predict_modalities, present_volumes
from gmd.subsets import Subset


class Prediction(NamedTuple):
    """The prediction of one case.

    Attributes:
        present: the modalities that it was made from.
        images: file to write -> its image, the label map last, in the grid of the case's own files. Probabilities are
            the network's own, of each region by itself, and 0 outside the bounding box of every modality.
        volumes: region -> ml.
        affine: float64 [4, 4], voxel indices in RAS+ to mm.
    """

    present: Subset
    images: dict[Path, nibabel.Nifti1Image]
    volumes: dict[str, float]
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
        scheme = self.config.label_scheme()
        labels = predict_label_map(outputs, scheme).cpu()
        grid = Grid.of(next(iter(job.case.images.values())))
        images = {}
        if job.probabilities is not None:
            probabilities = fuse(outputs, volumes).sigmoid().cpu().movedim(0, -1).numpy()
            about = f"probabilities of {', '.join(self.network.regions)}"
            images[job.probabilities] = grid.image(probabilities, about)
        images[job.labels] = grid.image(labels.numpy())  # last: it is what says that the case is done
        return Prediction(tuple(volumes), images, region_volumes(labels, case["affine"], scheme), case["affine"])

    def write(self, job: Job, prediction: Prediction) -> None:
        """Writes a case's prediction, and prints what is in it. Raises UserError if it cannot be written."""
        self.affines[job.case.name] = prediction.affine
        for path, image in prediction.images.items():
            write_image(image, path)
        present = prediction.present
        say(case_line(job, present, self.config.modalities, prediction.volumes))
        if self.show_scores and present not in self.scores_shown:
            self.scores_shown.add(present)
            modalities, regions = self.config.modalities, self.network.regions
            line = decoration("no score is told", lambda: score_line(self.run, present, modalities, regions))
            if line is None:
                self.show_scores = False  # once is enough
            else:
                say(line)
