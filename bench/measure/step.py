"""A whole training step on the U-Net, phase by phase: ours, exact and compressed, beside the published procedure.

Every way starts from one network, trained for a while on a few cases: the gradients of an untrained one are more
alike than they ever are again, and compression would look better than it is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import gmd_kernels as gk
from bench.measure import oracle
from bench.measure.blobs import MODALITIES, REGIONS, make_case
from bench.measure.memory import with_peak_memory
from bench.measure.peers import published
from bench.measure.published_unet import as_published
from bench.measure.timing import summary
from gmd.data.pairs import Pairs
from gmd.models.multimodal import run_modalities
from gmd.models.unet3d import UNet3d
from gmd.subsets import all_subsets
from gmd.surgery._passes import gradients_of
from gmd.surgery._paths import Basis, path_gradients
from gmd.training.objectives import subset_objectives

PHASES = ("forward", "backward", "surgery", "optimizer")
SEED = 0
TRAINED_STEPS, CASES = 40, 4  # before anything is measured, on so many cases
ENERGY = 1e-3  # that compression discards at most of an objective's gradient at an output


def region_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Returns the loss of gmd's segmentation task without MONAI: soft Dice and cross-entropy, both [1, R, X, Y, Z]."""
    chances, volume = logits.sigmoid(), (2, 3, 4)
    overlap = 2 * (chances * target).sum(volume) / (chances + target).sum(volume).clamp(min=1e-5)
    return 1 - overlap.mean() + binary_cross_entropy_with_logits(logits, target)


class Way(NamedTuple):
    """How a step is computed.

    Attributes:
        tolerance: of the merged gradient's relative distance, in norm, from the published way's, over the parameters
            that all modalities share. Two ways through a deep network in float32, a batch of four against four batches
            of one, round differently everywhere.
    """

    tolerance: float
    tol: float = 0.0
    bfloat16: bool = False


PUBLISHED = "published"
WAYS = {
    PUBLISHED: Way(0.0),
    "exact float32": Way(5e-3),
    "compressed float32": Way(0.1, tol=ENERGY**0.5),
    "exact bfloat16": Way(0.1),
    "compressed bfloat16": Way(0.2, tol=ENERGY**0.5),
}
for _name in list(WAYS):
    WAYS[_name] = WAYS[_name]._replace(bfloat16=_name.endswith("bfloat16"))


@dataclass
class Step:
    """A network with its optimizer, and one sample that has all modalities. Equal arguments make equal steps."""

    way: str
    width: float
    size: int
    device: str = "cpu"
    trained_steps: int = TRAINED_STEPS
    network: UNet3d = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self):
        sample = _case(self.size, seed=0)
        self.volumes, self.target = (tensor.to(self.device) for tensor in sample)  # [M, 1, X, Y, Z], [1, R, X, Y, Z]
        self.network = UNet3d(MODALITIES, REGIONS, self.width).to(self.device)
        self.network.load_state_dict(_trained(self.width, self.size, self.device, self.trained_steps))
        if self.way == PUBLISHED:
            as_published(self.network)
        else:
            self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # not in stubs
            self.volumes = self.volumes.to(memory_format=torch.channels_last_3d)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3)
        self.params = list(self.network.parameters())
        self.generator = torch.Generator().manual_seed(SEED)  # of the projection orders, one a step

    def run(self, watch: "Stopwatch") -> "StepResult":
        return (published_step if self.way == PUBLISHED else our_step)(self, watch)


class StepResult(NamedTuple):
    basis: Basis
    merged: Sequence[Tensor | None]  # [P]
    gram: Tensor  # [T, T]


@dataclass
class Stopwatch:
    """Milliseconds between one `lap` and the next; a GPU is waited for at each."""

    device: str = "cpu"
    laps: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        self._last = self._now()

    def lap(self, phase: str) -> None:
        now = self._now()
        self.laps[phase], self._last = 1e3 * (now - self._last), now

    def _now(self) -> float:
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize(self.device)
        return perf_counter()


