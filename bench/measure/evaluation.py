"""Evaluation of a case with all 15 subsets of its modalities: ours, a pass for each modality, and the published way."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from bench.measure.memory import with_peak_memory
from bench.measure.published_unet import as_published
from bench.measure.timing import seconds, summary
from gmd.data.segmentation.label_map import paint
from gmd.data.segmentation.labels import SCHEMES
from gmd.models.unet3d import Head, UNet3d
from gmd.scoring.segmentation.prediction import predict_modalities, predict_subsets
from gmd.subsets import Subset, all_subsets

MODALITIES = ("flair", "t1", "t1ce", "t2")
SCHEME = SCHEMES["brats2018"]
SEED = 0
NEAR_ZERO = 1e-3  # a logit so small may be rounded to either side

LabelMaps = Iterator[tuple[Subset, Tensor]]  # (subset, uint8 [X, Y, Z]), one by one
Logits = Iterator[tuple[Subset, Tensor]]  # (subset, float32 [R, X, Y, Z]), one by one


@dataclass
class Case:
    """A case of one window, and the network in the memory format of either way. Equal arguments make equal cases."""

    width: float
    size: int
    network: UNet3d = field(init=False)
    published: UNet3d = field(init=False)
    volumes: dict[str, Tensor] = field(init=False)  # modality -> [1, size, size, size]

    def __post_init__(self):
        torch.manual_seed(SEED)
        network = UNet3d(MODALITIES, tuple(SCHEME.regions), self.width).eval()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if ".norm" in name:  # untrained, all modalities are treated alike
                    parameter.add_(0.3 * torch.randn_like(parameter))
            assert isinstance(network.head, Head)
            assert network.head.bias is not None
            network.head.bias.zero_()  # and nothing is tumour
        self.published = as_published(deepcopy(network))
        self.network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # not in stubs
        self.volumes = {m: torch.randn(1, *[self.size] * 3) for m in MODALITIES}


def our_evaluation(case: Case) -> LabelMaps:
    """Runs every modality through the network once, and yields each subset's label map from a mean of the logits."""
    yield from predict_subsets(predict_modalities(case.network, case.volumes, case.size), SCHEME)


def published_evaluation(case: Case) -> LabelMaps:
    """Runs every modality through the network once for each subset, and yields each subset's label map."""
    for subset, logits in published_logits(case):
        yield subset, paint(logits > 0, SCHEME)


@torch.no_grad()
def published_logits(case: Case) -> Logits:
    """Runs all modalities as one batch for each subset, and yields the logits with absent modalities masked out."""
    volumes = torch.stack([*case.volumes.values()])
    for subset in all_subsets(MODALITIES):
        outputs = case.published(volumes, list(range(len(MODALITIES))))
        yield subset, outputs[[m in subset for m in MODALITIES]].mean(dim=0)


OURS, PUBLISHED = "ours", "published"
WAYS = {OURS: our_evaluation, PUBLISHED: published_evaluation}
PASSES = {OURS: 4, PUBLISHED: 60}


def measure_evaluation(width: float, size: int, rounds: int, on_round: Callable[[], object]) -> list[dict]:
    """Returns a row for each way; errors instead of times if the label maps differ."""
    case = Case(width, size)
    distance = label_difference(our_evaluation(case), published_logits(case))
    wrong = not distance <= NEAR_ZERO  # NaN is wrong too
    shared = {
        "case": f"{size}³",
        "width": width,
        "size": size,
        "subsets": len(all_subsets(MODALITIES)),
        "value_error": distance,
        "error": f"label maps differ where no logit is nearer to 0 than {distance:.1e}" if wrong else "",
    }
    if wrong:
        return [shared | {"contestant": name, "passes": passes} for name, passes in PASSES.items()]
    memory = {name: with_peak_memory(partial(_consume, way, case))[1] for name, way in WAYS.items()}
    times = _interleaved(case, rounds, on_round)
    slowest = times[PUBLISHED]["median_ms"]
    return [
        shared
        | {"contestant": name, "passes": passes, **times[name]}
        | {"times_faster": slowest / times[name]["median_ms"], "peak_extra_MB": memory[name]}
        for name, passes in PASSES.items()
    ]


def _interleaved(case: Case, rounds: int, on_round: Callable[[], object]) -> dict[str, dict[str, float]]:
    """Returns the times of both ways, which take turns: drift of the machine hits both alike."""
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            times[name].append(1e3 * seconds(partial(_consume, way, case)))
        on_round()
    return {name: summary(taken) for name, taken in times.items()}


def label_difference(label_maps: LabelMaps, logits: Logits) -> float:
    """Returns how far from 0 the logits of a voxel are whose label is not what they say; 0 if there is none.

    Of a voxel the |logit| nearest to 0 counts, of all voxels the largest.
    """
    largest = 0.0
    for (subset, labels), (same, expected) in zip(label_maps, logits, strict=True):
        if subset != same:
            raise ValueError(f"subsets in another order: {subset} beside {same}")
        if not expected.isfinite().all():
            return float("inf")
        wrong = expected[:, labels != paint(expected > 0, SCHEME)].abs()
        largest = max(largest, float(wrong.amin(dim=0).max()) if wrong.numel() else 0.0)
    return largest


def _consume(way: Callable[[Case], LabelMaps], case: Case) -> None:
    """Takes the label maps as a score would: one at a time is held."""
    for _, labels in way(case):
        labels.sum()
