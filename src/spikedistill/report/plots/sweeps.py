"""Accuracy against a swept number, with one panel per experiment. Imports matplotlib, and no torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

from spikedistill.report.plots.panels import Panel, plot
from spikedistill.report.plots.style import Style, method_styles
from spikedistill.report.records import Group, RunRecord, accuracies, group_records
from spikedistill.report.sections.swept import SweptNumber, swept_numbers
from spikedistill.report.statistics import half_width

LOGARITHMIC_FROM = 10
"""Ratio of the largest to the smallest number from which the axis is logarithmic."""


def accuracy_over_sweep(records: Sequence[RunRecord]) -> list[Panel]:
    """Plot the test accuracy against a swept number: mean over seeds and the 95 % confidence interval of Student's t."""
    groups = group_records(records)
    styles = method_styles(groups)
    found = []
    for sweep in swept_numbers(records):
        figure = plot(
            sweep.experiment,
            sweep.key,
            "Test accuracy (%)",
            partial(_draw, sweep=sweep, groups=groups, styles=styles),
        )
        if figure is not None:
            found.append(Panel(sweep.experiment, figure))
    return found


def _draw(axes: Axes, sweep: SweptNumber, groups: Sequence[Group], styles: dict[str, Style]) -> None:
    own = [group for group in groups if group.experiment in sweep.variants]
    for method in dict.fromkeys(group.method for group in own):
        points = {sweep.variants[g.experiment]: list(accuracies(g).values()) for g in own if g.method == method}
        _line(axes, method, points, styles[method])
    _scale(axes, list(sweep.variants.values()))


def _line(axes: Axes, method: str, points: dict[float, list[float]], style: Style) -> None:
    """Draw the line of a method.

    Args:
        axes: the panel.
        method: its label.
        points: swept number -> accuracies of the runs, in [0, 1].
        style: colour and marker.
    """
    measured = {number: values for number, values in sorted(points.items()) if values}
    if measured:
        means = np.array([100 * statistics.fmean(values) for values in measured.values()])
        bars = np.array([100 * (half_width(values) or 0.0) for values in measured.values()])
        axes.errorbar(np.array(list(measured)), means, bars, label=method, **style)


def _scale(axes: Axes, numbers: Sequence[float]) -> None:
    """Put a tick at each number, on a logarithmic axis if they are far apart."""
    if min(numbers) > 0 and max(numbers) >= LOGARITHMIC_FROM * min(numbers):
        axes.set_xscale("log")
    axes.set_xticks(list(numbers), [f"{number:g}" for number in numbers])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
