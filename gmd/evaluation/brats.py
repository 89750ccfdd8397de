"""Hard Dice of every subset of the modalities, from one network pass per modality and case.

A subset's prediction is where the mean of its modalities' logits is above 0 (probability above 0.5). Dice is
3-D, per case and region, as in BraTS: 1 if truth and prediction are both empty, 0 if only one of them is.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch
from monai.inferers import sliding_window_inference
from monai.metrics import compute_dice
from monai.transforms.utils import generate_spatial_bounding_box
from torch import Tensor, nn
from tqdm import tqdm

from gmd.checkpoint import load_run, read_splits
from gmd.config import TrainBrats
from gmd.data.cases import Case, find_cases, parse_patterns
from gmd.data.labels import SCHEMES, LabelScheme
from gmd.data.splits import patient_of, split_cases
from gmd.data.volumes import load_case
from gmd.errors import UserError
from gmd.evaluation.tables import Row, Score, cases_csv, subset_table, table_csv, table_markdown
from gmd.files import replacing
from gmd.precision import Precision, autocast, slowness
from gmd.subsets import Subset, all_subsets

Patch = int | Sequence[int]


@torch.no_grad()
def predict_modalities(
    network: nn.Module, volumes: dict[str, Tensor], patch: Patch, precision: Precision = "fp32"
) -> dict[str, Tensor]:
    """Each modality's logits over the whole volume, without gradients.

    Args:
        network: such as UNet3d; put into eval mode meanwhile.
        volumes: the modalities that are present -> float tensor [1, X, Y, Z], 0 outside the brain.
        patch: size of the windows in voxels, multiples of `network.stride`. Windows overlap by a quarter and
            are blended; a brain smaller than the patch is padded with 0.
        precision: what the network computes in; its logits are float32 before they are blended.

    returns modality -> float tensor [R, X, Y, Z], on the network's device, -inf outside the brain's bounding
    box. Each modality goes through the network once.
    """
    device = next(network.parameters()).device
    # a GPU takes as many windows at once as there are modalities; a CPU gains nothing by that (measured, windows of 32
    # to 96), and holds less if they come one after the other
    together = len(volumes) if device.type == "cuda" else 1
    box = _brain_box(volumes)
    present = list(volumes)
    was_training = network.training
    network.eval()
    outputs = {}
    try:
        for first in range(0, len(present), together):
            group = present[first : first + together]
            brains = torch.stack([volumes[modality][box] for modality in group]).to(device)
            logits = _predict_brains(network, brains, group, patch, precision)
            for modality, brain in zip(group, logits, strict=True):
                outputs[modality] = brain.new_full((len(brain), *volumes[modality].shape[1:]), -torch.inf)
                outputs[modality][box] = brain
    finally:
        network.train(was_training)
    return outputs


def _predict_brains(
    network: nn.Module, brains: Tensor, group: Sequence[str], patch: Patch, precision: Precision
) -> Tensor:
    """n windows in each batch: brains [n, 1, X, Y, Z], one of each modality -> [n, R, X, Y, Z]"""
    indices = [network.modalities.index(modality) for modality in group]

    def predictor(windows: Tensor, places: Sequence[Sequence[slice]]) -> Tensor:
        modalities = [indices[place[0].start] for place in places]
        with autocast(precision, windows.device):
            logits = network(windows.to(memory_format=torch.channels_last_3d), modalities)
        return logits.float()

    return sliding_window_inference(
        brains, patch, len(group), predictor, overlap=0.25, mode="gaussian", with_coord=True
    )


def _brain_box(volumes: dict[str, Tensor]) -> tuple[slice, ...]:
    """As training crops: windows of nothing but background cost time, and the network has never seen any."""
    start, end = generate_spatial_bounding_box(torch.cat([*volumes.values()]), select_fn=lambda x: x != 0)
    sides = [slice(low, high) if high > low else slice(None) for low, high in zip(start, end, strict=True)]
    return (slice(None), *sides)


def predict_subsets(outputs: dict[str, Tensor]) -> Iterator[tuple[Subset, Tensor]]:
    """From the logits of each modality present, one by one: (subset of them, bool tensor [R, X, Y, Z])."""
    for subset in all_subsets(tuple(outputs)):
        yield subset, reduce(torch.add, [outputs[modality] for modality in subset]) > 0  # as their mean is


def present_volumes(network: nn.Module, case: dict) -> dict[str, Tensor]:
    """The volumes of a loaded case that the network knows, in the network's order."""
    return {modality: case[modality] for modality in network.modalities if modality in case}


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
