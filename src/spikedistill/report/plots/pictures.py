"""Sheets of pictures, a column wide: rows of samples with a name on the left and a line above each picture. Imports no torch.

Letters: T frame, H, W pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from spikedistill.report.plots.style import COLUMN_IN, LETTER_IN, wrapped
from spikedistill.report.records import RunRecord

Pixels = npt.NDArray[Any]
_PIXELS = 96  # smaller pictures are made at least this wide, so that no viewer blurs them
_LINE_IN, _GAP_IN, _BAR_IN = 0.14, 0.06, 0.42
_NAME_LETTERS = 16


class Row(NamedTuple):
    """A row of a sheet.

    Attributes:
        name: what it shows.
        pictures: grey [H, W] or coloured [H, W, 3], in [0, 1].
        titles: a few letters above each picture.
    """

    name: str
    pictures: Sequence[Pixels]
    titles: Sequence[str]


class Scale(NamedTuple):
    """The colour bar below a sheet.

    Attributes:
        colours: colours and limits.
        label: its quantity.
        ticks: names of some values.
    """

    colours: ScalarMappable
    label: str
    ticks: dict[float, str]


def sheet(title: str, rows: Sequence[Row], scale: Scale) -> Figure:
    """Return a sheet of pictures of equal shape with a colour bar."""
    names = [wrapped(row.name, _NAME_LETTERS) for row in rows]
    left_in = max(len(line) for name in names for line in name.splitlines()) * LETTER_IN + _GAP_IN
    columns = max(len(row.pictures) for row in rows)
    width_in = (COLUMN_IN - left_in) / columns - _GAP_IN
    height, width = rows[0].pictures[0].shape[:2]
    height_in = width_in * height / width
    body_in = len(rows) * (_LINE_IN + height_in)
    title_lines = wrapped(title)
    title_in = _GAP_IN + (title_lines.count("\n") + 1) * 1.1 * _LINE_IN
    figure = Figure(figsize=(COLUMN_IN, title_in + body_in + _BAR_IN))
    figure.set_layout_engine("none")  # everything is placed here
    figure.suptitle(title_lines, y=1 - 0.06 / figure.get_figheight(), va="top")
    axes = figure.add_axes((0, _BAR_IN / figure.get_figheight(), 1, body_in / figure.get_figheight()))
    axes.axis("off")
    for i, (row, name) in enumerate(zip(rows, names, strict=True)):
        top_in = body_in - i * (_LINE_IN + height_in) - _LINE_IN
        axes.text(left_in - _GAP_IN, top_in - height_in / 2, name, ha="right", va="center")
        for k, (picture, text) in enumerate(zip(row.pictures, row.titles, strict=False)):
            left = left_in + k * (width_in + _GAP_IN)
            _place(axes, picture, (left, left + width_in, top_in - height_in, top_in))
            axes.text(left + width_in / 2, top_in + 0.02, text, ha="center", va="bottom")
    axes.set(xlim=(0, COLUMN_IN), ylim=(0, body_in))
    _bar(figure, scale, left_in)
    return figure


def _place(axes: Axes, picture: Pixels, extent: tuple[float, float, float, float]) -> None:
    factor = max(1, _PIXELS // max(picture.shape[:2]))
    pixels = picture.repeat(factor, 0).repeat(factor, 1)
    colours = {"cmap": "gray", "vmin": 0, "vmax": 1} if picture.ndim == 2 else {}
    axes.imshow(pixels, extent=extent, interpolation="none", aspect="auto", **colours)  # type: ignore[arg-type]


def _bar(figure: Figure, scale: Scale, left_in: float) -> None:
    height_in = figure.get_figheight()
    place = (left_in / COLUMN_IN, 0.3 / height_in, (COLUMN_IN - left_in - _GAP_IN) / COLUMN_IN, 0.06 / height_in)
    bar = figure.colorbar(scale.colours, cax=figure.add_axes(place), orientation="horizontal", ticks=list(scale.ticks))
    first, *_, last = bar.ax.set_xticklabels(list(scale.ticks.values()))
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    bar.ax.tick_params(length=2, pad=1)
    bar.set_label(scale.label, labelpad=1)


def as_picture(sample: Pixels) -> Pixels:
    """Convert a sample to a grey [H, W] or colour [H, W, 3] picture in [0, 1]; event frames become the count of all events.

    Of two channels it is the mean, of more than three the first three.
    """
    if sample.ndim == 4:  # [T, 2, H, W]
        counts = sample.astype(float).sum((0, 1))
        return counts / (counts.max() or 1.0)
    image = sample.astype(float) / 255
    return image.mean(0) if len(image) < 3 else image.transpose(1, 2, 0)[..., :3]


def class_names(run: RunRecord) -> list[str]:
    """Return the names of the classes of a run that was measured, in order, as a figure can show them."""
    evaluation = run.evaluation or {}
    names = evaluation.get("class_names") or map(str, range(len(evaluation["confusion"])))
    return ["".join(c if c.isprintable() else "\ufffd" for c in name) for name in names]


def true_classes(run: RunRecord) -> list[str]:
    """Return the name of the class of each example of a run that has examples."""
    assert run.examples is not None
    classes = class_names(run)
    return [classes[int(label)] for label in run.examples["labels"]]


def shortened(name: str, letters: int) -> str:
    """Return a name, with an ellipsis in place of what is too long."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def normalised(values: Pixels) -> npt.NDArray[np.float64]:
    """Return values divided by the largest magnitude among them; zeros stay zeros."""
    return values / (float(np.abs(values).max()) or 1.0)
