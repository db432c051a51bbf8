"""Confusion matrices, with one panel per method of an experiment. Imports matplotlib, and no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spikedistill.report.plots.panels import Panel
from spikedistill.report.plots.pictures import class_names
from spikedistill.report.plots.style import COLUMN_IN, HEAT, wrapped
from spikedistill.report.records import Group, RunRecord, group_records, mean_confusion

MAX_NUMBERS = 11  # with more classes, the numbers do not fit into the cells
MAX_NAMES = 24  # with more classes, their names are left out
MAX_MATRICES = 24
"""For the figure of a large sweep; a line in the last panel says that there are more."""
DARK = 60.0
"""Cells below this percentage are dark, and their numbers white."""


def confusion_matrices(records: Sequence[RunRecord]) -> list[Panel]:
    """Plot the share of each true class (rows) that is predicted as each class, with one panel per method, over all its seeds."""
    found = [(group, matrix) for group in group_records(records) if (matrix := mean_confusion(group)) is not None]
    panels = [_panel(group, matrix) for group, matrix in found[:MAX_MATRICES]]
    if len(found) > MAX_MATRICES:
        panels[-1].figure.supxlabel(f"The first {MAX_MATRICES} of {len(found)} methods")
    return panels


def _panel(group: Group, matrix: npt.NDArray[np.float64]) -> Panel:
    subject = f"{group.experiment}, {group.method}"
    figure = Figure(figsize=(COLUMN_IN, 2.7))
    axes = figure.subplots()
    image = axes.imshow(100 * matrix, cmap=HEAT, vmin=0, vmax=100, interpolation="nearest")
    axes.set(title=wrapped(subject), xlabel="Predicted class", ylabel="True class")
    axes.grid(visible=False)
    _name_classes(axes, class_names(next(run for run in group.runs if run.evaluation is not None)))
    _write_numbers(axes, 100 * matrix)
    figure.colorbar(image, label="Share of the true class (%)")
    return Panel(subject, figure)


def _name_classes(axes: Axes, names: Sequence[str]) -> None:
    if len(names) <= MAX_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(names)), names)


def _write_numbers(axes: Axes, percent: npt.NDArray[np.float64]) -> None:
    """Write into each cell its percentage, rounded; cells below half a percent stay empty."""
    if len(percent) > MAX_NUMBERS:
        return
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.5:
            colour = "white" if value < DARK else "black"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, in_layout=False)