def our_step(step: Step, watch: Stopwatch) -> StepResult:
    """Runs each modality forward and backward by itself, as `gmd.GMD.backward` does."""
    way = WAYS[step.way]
    pairs = Pairs(1, {m: [0] for m in MODALITIES}, {m: step.volumes[i : i + 1] for i, m in enumerate(MODALITIES)})
    device = torch.device(step.device).type
    with torch.autocast(device, torch.bfloat16) if way.bfloat16 else nullcontext():
        outputs = run_modalities(step.network, pairs)
    logits = {m: value.float() for m, value in outputs.values.items() if isinstance(value, Tensor)}
    losses = list(subset_objectives(Pairs(1, pairs.samples, {**logits}), step.target, region_loss).values())
    watch.lap("forward")
    basis = path_gradients(losses, list(logits.values()), step.params, way.tol)
    watch.lap("backward")
    surgery = gk.surgery(basis.rows, mixing=basis.mixing, shared=basis.shared, generator=step.generator)
    _finish(step, surgery.merged, watch)
    return StepResult(basis, surgery.merged, surgery.gram)


def published_step(step: Step, watch: Stopwatch) -> StepResult:
    """Runs all modalities as one batch; each subset's loss then masks the outputs of the absent modalities.

    So every backward pass goes through the paths of all modalities, and the private parameters of an absent modality
    get zeros instead of no gradient.
    """
    outputs = step.network(step.volumes, list(range(len(MODALITIES))))
    losses = [region_loss(_masked_mean(outputs, subset), step.target) for subset in all_subsets(MODALITIES)]
    watch.lap("forward")
    rows = gradients_of(losses, step.params)
    grads = [list(row) for row in rows]
    watch.lap("backward")
    merged = published(grads, gk.projection_order(len(losses), step.generator))
    _finish(step, merged, watch)
    return StepResult(Basis(rows), merged, oracle.exact_gram(grads))


def measure_step(
    width: float, size: int, rounds: int, on_round: Callable[[], object], device: str = "cpu"
) -> list[dict]:
    """Returns a row for each way and phase, "total" too; errors instead of times if the merged gradients differ."""
    found = rows_of_step(width, size, rounds, device)
    rows = next(found)
    for after_a_round in found:
        rows = after_a_round
        on_round()
    return rows


def rows_of_step(
    width: float, size: int, rounds: int, device: str = "cpu", trained_steps: int = TRAINED_STEPS
) -> Iterator[list[dict]]:
    """Yields all rows that there are, as they come: after the check one for each way, without times.

    Then, after each round, one for each way and phase, with the medians of the rounds so far. If the merged gradients
    of a way differ from the published one's, its row says so, and nothing is timed.
    """
    steps = {name: Step(name, width, size, device, trained_steps) for name in WAYS}
    checked = _check(steps)
    yield checked
    if any(row["error"] for row in checked):
        return
    laps: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, step in steps.items():
            watch = Stopwatch(device)
            step.run(watch)
            laps[name].append(watch.laps | {"total": sum(watch.laps.values())})
        yield _timed(checked, laps)


def _timed(rows: list[dict], laps: dict[str, list[dict[str, float]]]) -> list[dict]:
    """Returns each way's row of the check, once for each phase, with what its rounds so far have taken."""
    timed = [
        row | {"phase": phase} | summary([lap[phase] for lap in laps[row["contestant"]]])
        for row in rows
        for phase in (*PHASES, "total")
    ]
    return [row | _beside_published(row, timed) for row in timed]


def _beside_published(row: dict, rows: list[dict]) -> dict[str, float]:
    theirs = next(r for r in rows if r["contestant"] == PUBLISHED and r["phase"] == row["phase"])
    memory = {"memory_of_published": row["peak_extra_MB"] / theirs["peak_extra_MB"]} if row["peak_extra_MB"] else {}
    return {"times_faster": theirs["median_ms"] / row["median_ms"]} | memory


