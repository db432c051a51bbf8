"""The pictures of the report, as deterministic SVG text: confusion matrices, saliency maps, event frames. Imports no torch.

Letters: B sample, T frame, C channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from spikedistill.report.plots.style import empty_figure, report_style, to_svg
from spikedistill.report.records import Group, RunRecord, group_records, mean_confusion

MAX_COLUMNS = 4
MAX_TICKS = 12  # with more classes, their names are left out
MAX_SAMPLES = 6
MAX_RECORDINGS, MAX_FRAMES = 3, 10
MAX_MATRICES, MAX_BLOCKS = 24, 8  # limits for the figures of a large sweep; a note above the figure tells what is left out
HEAT = "viridis"
POLARITY = "PuOr"
Pixels = npt.NDArray[Any]


def confusion_matrices(records: Sequence[RunRecord]) -> str:
    """Plot the share of each true class (rows) that is predicted as each class, with one panel per method, over all its seeds."""
    shown = [(group, matrix) for group in group_records(records) if (matrix := mean_confusion(group)) is not None]
    if not shown:
        return empty_figure("nothing measured")
    with report_style():
        total, shown = len(shown), shown[:MAX_MATRICES]
        columns = min(MAX_COLUMNS, len(shown))
        rows = -(-len(shown) // columns)
        figure = Figure(figsize=(3.4 * columns + 0.8, 3.6 * rows))
        _note_cut(figure, len(shown), total, "methods")
        axes = figure.subplots(rows, columns, squeeze=False)
        scale = ScalarMappable(Normalize(0, 100), HEAT)
        for panel, (group, matrix) in zip(axes.flat, shown, strict=False):
            panel.imshow(100 * matrix, cmap=HEAT, norm=scale.norm, interpolation="nearest")
            panel.set(title=f"{group.experiment}: {group.method}", xlabel="Predicted class", ylabel="True class")
            _name_classes(panel, _class_names(group, len(matrix)))
        for unused in list(axes.flat)[len(shown) :]:
            unused.remove()
        figure.colorbar(scale, ax=list(axes.flat)[: len(shown)], label="Share of the true class (%)", shrink=0.8)
        return to_svg(figure)


def saliency_maps(records: Sequence[RunRecord]) -> str:
    """Draw test samples with the teacher's class activation map and each student's activation map, of the first seed."""
    blocks = [block for experiment in _experiments(records) if (block := _runs_with_examples(experiment))]
    if not blocks:
        return empty_figure("no examples")
    with report_style():
        total, blocks = len(blocks), blocks[:MAX_BLOCKS]
        heights = [1 + len(block) for block in blocks]
        columns = max(min(MAX_SAMPLES, len(run.examples["labels"])) for block in blocks for run in block if run.examples)
        figure = Figure(figsize=(1.5 * columns + 0.8, 1.7 * sum(heights)))
        _note_cut(figure, len(blocks), total, "experiments")
        axes = figure.subplots(sum(heights), columns, squeeze=False)
        for panel in axes.flat:
            panel.axis("off")
        top = 0
        for block, height in zip(blocks, heights, strict=True):
            _draw_block(axes[top : top + height], block)
            top += height
        return to_svg(figure)


def event_frames(records: Sequence[RunRecord]) -> str:
    """Draw the frames of a few test recordings: pixels with more ON events are orange, with more OFF events purple."""
    found: dict[str, tuple[str, Pixels, list[str]]] = {}
    for run in records:
        if run.examples is not None and run.examples["samples"].ndim == 5:
            found.setdefault(run.experiment, (run.experiment, run.examples["samples"], _true_names(run)))
    if not found:
        return empty_figure("no event frames in this comparison")
    with report_style():
        total = len(found)
        found = dict(list(found.items())[:MAX_BLOCKS])
        counts = [min(MAX_RECORDINGS, len(samples)) for _, samples, _ in found.values()]
        columns = max(min(MAX_FRAMES, samples.shape[1]) for _, samples, _ in found.values())
        figure = Figure(figsize=(1.5 * columns + 1.2, 1.75 * sum(counts)))
        _note_cut(figure, len(found), total, "experiments")
        axes = figure.subplots(sum(counts), columns, squeeze=False)
        for panel in axes.flat:
            panel.axis("off")
        rows = iter(axes)
        for (experiment, samples, names), count in zip(found.values(), counts, strict=True):
            for sample, name in zip(samples[:count], names, strict=False):
                _draw_recording(next(rows), sample, f"{experiment}\nclass {name}")
        scale = ScalarMappable(Normalize(-1, 1), POLARITY + "_r")
        bar = figure.colorbar(scale, ax=axes, shrink=0.6, ticks=[-1, 0, 1])
        bar.ax.set_yticklabels(["OFF", "none", "ON"])
        bar.set_label("Events, relative to the frame's largest count")
        return to_svg(figure)


def _note_cut(figure: Figure, shown: int, total: int, what: str) -> None:
    if shown < total:
        figure.suptitle(f"The first {shown} of {total} {what}", fontsize="medium")


def _experiments(records: Sequence[RunRecord]) -> list[list[Group]]:
    groups = group_records(records)
    return [[g for g in groups if g.experiment == name] for name in dict.fromkeys(group.experiment for group in groups)]


def _runs_with_examples(groups: list[Group]) -> list[RunRecord]:
    """Return the first run of each method that has examples, teacher first."""
    runs = [next((run for run in group.runs if run.examples is not None), None) for group in groups]
    return [run for run in runs if run is not None]


def _draw_block(axes: npt.NDArray[Any], block: list[RunRecord]) -> None:
    first = block[0]
    assert first.examples is not None
    samples, names = first.examples["samples"][:MAX_SAMPLES], _true_names(first)
    _label(axes[0, 0], f"{first.experiment}\nsample")
    for panel, sample, name in zip(axes[0], samples, names, strict=False):
        panel.imshow(picture(sample), cmap="gray")
        panel.set_title(f"class {name}", fontsize="small")
    for row, run in zip(axes[1:], block, strict=True):
        assert run.examples is not None
        _label(row[0], f"{run.method}\n{'CAM' if run.role == 'teacher' else 'activation'}")
        classes = _class_names_of(run)
        for panel, sample, saliency, predicted in zip(
            row, samples, run.examples["maps"], run.examples["predictions"], strict=False
        ):
            _overlay(panel, picture(sample), saliency)
            panel.set_title(f"says {classes[int(predicted)]}", fontsize="small")


def _overlay(panel: Axes, image: Pixels, saliency: Pixels) -> None:
    height, width = image.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    grey = image if image.ndim == 2 else image.mean(2)
    peak = float(saliency.max()) or 1.0
    panel.imshow(grey, cmap="gray", extent=extent)
    panel.imshow(saliency / peak, cmap=HEAT, vmin=0, vmax=1, alpha=0.6, extent=extent, interpolation="bilinear")


def _draw_recording(row: npt.NDArray[Any], frames: Pixels, name: str) -> None:
    _label(row[0], name)
    for t, (panel, frame) in enumerate(zip(row, frames, strict=False)):
        off, on = frame.astype(float)
        signed = on - off
        peak = float(np.abs(signed).max()) or 1.0
        panel.imshow(signed / peak, cmap=POLARITY + "_r", vmin=-1, vmax=1, interpolation="nearest")
        panel.set_title(f"frame {t + 1}", fontsize="small")


def picture(sample: Pixels) -> Pixels:
    """Convert a sample to a grey [H, W] or colour [H, W, 3] picture in [0, 1]; event frames become the count of all events."""
    if sample.ndim == 4:  # [T, 2, H, W]
        counts = sample.astype(float).sum((0, 1))
        return counts / (counts.max() or 1.0)
    image = sample.astype(float) / 255
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)[..., :3]


def _label(panel: Axes, text: str) -> None:
    panel.text(-0.1, 0.5, text, transform=panel.transAxes, ha="right", va="center", fontsize="small")


def _name_classes(panel: Axes, names: Sequence[str]) -> None:
    panel.grid(visible=False)
    if len(names) <= MAX_TICKS:
        rotation = 90 if max(map(len, names)) > 2 else 0
        panel.set_xticks(range(len(names)), names, rotation=rotation, fontsize="small")
        panel.set_yticks(range(len(names)), names, fontsize="small")


def _class_names(group: Group, count: int) -> list[str]:
    known = next((run for run in group.runs if run.evaluation is not None), None)
    return _class_names_of(known) if known is not None else [str(k) for k in range(count)]


def _class_names_of(run: RunRecord) -> list[str]:
    evaluation = run.evaluation or {}
    return list(evaluation.get("class_names") or map(str, range(len(evaluation["confusion"]))))


def _true_names(run: RunRecord) -> list[str]:
    assert run.examples is not None
    classes = _class_names_of(run)
    return [classes[int(label)] for label in run.examples["labels"]]
