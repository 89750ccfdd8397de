"""The curves of a report: how the training went, and which modality the network leans on."""

import numpy as np

from gmd.monitor.dominance import NORM, RISE, TITLES, WITH_ALL, WITH_MERGED
from gmd.monitor.dominance_verdict import LEAST, TIMES
from gmd.report.downsampling import DownsampledSeries
from gmd.report.history import POINTS, History, Key
from gmd.report.svg_plot import Line, Plot, Style, make_plot, modality_style

SMOOTH = 80  # points of a line where many cross, or where what one step says is noise
INK = "var(--ink)"
MEAN = Style(INK, weight="strong")


def training_plots(history: History, score: str) -> list[Plot]:
    """Returns plots of loss, validation, conflicts and learning rate, as far as there are any.

    score: what the validation's score is called
    """
    rate = Line(*history.series(("lr",)), MEAN) if ("lr",) in history.columns else None
    plots = [
        _losses(history),
        _validation(history, score),
        _conflicts(history),
        rate and make_plot("Learning rate", [rate], bottom=0),
    ]
    return [plot for plot in plots if plot]


def dominance_plots(history: History) -> list[Plot]:
    """Returns a plot for each quantity, with a line for each modality; then one of how much the surgery changed."""
    quantities = dict.fromkeys(key[1] for key in history.keys("modality"))
    plots = [_quantity(history, quantity) for quantity in quantities]
    if ("projected",) in history.columns:
        steps, changed = history.series(("projected",), SMOOTH)
        title = "How much of the mean gradient the surgery changed"
        plots.append(make_plot(title, [Line(steps, 100 * changed, MEAN)], unit="% of its norm", bottom=0))
    return [plot for plot in plots if plot]


def _losses(history: History) -> Plot | None:
    """Returns the plot of the training losses: each objective's and their mean, or that of the only objective."""
    keys = history.keys("losses")
    if not keys:
        return None
    mean = Line(*history.series(("loss",), SMOOTH), MEAN, "mean", "mean of all objectives")
    if len(keys) == 1:
        each = Line(*history.series(("loss",)), Style(INK, weight="faint"), title="unsmoothed")
        return make_plot(f"Training loss of {keys[0][1]}", [each, mean], legend=[], bottom=0)
    lines = [_loss(history, key) for key in keys]
    alone = all("+" not in name for _, name in keys)
    lines.sort(key=lambda line: line.label)
    many = "each objective is the loss on one subset of the modalities" * (not alone)
    return make_plot("Training loss of each objective", [*lines, mean], note=many, bottom=0)


def _loss(history: History, key: Key) -> Line:
    """Returns the line of one objective. key: its curve

    If every objective is of one modality, each has the colour of its modality; otherwise the objectives of as many
    modalities look alike, as there can be 63 of them.
    """
    name = key[1]
    size, most = name.count("+") + 1, len(history.modalities)
    if all("+" not in other for _, other in history.keys("losses")):
        return Line(*history.series(key, SMOOTH), modality_style(history.modalities.index(name)), name, name)
    share = round(100 * (size - 1) / max(1, most - 1))
    colour = f"color-mix(in oklab, var(--many) {share}%, var(--few))"
    label = "1 modality" if size == 1 else f"{size} modalities" if size < most else f"all {most}"
    return Line(*history.series(key, SMOOTH), Style(colour), label, name)


def _validation(history: History, score: str) -> Plot | None:
    """Returns the plot of the score that chooses the best epoch; for segmentation also of the regions it averages."""
    parts = list(dict.fromkeys(name for epoch in history.epochs for name in epoch.metrics))
    parts = [] if score in parts else parts
    lines = [
        validation_line(history, name)._replace(style=modality_style(number), label=name, title=name)
        for number, name in enumerate(parts)
    ]
    mean = validation_line(history)._replace(label="mean" if parts else score, title=score)
    return make_plot(f"Validation: {score}", [*lines, mean], legend=None if parts else [])


def validation_line(history: History, metric: str | None = None) -> Line:
    """Returns the line of the score, or of a metric beside it, at the last step of each epoch that has a score."""
    series = DownsampledSeries(POINTS)
    for epoch in history.epochs:
        if epoch.validation is not None:
            value = epoch.validation if metric is None else epoch.metrics.get(metric)
            series.add(epoch.step, np.array([value], dtype=float))
    steps, table = series.table()
    return Line(steps, table[:, :1].ravel(), MEAN)


def _conflicts(history: History) -> Plot | None:
    """Returns the plot of the share of pairs in conflict; None if no step had several gradients to compare."""
    if not history.objectives:
        return None
    steps, share = history.series(("conflicts",), SMOOTH)
    raw = Line(*history.series(("conflicts",)), Style(INK, weight="faint"))
    lines = [raw._replace(y=100 * raw.y), Line(steps, 100 * share, MEAN)]
    title = "Conflicts: pairs of objectives whose gradients have a negative inner product"
    return make_plot(title, lines, unit="% of pairs", bottom=0)


def _quantity(history: History, quantity: str) -> Plot | None:
    """Returns the plot of one quantity, with a line for each modality; for norms also one of all objectives."""
    lines = []
    if quantity == NORM:
        grey = Style("var(--quiet)")
        lines = [Line(*history.series(key, SMOOTH), grey, key[1], key[1]) for key in history.keys(NORM)]
    for number, modality in enumerate(history.modalities):
        key = ("modality", quantity, modality)
        if key in history.columns:
            lines.append(Line(*history.series(key, SMOOTH), modality_style(number), modality, modality))
    bottom = 0 if quantity in (NORM, "gradient norm") else None
    unit = "cosine" if quantity in (WITH_ALL, WITH_MERGED) else ""
    rule = f"To dominate is to be missed {TIMES} times as much as any other, and by {100 * LEAST:.0f} % of the loss."
    note = rule if quantity == RISE else ""
    return make_plot(TITLES.get(quantity, quantity.capitalize()), lines, unit, note, bottom=bottom)
