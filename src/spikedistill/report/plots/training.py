"""Training curves, with a panel of accuracies and one of losses for each experiment. Imports matplotlib, and no torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, MaxNLocator

from spikedistill.report.plots.panels import Panel, plot
from spikedistill.report.plots.style import Style, method_styles
from spikedistill.report.records import Group, RunRecord, by_experiment, group_records

LOSS = "train/loss"
ACCURACY = "train/accuracy(%)"
Y_NAMES = {ACCURACY: "Training accuracy (%)", LOSS: "Training loss (nats)\nof unlike terms by method"}


def training_curves(records: Sequence[RunRecord]) -> list[Panel]:
    """Plot training accuracy and loss against the epoch: mean over the runs, and a band from the lowest to the highest.

    The losses of different methods are sums of different terms, so their heights cannot be compared; the axis says so.
    """
    groups = group_records(records)
    styles = method_styles(groups)
    found = []
    for experiment, own in by_experiment(groups).items():
        for tag, y_name in Y_NAMES.items():
            figure = plot(experiment, "Epoch", y_name, partial(_draw, groups=own, styles=styles, tag=tag))
            if figure is not None:
                found.append(Panel(f"{experiment}, {'loss' if tag == LOSS else 'accuracy'}", figure))
    return found


def _draw(axes: Axes, groups: Sequence[Group], styles: dict[str, Style], tag: str) -> None:
    if tag == LOSS:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(LogFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter())
    for group in groups:
        epochs = _by_epoch(group, tag)
        if epochs:
            style = {key: value for key, value in styles[group.method].items() if key != "marker"}
            x = np.array(list(epochs))
            mean = np.array([statistics.fmean(values) for values in epochs.values()])
            axes.plot(x, mean, label=group.method, marker="." if len(x) == 1 else "", **style)
            if any(len(values) > 1 for values in epochs.values()):
                low, high = (np.array([pick(values) for values in epochs.values()]) for pick in (min, max))
                axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _by_epoch(group: Group, tag: str) -> dict[int, list[float]]:
    """Return the values of a tag of all runs by epoch, counted from 1, in the order of the epochs."""
    found: dict[int, list[float]] = {}
    for record in (record for run in group.runs for record in run.metrics):
        if tag in record and "epoch" in record:
            found.setdefault(record["epoch"] + 1, []).append(record[tag])
    return dict(sorted(found.items()))
