"""What a figure is made of, and its two files: panels side by side as SVG, and a page for each panel as PDF. Imports no torch.

Both are the same bytes for the same panels: without dates, with ids from a fixed salt.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from spikedistill.report.plots.style import COLUMN_IN, FONT_PT, LETTER_IN, TEACHER_COLOUR, report_style, wrapped

MAX_COLUMNS = 3
"""Panels beside each other in an SVG file."""
_POINTS = 72
_LINE_IN = 1.6 * FONT_PT / _POINTS
_KEY_IN = 0.45  # line and gaps of an entry of a legend

logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs every table of every font that is embedded


class Panel(NamedTuple):
    """One panel: a page of the PDF file, and a part of the SVG file.

    Attributes:
        subject: what distinguishes it from the other panels of its figure, such as the experiment.
        figure: the drawing, `COLUMN_IN` wide.
    """

    subject: str
    figure: Figure


class Rendered(NamedTuple):
    """A figure as files.

    Attributes:
        subjects: those of its panels; empty if there was nothing to draw and the file says so.
        panels: each panel as SVG text.
        svg: all panels side by side, as SVG text.
        pdf: one page for each panel.
    """

    subjects: tuple[str, ...]
    panels: tuple[str, ...]
    svg: str
    pdf: bytes


def render(draw: Callable[[], Sequence[Panel]], *, title: str, absent: str) -> Rendered:
    """Draw a figure in the style of the report.

    Args:
        draw: makes its panels.
        title: title of the PDF file.
        absent: what the file says if there are no panels.
    """
    with report_style():
        panels = list(draw())
        figures = [panel.figure for panel in panels] or [_sign(absent)]
        texts, pdf = [], io.BytesIO()
        with PdfPages(pdf, metadata={"Title": title, "CreationDate": None}) as pages:
            for figure in figures:
                texts.append(_svg(figure))
                figure.set_layout_engine("none")  # everything has its place now
                FigureCanvasPdf(figure).print_pdf(pages)
    sizes = [(figure.get_figwidth() * _POINTS, figure.get_figheight() * _POINTS) for figure in figures]
    return Rendered(tuple(panel.subject for panel in panels), tuple(texts), _side_by_side(texts, sizes), pdf.getvalue())


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})  # `savefig` draws twice
    return text.getvalue()


def _side_by_side(texts: Sequence[str], sizes: Sequence[tuple[float, float]]) -> str:
    """Put drawings, with their widths and heights in points, into one SVG text, row by row."""
    columns = min(MAX_COLUMNS, len(texts))
    column_pt = max(width for width, _ in sizes)
    placed, top = [], 0.0
    for start in range(0, len(texts), columns):
        row = slice(start, start + columns)
        for i, text in enumerate(texts[row]):
            placed.append(_at(i * column_pt, top, text))
        top += max(height for _, height in sizes[row])
    width = columns * column_pt
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}pt" height="{top:g}pt" viewBox="0 0 {width:g} {top:g}">\n'
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}{"".join(placed)}</svg>\n'


def _at(x: float, y: float, text: str) -> str:
    """Return a drawing as a part of another whose unit is the point; in there, a length of `1pt` would be 1.33 units."""
    start, end, rest = text[text.index("<svg ") :].partition(">")
    start = re.sub(r'\b(width|height)="([\d.]+)pt"', r'\1="\2"', start)
    return start.replace("<svg ", f'<svg x="{x:g}" y="{y:g}" ', 1) + end + rest


def _sign(text: str) -> Figure:
    figure = Figure(figsize=(COLUMN_IN, 0.8))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=TEACHER_COLOUR)
    return figure


def plot(title: str, x_name: str, y_name: str, draw: Callable[[Axes], None], *, height_in: float = 2.2) -> Figure | None:
    """Return a figure of one pair of axes with a legend below; None if nothing was drawn into it.

    Args:
        title: its title.
        x_name: name of the horizontal axis, with the unit.
        y_name: name of the vertical axis, with the unit.
        draw: draws into the axes; the legend takes the labels of what it draws.
        height_in: height in inches, without the legend.
    """
    figure = Figure()
    axes = figure.subplots()
    axes.set(title=wrapped(title), xlabel=x_name, ylabel=y_name)
    draw(axes)
    if not axes.has_data():
        return None
    handles, names = axes.get_legend_handles_labels()
    labels = [wrapped(name) for name in names]
    columns = _legend_columns(labels)
    lines = -(-len(labels) // columns) * max((label.count("\n") + 1 for label in labels), default=1)
    figure.set_size_inches(COLUMN_IN, height_in + lines * _LINE_IN)
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.2)
    return figure


def _legend_columns(labels: Sequence[str]) -> int:
    widest_in = max((len(line) for label in labels for line in label.splitlines()), default=1) * LETTER_IN + _KEY_IN
    return max(1, min(len(labels), int(COLUMN_IN / widest_in)))
