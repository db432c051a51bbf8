"""Sweeps by accuracy on the validation split: a heat map over two keys, parallel coordinates over more. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from spikedistill.report.plots.panels import Panel
from spikedistill.report.plots.style import COLUMN_IN, HEAT, wrapped
from spikedistill.report.records import RunRecord
from spikedistill.report.sections.grids import Grid, grids
from spikedistill.report.sections.ranking import rank_sweeps

QUANTITY = "Validation accuracy (%)"
MAX_NUMBERS = 9  # in more columns, the numbers do not fit into the cells
_ROW_IN, _MARGIN_IN = 0.2, 0.9


def validation_over_sweep(records: Sequence[RunRecord]) -> list[Panel]:
    """Draw each sweep over two keys or more; methods that are swept over one key are the rows of a heat map over it."""
    return [
        Panel(grid.subject, _heat_map(grid) if len(grid.axes) == 2 else _parallel_coordinates(grid))
        for grid in grids(rank_sweeps(records))
    ]


def _heat_map(grid: Grid) -> Figure:
    (row_key, rows), (column_key, columns) = grid.axes.items()
    percent = np.array([[100 * grid.accuracy.get((row, column), np.nan) for column in columns] for row in rows])
    figure = Figure(figsize=(COLUMN_IN, _MARGIN_IN + max(4, len(rows)) * _ROW_IN))
    axes = figure.subplots()
    image = axes.imshow(percent, cmap=HEAT, aspect="auto", interpolation="nearest")
    axes.set(title=wrapped(grid.subject), xlabel=column_key, ylabel=row_key)
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), columns, rotation=90 if sum(map(len, columns)) > 30 else 0)
    axes.set_yticks(range(len(rows)), rows)
    if len(columns) <= MAX_NUMBERS:
        _write_numbers(axes, percent)
    row, column = grid.best
    place = (columns.index(column) - 0.5, rows.index(row) - 0.5)
    axes.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor="#D55E00", linewidth=1.5, clip_on=False))
    figure.colorbar(image, label=QUANTITY)
    return figure


def _write_numbers(axes: Axes, percent: np.ndarray[Any, Any]) -> None:
    middle = (np.nanmin(percent) + np.nanmax(percent)) / 2
    for (row, column), value in np.ndenumerate(percent):
        if not np.isnan(value):
            colour = "white" if value < middle else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, in_layout=False)


def _parallel_coordinates(grid: Grid) -> Figure:
    """Draw a line for each combination: through its values, evenly spaced in their order, to its accuracy on the right."""
    accuracies = list(grid.accuracy.values())
    low, high = 100 * min(accuracies), 100 * max(accuracies)
    scale = ScalarMappable(Normalize(low, high), HEAT)
    figure = Figure(figsize=(COLUMN_IN, 2.6))
    axes = figure.subplots()
    for values, accuracy in sorted(grid.accuracy.items(), key=lambda item: item[1]):
        heights = [_height(value, of_key) for value, of_key in zip(values, grid.axes.values(), strict=True)]
        level = (100 * accuracy - low) / (high - low or 1.0)
        is_best = values == grid.best
        axes.plot(
            range(len(heights) + 1),
            [*heights, level],
            color=matplotlib.colormaps[HEAT](level),
            linewidth=2.2 if is_best else 0.7,
            alpha=1.0 if is_best else 0.7,
        )
    for place, of_key in enumerate(grid.axes.values()):
        axes.axvline(place, color="black", linewidth=0.6)
        for value in of_key:
            axes.text(place + 0.04, _height(value, of_key), value, va="center", bbox={"color": "white", "alpha": 0.7, "pad": 0.5})
    axes.set_xticks(range(len(grid.axes) + 1), [*grid.axes, "accuracy"])
    axes.set(title=wrapped(grid.subject), xlim=(-0.1, len(grid.axes)), yticks=[])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    figure.colorbar(scale, ax=axes, label=QUANTITY)
    return figure


def _height(value: str, of_key: Sequence[str]) -> float:
    return of_key.index(value) / (len(of_key) - 1) if len(of_key) > 1 else 0.5
