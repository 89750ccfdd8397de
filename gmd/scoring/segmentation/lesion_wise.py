"""Lesion-wise scores as the BraTS challenges measure them now: by their own packages, BraTS_evaluation and panoptica.

Lesions are the connected components of a region, those of prediction and truth are matched one to one by their Dice,
and the packages say what matched, missed and invented lesions count. Nothing of that is decided here: the packages
evaluate, and their own parser of results reads off the numbers that the challenges rank by. docs/metrics.md has the
rules. BraTS_evaluation is AGPL-3.0; both are imported only when these scores are asked for.
"""

import csv
import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from gmd.errors import UserError

if TYPE_CHECKING:
    from panoptica import Panoptica_Evaluator

# the packages' configurations differ in their regions alone; this one has one region, the voxels of value 1
CONFIGURATION, REGION = "MenRT", "gtv"
# metastases are ranked by lesions of 20 mm³ or more, with those that were missed or invented
OF_METASTASES = ("brats2023-met", "brats2025-met")
SMALLEST_METASTASIS, LEAST_DICE = 20.0, 0.1
PENALTY = 373.0  # mm, what the packages put in the place of an infinite HD95
# column -> what the packages' parser calls it, before the name of the region
COLUMNS = {
    "lesion_dice": "lesionwise_dsc_mean",
    "lesion_hd95": "lesionwise_hd95_mean",
    "lesion_nsd": "lesionwise_nsd_mean",
    "lesion_f1": "all_instance_f1",
    "lesion_tp": "all_instance_tp",
    "lesion_fp": "all_instance_fp",
    "lesion_fn": "all_instance_fn",
}


def lesion_scores(
    predicted: Tensor, target: Tensor, spacing: Sequence[float], scheme: str
) -> list[dict[str, float | None]]:
    """Returns the numbers of COLUMNS for each region; None for one that is not defined, as without any lesion.

    Args:
        predicted, target: bool or uint8 (0, 1) [R, X, Y, Z], on any device.
        spacing: size of a voxel along X, Y and Z in mm.
        scheme: name of the label scheme; those of metastases are read off by a rule of their own.

    Raises ImportError if the packages are not installed, UserError if they are of a version that is not known.
    """
    pairs = zip(predicted.cpu().numpy(), target.cpu().numpy(), strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of means of nothing, which are NaN and meant to be
        results = {str(place): _evaluated(*pair, spacing) for place, pair in enumerate(pairs)}
        row = _read_off(results, scheme in OF_METASTASES)
    return [{column: _number(row[f"{theirs}_{place}"]) for column, theirs in COLUMNS.items()} for place in results]


def _evaluated(predicted: np.ndarray, target: np.ndarray, spacing: Sequence[float]) -> dict[str, object]:
    """Returns what the packages say of one region, masks [X, Y, Z], as a dictionary that their parser reads."""
    pair = [mask.astype(np.uint8) for mask in (predicted, target)]
    return _evaluator().evaluate(*pair, voxelspacing=tuple(map(float, spacing)))[REGION].to_dict(True)


@cache
def _evaluator() -> "Panoptica_Evaluator":
    """Returns the packages' evaluator, but for the scores of whole masks, which take most of the time and are at hand.

    Raises UserError if their configuration does not say where it has these.
    """
    from brats_evaluation import config_path
    from panoptica import Panoptica_Evaluator
    from panoptica.utils.citation_reminder import disable_citation_reminder

    disable_citation_reminder()  # the results and docs/metrics.md say whose scores they are
    text = Path(config_path(CONFIGURATION)).read_text(encoding="utf-8")
    text, replaced = re.subn(r"^global_metrics: .*$", "global_metrics: []", text, flags=re.MULTILINE)
    if replaced != 1:
        raise _other_version(f"its configuration {CONFIGURATION} has no line global_metrics")
    with TemporaryDirectory() as folder:
        changed = Path(folder, "configuration.yaml")
        changed.write_text(text, encoding="utf-8")
        return Panoptica_Evaluator.load_from_config(str(changed))


def _read_off(results: Mapping[str, object], metastases: bool) -> dict[str, str]:
    """Returns what the packages' parser makes of the results of one prediction: its columns -> text.

    results: a region's place -> what the packages say of it
    Raises UserError if it does not have the numbers that are wanted.
    """
    from brats_evaluation import parse_mets_results, parse_seg_results

    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # it takes files, and prints what it does
        source, parsed = Path(folder, "results.json"), Path(folder, "parsed.csv")
        source.write_text(
            json.dumps({"metrics": [{"subject_name": "case", **results}]}, default=float), encoding="utf-8"
        )
        if metastases:
            parse_mets_results(str(source), SMALLEST_METASTASIS, LEAST_DICE, str(parsed))
        else:
            parse_seg_results(str(source), str(parsed))
        with open(parsed, newline="", encoding="utf-8") as file:
            row = next(csv.DictReader(file))  # below are means over the cases
    if lacking := {f"{theirs}_{place}" for theirs in COLUMNS.values() for place in results} - row.keys():
        raise _other_version(f"its parser gives no {min(lacking)}")
    return row


def _other_version(what: str) -> UserError:
    return UserError(f"BraTS_evaluation is not as 0.0.10: {what}; get that one: pip install BraTS-evaluation==0.0.10")


def _number(text: str) -> float | None:
    """Returns the number in a cell of the parser's table."""
    if text == "":
        return None
    return PENALTY if np.isinf(float(text)) else float(text)