def _check(steps: dict[str, Step]) -> list[dict]:
    """Returns a row for each way's first step: memory, and the merged gradients' distance from the published ones."""
    results, memory = {}, {}
    for name, step in steps.items():
        results[name], memory[name] = _peak_memory(partial(step.run, Stopwatch(step.device)), step.device)
    theirs = results[PUBLISHED]
    rows = []
    for name, result in results.items():
        distance = shared_difference(steps[name].network, result.merged, theirs.merged)
        wrong = not distance <= WAYS[name].tolerance
        rows.append(
            {
                "case": f"{steps[name].size}³",
                "contestant": name,
                "width": steps[name].width,
                "size": steps[name].size,
                "T": len(theirs.gram),
                "N": sum(p.numel() for p in steps[name].params),
                "tensors": len(steps[name].params),
                "conflicts": oracle.conflict_rate(theirs.gram),
                # the published way goes through all modalities for every objective
                "passes": sum(result.basis.directions or [len(theirs.gram) * len(MODALITIES)]),
                "discarded": 0.0 if result.basis.discarded is None else float(result.basis.discarded.max()),
                "value_error": distance,
                "error": f"merged gradient differs by {distance:.1e}" if wrong else "",
                "peak_extra_MB": memory[name],
            }
        )
    return rows


def shared_difference(network: UNet3d, ours: Sequence[Tensor | None], theirs: Sequence[Tensor | None]) -> float:
    """Returns |ours - theirs| / |theirs| over the parameters that all modalities share: the convolutions.

    The norms' affines differ by design: the published way takes zeros for gradients, so it divides their sum by T.
    """
    differences, norms = [], []
    for (name, _), mine, other in zip(network.named_parameters(), ours, theirs, strict=True):
        if "norm" not in name:
            assert mine is not None
            assert other is not None
            differences.append((mine - other).norm())
            norms.append(other.norm())
    return float(torch.stack(differences).norm() / torch.stack(norms).norm())


@cache
def _case(size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Returns `make_case`'s case, made once as that takes long; all ways share it, so nobody may write to it."""
    return make_case(size, seed)


@cache
def _trained(width: float, size: int, device: str, steps: int) -> dict[str, Tensor]:
    """Returns parameters after some steps on the mean of all objectives, in float32."""
    torch.manual_seed(SEED)
    network = UNet3d(MODALITIES, REGIONS, width).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for turn in range(steps):
        volumes, target = (tensor.to(device) for tensor in _case(size, seed=turn % CASES))
        values = {m: network(volumes[i : i + 1], i) for i, m in enumerate(MODALITIES)}
        pairs = Pairs(1, {m: [0] for m in MODALITIES}, values)
        loss = torch.stack(list(subset_objectives(pairs, target, region_loss).values())).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.state_dict()


def _masked_mean(outputs: Tensor, subset: Sequence[str]) -> Tensor:
    """Returns [M, R, ...] -> [1, R, ...], mean over the modalities of `subset`: the others are multiplied with 0."""
    mask = outputs.new_tensor([m in subset for m in MODALITIES]).view(-1, 1, 1, 1, 1)
    return (outputs * mask).sum(dim=0, keepdim=True) / mask.sum()


def _finish(step: Step, merged: Sequence[Tensor | None], watch: Stopwatch) -> None:
    for param, gradient in zip(step.params, merged, strict=True):
        param.grad = gradient
    watch.lap("surgery")
    step.optimizer.step()
    watch.lap("optimizer")


def _peak_memory(call: Callable[[], StepResult], device: str) -> tuple[StepResult, float | None]:
    """Returns the result of one call, and the MB at its peak above the level before."""
    if torch.device(device).type != "cuda":
        result, megabytes = with_peak_memory(call)
        assert isinstance(result, StepResult)
        return result, megabytes
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = call()
    torch.cuda.synchronize(device)
    return result, (torch.cuda.max_memory_allocated(device) - before) / 1e6
