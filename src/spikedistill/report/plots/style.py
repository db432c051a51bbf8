"""The common style of the figures: colours, markers, deterministic SVG. Imports matplotlib, and no torch.

A method has the same colour and marker in every panel; teachers are grey. The colours are those of Okabe and Ito, which
colour-blind readers can tell apart; in greyscale print the markers distinguish the methods.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spikedistill.report.records import Group

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPX*"
TEACHER_COLOUR = "#777777"
MAX_COLUMNS = 3
"""Panels beside each other."""
Style = dict[str, Any]

_RC: Any = {
    "svg.hashsalt": "spikedistill",
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@contextmanager
def report_style() -> Iterator[None]:
    """Draw with the settings of the report, whatever the user's matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG text without a date."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def method_styles(groups: Sequence[Group]) -> dict[str, Style]:
    """Return colour and marker of each method, by its position among all methods."""
    methods = dict.fromkeys(group.method for group in groups if not group.is_teacher)
    found: dict[str, Style] = {
        method: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]} for i, method in enumerate(methods)
    }
    return found | {group.method: {"color": TEACHER_COLOUR, "linestyle": "--"} for group in groups if group.is_teacher}


def mark_empty(axes: Axes, text: str = "nothing measured") -> None:
    """Write into a panel without data that it has none."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=TEACHER_COLOUR)


def empty_figure(text: str) -> str:
    """Draw a figure that says why there is nothing to draw, as SVG text."""
    with report_style():
        figure = Figure(figsize=(5.0, 1.2))
        axes = figure.subplots()
        axes.axis("off")
        mark_empty(axes, text)
        return to_svg(figure)
