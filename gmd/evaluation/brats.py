"""Scores of every subset of the modalities on labelled cases.

Hard Dice is 3-D, per case and region, as in BraTS: 1 if truth and prediction are both empty, 0 if only one of them is.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Literal

from monai.metrics import compute_dice
from torch import Tensor, nn
from tqdm import tqdm

from gmd.checkpoint import load_run, read_splits
from gmd.config import TrainBrats
from gmd.data.cases import Case, find_cases, parse_patterns
from gmd.data.labels import SCHEMES, LabelScheme
from gmd.data.splits import patient_of, split_cases
from gmd.data.volumes import load_case
from gmd.errors import UserError
from gmd.evaluation.segmentation import Patch, predict_modalities, predict_subsets, present_volumes
from gmd.evaluation.tables import Row, Score, cases_csv, subset_table, table_csv, table_markdown
from gmd.files import replacing
from gmd.precision import Precision, slowness


def score_case(network: nn.Module, case: dict, outputs: dict[str, Tensor]) -> list[Score]:
    """Dice of each subset of `outputs` and each region, against `case["target"]` (uint8 [R, X, Y, Z])."""
    scores = []
    for subset, predicted in predict_subsets(outputs):
        target = case["target"].to(predicted.device)
        dice = compute_dice(predicted[None], target[None], ignore_empty=False)[0].tolist()
        scores += [Score(case["name"], subset, *pair) for pair in zip(network.regions, dice, strict=True)]
    return scores


def evaluate_cases(
    network: nn.Module, cases: Iterable[dict], patch: Patch, precision: Precision = "fp32"
) -> list[Score]:
    """Scores of every case, for each region and each subset of the modalities that the case has.

    cases: dictionaries of `load_case`, with targets
    """
    scores = []
    for case in cases:
        outputs = predict_modalities(network, present_volumes(network, case), patch, precision)
        scores += score_case(network, case, outputs)
    return scores


def evaluate_run(
    run: Path,
    data: Path | None = None,
    which: Literal["best", "last"] = "best",
    precision: Precision | None = None,
) -> list[Row]:
    """Scores a trained run, prints the table, and writes `table.md`, `table.csv`, `cases.csv` and `case.png`.

    Args:
        run: its folder; results go to its `evaluation/`, of other data to `evaluation/<name of data>/`.
        data: other labelled cases, those in its `test` if there is one; by default the run's test cases.
        which: the checkpoint.
        precision: what the network computes in; by default that of the training.

    Raises UserError: what `load_run` and `find_cases` raise, cases that training or model selection has seen.
    """
    run = Path(run)
    config, network = load_run(run, which)
    config = replace(config, precision=precision or config.precision)
    network.to(config.torch_device())
    if slow := slowness(config.precision, config.torch_device()):
        print(slow)
    cases, scheme = _own_test_cases(run, config) if data is None else _other_cases(run, config, Path(data))
    loaded = (load_case(case, scheme) for case in tqdm(cases, desc="evaluation", unit="case"))
    scores = evaluate_cases(network, loaded, config.patch, config.precision)

    out = run / "evaluation" / (Path(data).resolve().name if data else "")
    rows = subset_table(scores, config.modalities, network.regions)
    source = data or "the test split"
    count = f"{len(cases)} case{'s' * (len(cases) > 1)}"
    about = f"Hard Dice, mean over {count} of {source}; {which}.pt of {run.resolve().name}, {config.precision}."
    texts = {
        "table.md": f"{about}\n\n{table_markdown(rows, config.modalities, network.regions)}",
        "table.csv": table_csv(rows, config.modalities, network.regions),
        "cases.csv": cases_csv(scores),
    }
    written = [_write(out / name, text) for name, text in texts.items()]
    written.append(_draw_median_case(network, cases, scheme, scores, config, out / "case.png"))
    print(texts["table.md"], *written, sep="\n")
    return rows


def _own_test_cases(run: Path, config: TrainBrats) -> tuple[list[Case], LabelScheme]:
    wanted = {case["folder"] for case in read_splits(run)["test"]}
    splits = split_cases(config.data, config.modalities, parse_patterns(config.patterns) or None, config.seed)
    found = [*splits.train, *splits.validation, *splits.test]  # cases that have come or gone since change the split
    cases = [case for case in found if str(_folder(case)) in wanted]
    if lost := wanted - {str(_folder(case)) for case in cases}:
        raise UserError(f"{run}: {len(lost)} of its test cases are gone, as {min(lost)}; restore them, or give --data")
    return cases, SCHEMES[config.labels]


def _other_cases(run: Path, config: TrainBrats, data: Path) -> tuple[list[Case], LabelScheme]:
    data = data / "test" if (data / "test").is_dir() else data
    cases, scheme = find_cases(data, config.modalities, parse_patterns(config.patterns) or None)
    splits = read_splits(run)
    seen = [case for split in ("train", "validation") for case in splits[split]]
    folders = {case["folder"] for case in seen}
    patients = {patient_of(Case(case["name"], {})) for case in seen}
    known = [case.name for case in cases if str(_folder(case)) in folders or patient_of(case) in patients]
    if known:
        named = ", ".join(known[:5]) + ", ..." * (len(known) > 5)
        raise UserError(
            f"{data}: {len(known)} of its {len(cases)} cases have trained or selected this model ({named}); "
            "their scores would say nothing about new ones. Give unseen cases (rename those that only share "
            "a name), or leave --data out to score the run's test cases"
        )
    ours, theirs = SCHEMES[config.labels], SCHEMES[scheme or config.labels]
    # BraTS 2023 numbers the same regions otherwise than the years before
    return cases, theirs if theirs.regions.keys() == ours.regions.keys() else ours


def _folder(case: Case) -> Path:
    """As in `splits.json`."""
    return next(iter(case.images.values())).parent.resolve()


def _draw_median_case(
    network: nn.Module, cases: list[Case], scheme: LabelScheme, scores: list[Score], config: TrainBrats, path: Path
) -> Path:
    """Neither the best nor the worst: the case with the median of the mean Dice."""
    from gmd.pictures import draw_case  # training imports this module, and needs no matplotlib to start

    by_dice = sorted(cases, key=lambda case: fmean(score.dice for score in scores if score.case == case.name))
    case = load_case(by_dice[len(by_dice) // 2], scheme)
    outputs = predict_modalities(network, present_volumes(network, case), config.patch, config.precision)
    drawn = {subset: mask for subset, mask in predict_subsets(outputs) if len(subset) in (1, len(outputs))}
    return draw_case(case, drawn, scores, network.regions, path)


def _write(path: Path, text: str) -> Path:
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return path
