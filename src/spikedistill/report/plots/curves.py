"""Curves of what was measured on the test split, with one panel per experiment. Imports matplotlib, and no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from spikedistill.report.plots.panels import Panel, plot
from spikedistill.report.plots.style import Style, method_styles
from spikedistill.report.records import Group, RunRecord, by_experiment, group_records, measurements

MAX_LAYER_NAMES = 20
Draw = Callable[..., None]
"""Draws groups of one experiment: `draw(axes, groups=…, styles=…)`."""


def accuracy_over_time(records: Sequence[RunRecord]) -> list[Panel]:
    """Plot the test accuracy of the mean of the first t logits against t: mean and standard deviation over seeds."""
    return _panels(records, _draw_accuracy, "Time steps t", "Test accuracy after t steps (%)")


def accuracy_over_energy(records: Sequence[RunRecord]) -> list[Panel]:
    """Plot the test accuracy against the energy per sample: mean and standard deviation of both over seeds."""
    return _panels(records, _draw_energy, "Energy per sample (µJ)", "Test accuracy (%)")


def firing_rates(records: Sequence[RunRecord]) -> list[Panel]:
    """Plot the firing rate of each layer in the order of the network: mean and standard deviation over seeds."""
    return _panels(records, _draw_rates, "Layer, input to output", "Firing rate\n(spikes per neuron and step)", height_in=2.6)


def _panels(records: Sequence[RunRecord], draw: Draw, x_name: str, y_name: str, *, height_in: float = 2.2) -> list[Panel]:
    """Return a panel for each experiment that has anything to draw."""
    groups = group_records(records)
    styles = method_styles(groups)
    figures = {
        experiment: plot(experiment, x_name, y_name, partial(draw, groups=own, styles=styles), height_in=height_in)
        for experiment, own in by_experiment(groups).items()
    }
    return [Panel(experiment, figure) for experiment, figure in figures.items() if figure is not None]


def _mean_std(values: Sequence[Sequence[float]]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the mean and the sample standard deviation over the first axis; for a single run the deviation is 0."""
    array = np.asarray(values, dtype=float)
    return array.mean(0), array.std(0, ddof=1) if len(array) > 1 else np.zeros(array.shape[1])


def _draw_accuracy(axes: Axes, groups: Sequence[Group], styles: dict[str, Style]) -> None:
    for group in groups:
        measured = measurements(group)
        if group.is_teacher and measured:
            level = 100 * float(np.mean([m["accuracy"] for m in measured]))
            axes.axhline(level, label=group.method, **styles[group.method])
        curves = [m["accuracy_at_step"] for m in measured if m.get("accuracy_at_step")]
        if curves:
            mean, std = _mean_std(curves)
            axes.errorbar(np.arange(1, len(mean) + 1), 100 * mean, 100 * std, label=group.method, **styles[group.method])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _draw_energy(axes: Axes, groups: Sequence[Group], styles: dict[str, Style]) -> None:
    axes.set_xscale("log")
    for group in groups:
        measured = [m for m in measurements(group) if m.get("operations", {}).get("energy_pj")]
        if measured:
            (energy, accuracy), (energy_std, accuracy_std) = _mean_std(
                [[m["operations"]["energy_pj"] / 1e6, 100 * m["accuracy"]] for m in measured]
            )
            style = {"marker": "p", **styles[group.method], "linestyle": "none"}
            axes.errorbar(energy, accuracy, accuracy_std or None, energy_std or None, label=group.method, **style)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_rates(axes: Axes, groups: Sequence[Group], styles: dict[str, Style]) -> None:
    names: list[str] = []
    for group in groups:
        layers = [m["firing_rate"]["layers"] for m in measurements(group) if m.get("firing_rate")]
        if layers:
            names = without_common_parents([layer["name"] for layer in layers[0]])
            mean, std = _mean_std([[layer["rate"] for layer in run] for run in layers])
            axes.errorbar(np.arange(len(mean)), mean, std, label=group.method, **styles[group.method])
    every = max(1, -(-len(names) // MAX_LAYER_NAMES))
    axes.set_xticks(range(0, len(names), every), names[::every], rotation=90)
    if names:
        axes.set_ylim(bottom=0)


def without_common_parents(names: Sequence[str]) -> list[str]:
    """Remove from dotted names the leading parts that all of them share; each keeps at least its last part."""
    parts = [name.split(".") for name in names]
    num_common = 0
    while all(len(p) > num_common + 1 and p[num_common] == parts[0][num_common] for p in parts):
        num_common += 1
    return [".".join(p[num_common:]) for p in parts]
