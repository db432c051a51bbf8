"""The figures of the report, as deterministic SVG text. Imports matplotlib, and no torch.

One panel per experiment. A method has the same colour and marker in every panel; teachers are grey. The colours are those of
Okabe and Ito, which stay apart for colour-blind readers; markers tell the methods apart in grey print.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spikedistill.report.records import Group, RunRecord, group_records, measurements

LOSS = "train/loss"
ACCURACY = "train/accuracy(%)"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vPX*"
TEACHER_COLOUR = "#777777"
MAX_COLUMNS = 3

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
Panel = Callable[[Axes, list[Group], dict[str, dict[str, Any]]], None]


def accuracy_over_time(records: Sequence[RunRecord]) -> str:
    """Test accuracy of the mean of the first t logits, against t: mean and standard deviation over seeds."""
    return _draw(records, [_accuracy_panel], ["Time steps t"], ["Test accuracy after t steps (%)"])


def training_curves(records: Sequence[RunRecord]) -> str:
    """Training loss and accuracy against the epoch, one line per run."""
    panels: list[Panel] = [_loss_panel, _train_accuracy_panel]
    return _draw(records, panels, ["Epoch", "Epoch"], ["Training loss (nats)", "Training accuracy (%)"])


def firing_rates(records: Sequence[RunRecord]) -> str:
    """Firing rate of each layer in the order of the network: mean and standard deviation over seeds."""
    return _draw(records, [_firing_panel], ["Layer, input to output"], ["Firing rate\n(spikes per neuron and step)"])


@contextmanager
def _house_style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def _draw(records: Sequence[RunRecord], panels: Sequence[Panel], x_names: Sequence[str], y_names: Sequence[str]) -> str:
    groups = group_records(records)
    experiments = list(dict.fromkeys(group.experiment for group in groups)) or ["no runs"]
    styles = _styles(groups)
    with _house_style():
        num_columns = len(panels) if len(panels) > 1 else min(len(experiments), MAX_COLUMNS)
        num_rows = -(-len(experiments) * len(panels) // num_columns)
        figure = Figure(figsize=(5.0 * num_columns, 3.6 * num_rows))
        axes = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
        for i, experiment in enumerate(experiments):
            shown = [group for group in groups if group.experiment == experiment]
            for k, panel in enumerate(panels):
                panel_axes = axes[i * len(panels) + k]
                panel_axes.set(title=experiment, xlabel=x_names[k], ylabel=y_names[k])
                panel(panel_axes, shown, styles)
                _finish(panel_axes)
        for unused in axes[len(experiments) * len(panels) :]:
            unused.remove()
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _styles(groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each method, by its place among all methods."""
    methods = dict.fromkeys(group.method for group in groups if not group.is_teacher)
    styles: dict[str, dict[str, Any]] = {
        method: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]} for i, method in enumerate(methods)
    }
    return styles | {group.method: {"color": TEACHER_COLOUR, "linestyle": "--"} for group in groups if group.is_teacher}


def _finish(axes: Axes) -> None:
    if axes.has_data():
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles, labels, fontsize="small")
    else:
        axes.text(0.5, 0.5, "nothing measured", transform=axes.transAxes, ha="center", va="center", color=TEACHER_COLOUR)


def _mean_std(values: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation over the first axis; a deviation of 0 for a single run."""
    array = np.asarray(values, dtype=float)
    return array.mean(0), array.std(0, ddof=1) if len(array) > 1 else np.zeros(array.shape[1])


def _accuracy_panel(axes: Axes, groups: list[Group], styles: dict[str, dict[str, Any]]) -> None:
    for group in groups:
        measured = measurements(group)
        if group.is_teacher and measured:
            level = 100 * float(np.mean([m["accuracy"] for m in measured]))
            axes.axhline(level, label=group.method, **styles[group.method])
        curves = [m["accuracy_at_step"] for m in measured if m.get("accuracy_at_step")]
        if curves:
            mean, std = _mean_std(curves)
            steps = np.arange(1, len(mean) + 1)
            axes.errorbar(steps, 100 * mean, 100 * std, label=group.method, capsize=3, markersize=5, **styles[group.method])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _loss_panel(axes: Axes, groups: list[Group], styles: dict[str, dict[str, Any]]) -> None:
    axes.set_yscale("log")
    _curves(axes, groups, styles, LOSS)


def _train_accuracy_panel(axes: Axes, groups: list[Group], styles: dict[str, dict[str, Any]]) -> None:
    _curves(axes, groups, styles, ACCURACY)


def _curves(axes: Axes, groups: list[Group], styles: dict[str, dict[str, Any]], tag: str) -> None:
    for group in groups:
        style = {key: value for key, value in styles[group.method].items() if key != "marker"}
        label = group.method
        for run in group.runs:
            points = [(record["epoch"] + 1, record[tag]) for record in run.metrics if tag in record and "epoch" in record]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, linewidth=1.3, **style)
                label = "_same"  # one entry of the legend for all seeds
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _firing_panel(axes: Axes, groups: list[Group], styles: dict[str, dict[str, Any]]) -> None:
    names: list[str] = []
    for group in groups:
        layers = [m["firing_rate"]["layers"] for m in measurements(group) if m.get("firing_rate")]
        if layers:
            names = _without_common_parents([layer["name"] for layer in layers[0]])
            mean, std = _mean_std([[layer["rate"] for layer in run] for run in layers])
            places = np.arange(len(mean))
            axes.errorbar(places, mean, std, label=group.method, capsize=3, markersize=5, **styles[group.method])
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize="small")
    if names:
        axes.set_ylim(bottom=0)


def _without_common_parents(names: Sequence[str]) -> list[str]:
    """Dotted names without the leading parts that all of them share; each keeps its last part."""
    parts = [name.split(".") for name in names]
    num_common = 0
    while all(len(p) > num_common + 1 and p[num_common] == parts[0][num_common] for p in parts):
        num_common += 1
    return [".".join(p[num_common:]) for p in parts]
