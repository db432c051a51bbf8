"""The curves of the report, as deterministic SVG text, with one panel per experiment. Imports matplotlib, and no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from spikedistill.report.plots.style import MAX_COLUMNS, Style, mark_empty, method_styles, report_style, to_svg
from spikedistill.report.records import Group, RunRecord, group_records, measurements

LOSS = "train/loss"
ACCURACY = "train/accuracy(%)"

Panel = Callable[[Axes, list[Group], dict[str, Style]], None]


def accuracy_over_time(records: Sequence[RunRecord]) -> str:
    """Plot the test accuracy of the mean of the first t logits against t: mean and standard deviation over seeds."""
    return _draw(records, [_accuracy_panel], ["Time steps t"], ["Test accuracy after t steps (%)"])


def accuracy_over_energy(records: Sequence[RunRecord]) -> str:
    """Plot the test accuracy against the energy per sample: mean and standard deviation of both over seeds."""
    return _draw(records, [_energy_panel], ["Energy per sample (µJ)"], ["Test accuracy (%)"])


def training_curves(records: Sequence[RunRecord]) -> str:
    """Plot training loss and accuracy against the epoch, with one line per run."""
    panels: list[Panel] = [_loss_panel, _train_accuracy_panel]
    return _draw(records, panels, ["Epoch", "Epoch"], ["Training loss (nats)", "Training accuracy (%)"])


def firing_rates(records: Sequence[RunRecord]) -> str:
    """Plot the firing rate of each layer in the order of the network: mean and standard deviation over seeds."""
    return _draw(records, [_firing_panel], ["Layer, input to output"], ["Firing rate\n(spikes per neuron and step)"])


def _draw(records: Sequence[RunRecord], panels: Sequence[Panel], x_names: Sequence[str], y_names: Sequence[str]) -> str:
    groups = group_records(records)
    experiments = list(dict.fromkeys(group.experiment for group in groups)) or ["no runs"]
    styles = method_styles(groups)
    with report_style():
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
        return to_svg(figure)


def _finish(axes: Axes) -> None:
    if axes.has_data():
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles, labels, fontsize="small")
    else:
        mark_empty(axes)


def _mean_std(values: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the sample standard deviation over the first axis; for a single run the deviation is 0."""
    array = np.asarray(values, dtype=float)
    return array.mean(0), array.std(0, ddof=1) if len(array) > 1 else np.zeros(array.shape[1])


def _accuracy_panel(axes: Axes, groups: list[Group], styles: dict[str, Style]) -> None:
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


def _energy_panel(axes: Axes, groups: list[Group], styles: dict[str, Style]) -> None:
    axes.set_xscale("log")
    for group in groups:
        measured = [m for m in measurements(group) if m.get("operations", {}).get("energy_pj")]
        if measured:
            (energy, accuracy), (energy_std, accuracy_std) = _mean_std(
                [[m["operations"]["energy_pj"] / 1e6, 100 * m["accuracy"]] for m in measured]
            )
            style = {"marker": "p", **styles[group.method], "linestyle": "none"}
            spread = (accuracy_std or None, energy_std or None)
            axes.errorbar(energy, accuracy, *spread, label=group.method, markersize=7, capsize=3, **style)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _loss_panel(axes: Axes, groups: list[Group], styles: dict[str, Style]) -> None:
    axes.set_yscale("log")
    _curves(axes, groups, styles, LOSS)


def _train_accuracy_panel(axes: Axes, groups: list[Group], styles: dict[str, Style]) -> None:
    _curves(axes, groups, styles, ACCURACY)


def _curves(axes: Axes, groups: list[Group], styles: dict[str, Style], tag: str) -> None:
    for group in groups:
        style = {key: value for key, value in styles[group.method].items() if key != "marker"}
        label = group.method
        for run in group.runs:
            points = [(record["epoch"] + 1, record[tag]) for record in run.metrics if tag in record and "epoch" in record]
            if points:
                marker = "." if len(points) == 1 else ""
                axes.plot(*zip(*points, strict=True), label=label, linewidth=1.3, marker=marker, **style)
                label = "_same"  # one legend entry for all seeds
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _firing_panel(axes: Axes, groups: list[Group], styles: dict[str, Style]) -> None:
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
    """Remove from dotted names the leading parts that all of them share; each keeps at least its last part."""
    parts = [name.split(".") for name in names]
    num_common = 0
    while all(len(p) > num_common + 1 and p[num_common] == parts[0][num_common] for p in parts):
        num_common += 1
    return [".".join(p[num_common:]) for p in parts]
