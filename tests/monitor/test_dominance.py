"""What is said of the modalities' dominance is right, costs one transfer, and is not said where it cannot be known."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gmd.monitor.dominance import NORM, WITH_ALL, WITH_MERGED, dominance_record
from gmd.monitor.dominance_verdict import LEAST, TIMES, dominance_text
from gmd.monitor.transfer import on_host
from gmd.subsets import Subset, all_subsets, subset_name
from gmd.surgery.gmd import GMD
from gmd.surgery.mean import MeanGradient
from gmd.surgery.report import Report

THREE = ("text", "audio", "vision")
SUBSETS = all_subsets(THREE)


def report_of(grads: Tensor, weights: Tensor | None = None, modality: dict | None = None) -> Report:
    """Of gradients [T, N], or [K, T, N] of K groups."""
    t = grads.shape[-2]
    weights = torch.full(grads.shape[:-1], 1 / t, dtype=torch.float64) if weights is None else weights
    return Report(torch.ones(t), grads @ grads.mT, weights, modality=modality or {})


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 1, 3]))
def test_the_record_is_what_the_gradients_themselves_say(seed: int, groups: int | None):
    """Norms, cosines and the projected share, by their definitions on the vectors; the record has only Gramians."""
    generator = torch.Generator().manual_seed(seed)
    shape = (7, 20) if groups is None else (groups, 7, 20)
    grads = torch.randn(shape, generator=generator, dtype=torch.float64)
    weights = torch.rand(shape[:-1], generator=generator, dtype=torch.float64)
    record = dominance_record(SUBSETS, THREE, report_of(grads, weights))

    parts, share = grads.view(-1, 7, 20), weights.view(-1, 7, 1)
    own, merged, mean = (
        parts.transpose(0, 1).flatten(1),
        (share * parts).sum(dim=1).flatten(),
        parts.mean(dim=1).flatten(),
    )
    assert record["norms"] == pytest.approx(dict(zip(map(subset_name, SUBSETS), own.norm(dim=1).tolist(), strict=True)))
    assert record["projected"] == pytest.approx(float((merged - mean).norm() / mean.norm()))
    for k, m in enumerate(THREE):
        assert record["modality"][NORM][m] == pytest.approx(float(own[k].norm()))
        assert record["modality"][WITH_ALL][m] == pytest.approx(float(F.cosine_similarity(own[k], own[-1], dim=0)))
        assert record["modality"][WITH_MERGED][m] == pytest.approx(float(F.cosine_similarity(own[k], merged, dim=0)))
        assert record["weights"][m] == pytest.approx(float(share[:, k].mean()))
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("granularity", ["model", "tensor"])
def test_the_record_of_a_step_agrees_with_the_gradient_that_the_step_follows(granularity: str):
    """All parameters are shared here, so that the merged gradient is the one in .grad."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    inputs, target = torch.randn(3, 32, 4), torch.randn(3, 32, 1)
    losses = [F.mse_loss(network(x), y) for x, y in zip(inputs, target, strict=True)]
    own = [torch.autograd.grad(loss, list(network.parameters()), retain_graph=True) for loss in losses]
    own = [torch.cat([g.flatten() for g in grads]) for grads in own]
    report = GMD(optimizer, granularity=granularity, generator=torch.Generator().manual_seed(0)).backward(losses)
    merged = torch.cat([p.grad.flatten() for p in network.parameters()])
    mean = torch.stack(own).mean(dim=0)
    assert (merged - mean).norm() > 0.01 * mean.norm(), "there is a conflict, and something to see"

    record = dominance_record([("text",), ("audio",), ("text", "audio")], ("text", "audio"), report)
    assert record["projected"] == pytest.approx(float((merged - mean).norm() / mean.norm()), rel=1e-3)
    for k, m in enumerate(("text", "audio")):
        cosine = float(F.cosine_similarity(own[k], merged, dim=0))
        assert record["modality"][WITH_MERGED][m] == pytest.approx(cosine, abs=1e-4)


def test_without_projection_the_projected_share_is_nothing():
    record = dominance_record(SUBSETS, THREE, report_of(torch.eye(7, dtype=torch.float64) + 1))
    assert record["projected"] == 0
    assert set(record["weights"].values()) == {1 / 7}


def test_a_gradient_of_zero_has_no_direction():
    """Nor does a mean of zero have a share that was changed; nothing is NaN."""
    record = dominance_record(SUBSETS, THREE, report_of(torch.zeros(7, 4, dtype=torch.float64)))
    assert record["projected"] == 0
    assert set(record["modality"][WITH_MERGED].values()) == {0.0}
    json.dumps(record, allow_nan=False)


