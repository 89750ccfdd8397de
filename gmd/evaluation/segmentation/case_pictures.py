"""Pictures of single cases with their predictions: the best, the median and the worst case of an evaluation."""

from functools import partial
from pathlib import Path
from statistics import fmean

from gmd.config import TrainBrats
from gmd.data.segmentation.case import Case
from gmd.data.segmentation.label_map import regions_of
from gmd.data.segmentation.volumes import load_case
from gmd.decoration import decoration
from gmd.models.segmentation.network import SegmentationNetwork
from gmd.names import POST_PROCESSED
from gmd.pictures.case import draw_case
from gmd.scoring.segmentation.prediction import predict_modalities, predict_subsets, present_volumes
from gmd.scoring.segmentation.tables import Score
from gmd.training.run_files import PICTURES_OF_CASES, remove_files


def draw_cases(
    network: SegmentationNetwork,
    cases: list[Case],
    scores: list[Score],
    config: TrainBrats,
    folder: Path,
) -> list[Path]:
    """Draws `case_best.png`, `case_median.png` and `case_worst.png` into the folder, and returns their paths.

    Fewer than three cases give fewer pictures, see `choose_cases`; pictures that an evaluation of more cases has left
    in the folder are removed. A case that cannot be read any more, or not drawn, is told on stderr, and has none. The
    predictions are made anew: to keep those of every case until the best is known would take too much memory.

    cases, scores: what was evaluated, and every score of it
    """
    by_name = {case.name: case for case in cases}
    chosen = choose_cases(scores)
    remove_files(folder, [name for place, name in PICTURES_OF_CASES.items() if place not in chosen])
    written = []
    for place, (name, dice) in chosen.items():
        about = f"{place} of {len(cases)} cases, mean Dice {dice:.2f}" if len(cases) > 1 else ""
        draw = partial(_draw, network, by_name[name], scores, config, folder / PICTURES_OF_CASES[place], about)
        if path := decoration(f"no picture of {name}", draw):
            written.append(path)
    return written


def _draw(
    network: SegmentationNetwork, case: Case, scores: list[Score], config: TrainBrats, path: Path, about: str
) -> Path:
    """Predicts a case, and draws it. Raises what `load_case` raises, and the errors of drawing."""
    loaded, painted = load_case(case), config.label_scheme()
    outputs = predict_modalities(network, present_volumes(network, loaded), config.patch, config.precision)
    drawn = {
        subset: regions_of(labels, painted)
        for subset, labels in predict_subsets(outputs, painted)
        if len(subset) in (1, len(outputs))
    }
    return draw_case(loaded, drawn, scores, network.regions, path, about)


def choose_cases(scores: list[Score]) -> dict[str, tuple[str, float]]:
    """Chooses the cases to draw: "best", "median", "worst" -> a case's name and its mean Dice over regions and subsets.

    Of two cases there is a best and a worst one; a single one is called the median. Of an even number the median is
    the better one of the two in the middle.
    """
    by_case: dict[str, list[float]] = {}
    for score in (score for score in scores if score.region != POST_PROCESSED):
        by_case.setdefault(score.case, []).append(score.dice)
    ranked = sorted(((name, fmean(dice)) for name, dice in by_case.items()), key=lambda each: each[1])
    chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
    kept = {1: ("median",), 2: ("best", "worst")}.get(len(ranked), tuple(chosen))
    return {place: chosen[place] for place in kept}
