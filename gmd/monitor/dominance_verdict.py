"""Says in sentences which modality dominates, from the lines of metrics.jsonl.

A modality dominates if the network leans on it: if the loss of all modalities rises far more without it than without
any other. That is measured on the training losses of the subsets, which every method records that trains on subsets.

The gradients are told beside it, but do not decide. Neither their norms nor the cosine of a modality's own gradient
with that of the objective of all modalities tell which one is leant on. What has been learnt has small gradients, in
directions that chance gives, and a modality that tells nothing shares with the objective of all what is left to be
learnt. (On MOSI, where nearly all is told by text, the cosine is 0.3 for audio and -0.5 for text at the end.)
"""

from collections.abc import Iterable, Sequence
from statistics import fmean

from gmd.monitor.dominance import NORM, WITH_ALL, WITH_MERGED, rises
from gmd.subsets import subset_name

TIMES, LEAST = 2, 0.1  # what dominates is missed twice as much as any other, and by a tenth of the loss


def dominance_text(lines: Iterable[dict], modalities: Sequence[str]) -> str:
    """Returns sentences, one a line: which modality dominates, by how much, and when; or why that cannot be told.

    Args:
        lines: of metrics.jsonl, of all kinds.
        modalities: all that the network has.
    """
    if len(modalities) == 1:
        return f"One modality only, {modalities[0]}: there is none for it to dominate.\n"
    steps = [line for line in lines if line["kind"] == "step" and line["finite"]]
    compared = [step for step in steps if rises(step, modalities)]
    sentences = _on_losses(compared, modalities) if compared else _not_compared(steps, modalities)
    if told := [step for step in steps if step.get("dominance")]:  # which lines of earlier versions lack
        sentences += _on_gradients(_quarters(told)[1], modalities)
    return "\n".join(sentences) + "\n"


def _on_losses(steps: Sequence[dict], modalities: Sequence[str]) -> list[str]:
    """Returns the verdict and what it was measured on, from steps that have all of the compared losses."""
    first, last = _quarters(steps)
    loss = fmean(step["losses"][subset_name(tuple(modalities))] for step in last)
    missed, started = mean_rises(last, modalities), mean_rises(first, modalities)
    return [
        _verdict(missed, loss),
        f"Measured: by how much the loss of all modalities, {loss:.3g}, rises without each of them, mean over the last "
        f"quarter, {_span(last)}: {_listed(missed)}. To dominate is to be missed {TIMES} times as much as any other, "
        f"and by {100 * LEAST:.0f} % of that loss.",
        f"In the first quarter, {_span(first)}: {_listed(started)}.",
    ]


def _verdict(missed: dict[str, float], loss: float) -> str:
    """Returns the sentence on the modality that is missed most. `missed`: modality -> mean rise of the loss."""
    top = max(missed, key=lambda m: missed[m])
    if dominating(missed, loss):
        return f"{top} dominates: without it the loss rises by {missed[top]:.3g}."
    if missed[top] > 0:
        return f"No modality dominates: the loss rises most without {top}, by {missed[top]:.3g}."
    return "No modality dominates: the loss rises without none of them."


def dominating(missed: dict[str, float], loss: float) -> str | None:
    """Returns the modality that dominates, if one does.

    missed: modality -> how much the loss of all modalities rises without it; loss: that of all modalities
    """
    top, *others = sorted(missed, key=lambda m: missed[m], reverse=True)
    return top if missed[top] >= max(LEAST * loss, *(TIMES * missed[m] for m in others)) else None


def _not_compared(steps: Sequence[dict], modalities: Sequence[str]) -> list[str]:
    """Returns which modality is ahead by itself, if that is known, and why it cannot be told which one dominates."""
    ahead = _ahead(_quarters(steps)[1], modalities) if steps else []
    several = any(len(step["losses"]) > 1 for step in steps)
    if not steps:
        why = "no finite step was recorded"
    elif not ahead and several:
        why = "no step had the losses of all modalities and of all but one, as no sample of its batch has all of them"
    else:
        why = (
            "no step has losses of several subsets to compare; `gmd evaluate` shows what is lost without each "
            "modality, and `--method enumerate` or `--method gmd` compares while it trains"
        )
    return [*ahead, f"Whether a modality dominates cannot be told from training: {why}."]


