"""Sweeps as grids of their keys, and what is drawn of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spikedistill.report.plots import style, validation
from spikedistill.report.sections.grids import grids
from spikedistill.report.sections.ranking import rank_sweeps


def runs(make, found):
    """Runs of (experiment, method) -> accuracies on the validation split, one for each seed."""
    return [
        replace(make.student(method, seed, 0.1, experiment=experiment), validation=accuracy)
        for (experiment, method), accuracies in found.items()
        for seed, accuracy in enumerate(accuracies)
    ]


def grids_of(make, found):
    return grids(rank_sweeps(runs(make, found)))


def test_a_sweep_over_two_keys_is_a_grid_of_mean_accuracies_with_numbers_in_order(make):
    found = {(f"a[lr={lr}]", f"kd[alpha={alpha}]"): [lr, lr + 0.1 * alpha] for lr in (0.4, 0.1) for alpha in (2, 1)}
    (grid,) = grids_of(make, found)
    assert grid.subject == "a, kd"
    assert grid.axes == {"lr": ("0.1", "0.4"), "alpha": ("1", "2")}
    assert grid.accuracy["0.4", "2"] == pytest.approx(0.5)
    assert grid.best == ("0.4", "2")


def test_a_key_that_the_experiment_and_the_method_have_is_an_axis_for_each(make):
    found = {(f"a[alpha={own}]", f"kd[alpha={alpha}]"): [0.1 * own + alpha] for own in (2, 4) for alpha in (0.3, 0.5)}
    sweeps = rank_sweeps(runs(make, found))
    (grid,) = grids(sweeps)
    assert grid.axes == {"experiment alpha": ("2", "4"), "method alpha": ("0.3", "0.5")}
    assert grid.accuracy == {(str(o), str(m)): pytest.approx(0.1 * o + m) for o in (2, 4) for m in (0.3, 0.5)}
    assert sweeps[0].ranked[0].values == "experiment alpha=4, method alpha=0.5"


def test_methods_that_are_swept_over_one_key_are_rows_of_one_grid(make):
    found = {("a", f"{method}[lr={lr}]"): [lr] for method in ("ce", "kd") for lr in (0.1, 0.2)}
    (grid,) = grids_of(make, found)
    assert (grid.subject, grid.axes) == ("a", {"method": ("ce", "kd"), "lr": ("0.1", "0.2")})


def test_keys_that_are_walked_together_are_one_axis(make):
    found = {(f"a[num_frames={n},time_steps={n}]", f"kd[lr={lr}]"): [0.5] for n in (2, 4) for lr in (0.1, 0.2)}
    (grid,) = grids_of(make, found)
    assert grid.axes == {"num_frames, time_steps": ("2", "4"), "lr": ("0.1", "0.2")}


def test_a_variant_without_validation_leaves_a_gap(make):
    found = {(f"a[lr={lr}]", f"kd[alpha={alpha}]"): [0.5] for lr in (0.1, 0.2) for alpha in (1, 2)}
    found["a[lr=0.2]", "kd[alpha=2]"] = [None]
    (grid,) = grids_of(make, found)
    assert len(grid.accuracy) == 3


def test_without_a_sweep_or_a_validation_split_there_is_no_grid(make):
    assert grids_of(make, {("a", "kd"): [0.5]}) == []
    assert grids_of(make, {("a", "kd[lr=1]"): [None], ("a", "kd[lr=2]"): [None]}) == []


def test_two_keys_are_a_heat_map_with_the_accuracies_written_in_and_the_best_framed(make):
    found = {(f"a[lr={lr}]", f"kd[alpha={alpha}]"): [lr + 0.01 * alpha] for lr in (0.1, 0.2) for alpha in (1, 2)}
    with style.report_style():
        (panel,) = validation.validation_over_sweep(runs(make, found))
    axes, bar = panel.figure.axes
    assert (axes.get_ylabel(), axes.get_xlabel(), bar.get_ylabel()) == ("lr", "alpha", "Validation accuracy (%)")
    assert {text.get_text(): text.get_position() for text in axes.texts} == {
        **{"11.0": (0, 0), "12.0": (1, 0)},
        **{"21.0": (0, 1), "22.0": (1, 1)},
    }
    (frame,) = axes.patches
    assert frame.get_xy() == (0.5, 0.5)


def test_more_keys_are_parallel_coordinates_with_the_best_on_top(make):
    found = {
        (f"a[lr={lr},decay={decay}]", f"kd[alpha={alpha}]"): [0.5 + lr + 0.1 * decay + 0.01 * alpha]
        for lr in (0.1, 0.2)
        for decay in (0, 1)
        for alpha in (1, 2)
    }
    with style.report_style():
        (panel,) = validation.validation_over_sweep(runs(make, found))
    axes = panel.figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["lr", "decay", "alpha", "accuracy"]
    assert len([line for line in axes.lines if len(line.get_xdata()) == 4]) == 8
    best = max(axes.lines, key=lambda line: line.get_linewidth())
    assert list(best.get_ydata()) == [1, 1, 1, 1]