def test_modalities_and_objectives_that_a_batch_lacks_are_left_out():
    """Nobody has audio, and nobody all three: text and vision have norms, and no cosine with an objective of all."""
    subsets = [("text",), ("vision",), ("text", "vision")]
    report = report_of(torch.eye(3, dtype=torch.float64), modality={"factor": torch.tensor([0.5, 2.0])})
    record = dominance_record(subsets, THREE, report)
    assert record["modality"][NORM] == {"text": 1.0, "vision": 1.0}
    assert WITH_ALL not in record["modality"]
    assert record["modality"]["factor"] == {"text": 0.5, "vision": 2.0}, "goes by the modalities of the batch"
    losses = {"text": 1.0, "vision": 1.0, "text+vision": 1.0}
    text = dominance_text([step_line(1, record, losses)], THREE)
    assert text.startswith("Whether a modality dominates cannot be told from training: no step had the losses of all")


@pytest.mark.parametrize(
    ("subsets", "name"), [(SUBSETS, "mean"), ([THREE], "text+audio+vision"), ([("audio",)], "audio")]
)
def test_a_method_with_one_gradient_has_its_norm_alone(subsets: list[Subset], name: str):
    weight = torch.randn(3, requires_grad=True)
    weight.grad = None
    report = MeanGradient(torch.optim.SGD([weight], lr=0.1)).backward([(weight**2).sum() for _ in subsets])
    record = dominance_record(subsets, THREE, report)
    norm = pytest.approx(2 * float(weight.detach().norm()), rel=1e-6)
    assert record["norms"] == {name: norm}
    assert record["weights"] is record["projected"] is None
    assert record["modality"] == ({NORM: {"audio": norm}} if name == "audio" else {})
    losses = dict.fromkeys(map(subset_name, subsets), 1.0)
    text = dominance_text([step_line(1, record, losses)], THREE)
    if len(subsets) == 1:
        assert "cannot be told" in text
        assert "--method gmd" in text
    else:
        assert text.startswith("No modality dominates")


def test_a_step_that_is_not_finite_has_no_record():
    grads = torch.eye(7, dtype=torch.float64)
    grads[2, 2] = math.inf
    assert dominance_record(SUBSETS, THREE, report_of(grads)) is None
    assert "no finite step" in dominance_text([step_line(1, None)], THREE)