def _ahead(steps: Sequence[dict], modalities: Sequence[str]) -> list[str]:
    """Returns a sentence on the modality that predicts best by itself; none of methods that do not look at that."""
    name, means = _by_itself(steps, modalities)
    if len(means) < 2:
        return []
    best, second = sorted(means, key=lambda m: means[m], reverse=name != "loss")[:2]
    if abs(means[best] - means[second]) < LEAST * max(abs(means[best]), abs(means[second])):
        return [f"No modality is ahead by itself: {name}, mean over the last quarter: {_listed(means)}."]
    return [f"{best} is ahead: by itself it has the best {name}, mean over the last quarter: {_listed(means)}."]


def _by_itself(steps: Sequence[dict], modalities: Sequence[str]) -> tuple[str, dict[str, float]]:
    """Returns how well each modality predicts alone: the name of the measure, and modality -> mean over the steps.

    The measure is cggm's metric, or ogm-ge's score, or else the modality's loss of methods that have no loss of
    several modalities together, as mla; of these the first that several modalities have.
    """
    for name in ("metric", "score"):
        means = mean_of_modality(steps, name, modalities)
        if len(means) > 1:
            return name, means
    if any("+" in name for step in steps for name in step["losses"]):
        return "loss", {}
    losses = {m: [step["losses"][m] for step in steps if m in step["losses"]] for m in modalities}
    return "loss", {m: fmean(values) for m, values in losses.items() if values}


def _on_gradients(steps: Sequence[dict], modalities: Sequence[str]) -> list[str]:
    """Returns what the gradients tell: those of several objectives, if there were any, and what the method reports."""
    sentences = []
    projected = [step["dominance"]["projected"] for step in steps if step["dominance"]["projected"] is not None]
    if projected:
        with_all = mean_of_modality(steps, WITH_ALL, modalities)
        told = f" with that of all {_listed(with_all)};" if with_all else ""
        sentences.append(
            f"Gradients of each modality's own objective: norms {_listed(mean_of_modality(steps, NORM, modalities))}; "
            f"cosines{told} with the merged gradient {_listed(mean_of_modality(steps, WITH_MERGED, modalities))}. "
            f"The surgery changed the mean gradient by {100 * fmean(projected):.0f} % of its norm."
        )
    names = dict.fromkeys(name for step in steps for name in step["dominance"]["modality"])
    told_above = (NORM, WITH_ALL, WITH_MERGED) if projected else ()
    sentences += [
        f"{name.capitalize()}, mean over the last quarter: {_listed(mean_of_modality(steps, name, modalities))}."
        for name in names
        if name not in told_above
    ]
    return sentences


def mean_rises(steps: Sequence[dict], modalities: Sequence[str]) -> dict[str, float]:
    """Returns modality -> mean rise of the loss without it, over steps that have all of the compared losses."""
    each = [rises(step, modalities) for step in steps]
    return {m: fmean(risen[m] for risen in each) for m in modalities}


def mean_of_modality(steps: Sequence[dict], quantity: str, modalities: Sequence[str]) -> dict[str, float]:
    """Returns modality -> mean over the steps that have the quantity, without modalities of which no step has it."""
    told = [step["dominance"]["modality"] for step in steps if step.get("dominance")]  # lacking in earlier versions
    values = {m: [quantities.get(quantity, {}).get(m) for quantities in told] for m in modalities}
    # NaN was written as null
    there = {m: [value for value in column if value is not None] for m, column in values.items()}
    return {m: fmean(column) for m, column in there.items() if column}


def _quarters(steps: Sequence[dict]) -> tuple[Sequence[dict], Sequence[dict]]:
    """Returns the first and the last quarter of the steps, one step each at least."""
    quarter = max(1, len(steps) // 4)
    return steps[:quarter], last_quarter(steps)


def last_quarter(steps: Sequence[dict]) -> Sequence[dict]:
    """Returns the last quarter of the steps, one step at least if there is one."""
    return steps[-max(1, len(steps) // 4) :]


def _span(steps: Sequence[dict]) -> str:
    return f"steps {steps[0]['step']} to {steps[-1]['step']}"


def _listed(means: dict[str, float]) -> str:
    return ", ".join(f"{m} {value:.3g}" for m, value in means.items())