class Transfers(TorchDispatchMode):
    """Counts the calls that wait for a device: copies to the host, and values read."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        to = (kwargs or {}).get("device")
        copied = "_to_copy" in str(func) and to is not None and to.type == "cpu"
        self.count += copied or "_local_scalar" in str(func)
        return func(*args, **(kwargs or {}))


def test_reading_a_report_is_one_transfer():
    """From a device that there need not be: the tensors are fake."""
    with FakeTensorMode():
        far = {"device": "cuda", "dtype": torch.float64}
        quantities = {"balance": torch.ones(3, **far), "metric": torch.ones(3, **far)}
        grams, weights = torch.ones(2, 7, 7, **far), torch.ones(2, 7, **far)
        report = Report(torch.ones(7, device="cuda"), grams, weights, modality=quantities)
        with Transfers() as transfers:
            near = on_host(report)
    assert transfers.count == 1
    tensors = [near.losses, near.grams, near.weights, *near.modality.values()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    assert [list(tensor.shape) for tensor in tensors] == [[7], [2, 7, 7], [2, 7], [3], [3]]


def test_a_report_on_the_host_says_the_same():
    grads = torch.randn(7, 9, dtype=torch.float64)
    report = report_of(grads, modality={"balance": torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)})
    near = on_host(report)
    assert torch.equal(near.cosines, report.cosines)
    assert torch.equal(near.conflicts, report.conflicts)
    assert near.losses.tolist() == report.losses.tolist()
    assert torch.equal(near.modality["balance"], report.modality["balance"])


def step_line(step: int, record: dict | None, losses: dict | None = None) -> dict:
    line = {"kind": "step", "epoch": 1, "step": step, "finite": record is not None}
    return json.loads(json.dumps(line | {"losses": losses or {}, "dominance": record}))


def lines_with(rises: dict[str, float], count: int = 8) -> list[dict]:
    """Steps in which the loss of all modalities is 1, and rises so without each of them."""
    modality = {name: dict.fromkeys(THREE, 0.5) for name in (NORM, WITH_ALL, WITH_MERGED)}
    record = {"norms": {}, "weights": {"text": 1.0}, "projected": 0.25, "modality": modality}
    losses = {subset_name(tuple(m for m in THREE if m != gone)): 1 + rise for gone, rise in rises.items()}
    return [step_line(step, record, losses | {subset_name(THREE): 1.0}) for step in range(1, count + 1)]


def test_the_text_names_who_dominates_since_when_and_by_what():
    lines = lines_with({"text": 0.4, "audio": 0.5, "vision": 0.1}, 6)
    late = [line | {"step": line["step"] + 6} for line in lines_with({"text": 0.9, "audio": 0.2, "vision": -0.1}, 2)]
    text = dominance_text([*lines, step_line(100, None), *late, {"kind": "epoch", "epoch": 1}], THREE)
    assert text.startswith("text dominates: without it the loss rises by 0.9.\n")
    assert "last quarter, steps 7 to 8: text 0.9, audio 0.2, vision -0.1" in text
    assert "first quarter, steps 1 to 2: text 0.4, audio 0.5, vision 0.1" in text
    assert "25 % of its norm" in text
    assert 3 <= len(text.splitlines()) <= 6


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_one_modality_at_most_dominates_and_by_the_margin(rises: list[float]):
    text = dominance_text(lines_with(dict(zip(THREE, rises, strict=True)), 4), THREE)
    top, *others = sorted(rises, reverse=True)
    lead = top - max(LEAST, *(TIMES * other for other in others))
    if abs(lead) > 1e-9:  # there rounding decides
        assert text.startswith("No modality dominates" if lead < 0 else f"{THREE[rises.index(top)]} dominates")


@pytest.mark.parametrize(("quantity", "best"), [("metric", "text"), ("score", "text"), ("loss", "audio")])
def test_methods_that_look_at_each_modality_alone_say_who_is_ahead(quantity: str, best: str):
    values = {"text": 0.8, "audio": 0.6}
    modality, losses = ({}, values) if quantity == "loss" else ({quantity: values}, {"text+audio": 1.0})
    record = {"norms": {"mean": 1.0}, "weights": None, "projected": None, "modality": modality}
    first, second, *_ = dominance_text([step_line(1, record, losses)], ("text", "audio")).splitlines()
    assert first == f"{best} is ahead: by itself it has the best {quantity}, mean over the last quarter: " + (
        "text 0.8, audio 0.6."
    )
    assert second.startswith("Whether a modality dominates cannot be told from training")


def test_one_modality_has_none_to_dominate():
    assert "One modality only, text" in dominance_text([], ("text",))


def test_what_a_method_reports_by_itself_is_told_without_a_gramian():
    record = {"norms": {"mean": 1.0}, "weights": None, "projected": None}
    lines = [step_line(1, record | {"modality": {"metric": {"text": 0.8, "audio": None}}})]
    lines += [step_line(2, record | {"modality": {"metric": {"text": 0.6}}})] * 3
    text = dominance_text(lines, THREE)
    assert "Metric, mean over the last quarter: text 0.6." in text.splitlines()


def train_lines(strengths: dict[str, float], method: type, steps: int = 160) -> list[dict]:
    """The lines of a small network trained on classes that each modality shows as strongly as it is given to."""
    torch.manual_seed(0)
    modalities, generator = tuple(strengths), torch.Generator().manual_seed(0)
    label = (torch.rand(512, generator=generator) < 0.5).float()
    inputs = {
        m: strength * (2 * label[:, None] - 1) * F.normalize(torch.randn(8, generator=generator), dim=0)
        + torch.randn(512, 8, generator=generator)
        for m, strength in strengths.items()
    }
    private = nn.ModuleDict({m: nn.Linear(8, 16) for m in modalities})
    shared, head = nn.Sequential(nn.ReLU(), nn.Linear(16, 16), nn.ReLU()), nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*private.parameters(), *shared.parameters(), *head.parameters()], lr=3e-3)
    surgeon, subsets, lines = method(optimizer), all_subsets(modalities), []
    for step in range(1, steps + 1):
        chosen = torch.randint(0, 512, (32,), generator=generator)
        outputs = {m: shared(private[m](inputs[m][chosen])) for m in modalities}
        fused = [sum(outputs[m] for m in subset) / len(subset) for subset in subsets]
        losses = [F.binary_cross_entropy_with_logits(head(x)[:, 0], label[chosen]) for x in fused]
        optimizer.zero_grad()
        report = surgeon.backward(losses, outputs=outputs)
        optimizer.step()
        values = dict(zip(map(subset_name, subsets), report.losses.tolist(), strict=True))
        lines.append(step_line(step, dominance_record(subsets, modalities, report), values))
    return lines


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("easy", ["first", "second", "third"])
def test_the_modality_that_is_easy_is_found_to_dominate_a_network_that_learns(easy: str):
    """At its start as at its end; the norms of the gradients would name another one at its end."""
    strengths = {m: 2.5 if m == easy else 0.4 for m in ("first", "second", "third")}
    lines = train_lines(strengths, GMD)
    text = dominance_text(lines, tuple(strengths))
    assert text.startswith(f"{easy} dominates")
    assert dominance_text(lines[:40], tuple(strengths)).startswith(f"{easy} dominates")
    norms = lines[-1]["dominance"]["modality"][NORM]
    assert max(norms, key=norms.get) != easy


@pytest.mark.usefixtures("one_thread")
def test_of_modalities_alike_none_dominates():
    text = dominance_text(train_lines({"left": 1.5, "right": 1.5}, GMD), ("left", "right"))
    assert text.startswith("No modality dominates")


@pytest.mark.usefixtures("one_thread")
def test_the_mean_of_losses_tells_as_much():
    text = dominance_text(train_lines({"left": 2.5, "right": 0.4}, MeanGradient), ("left", "right"))
    assert text.startswith("left dominates")
