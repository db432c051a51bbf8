"""The figure against a swept number: which experiments it takes, and what it draws."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from spikedistill.report.plots import sweeps
from spikedistill.report.plots.catalogue import FIGURES
from spikedistill.report.plots.style import TEACHER_COLOUR, method_styles
from spikedistill.report.records import group_records
from spikedistill.report.sections.swept import swept_numbers
from spikedistill.report.sources import sources_text


def runs(make, numbers, *, name="digits", key="train_samples"):
    found = []
    for number in numbers:
        label = f"{name}[{key}={number}]"
        found += [make.student("tet", seed, 0.5 + 0.01 * seed, experiment=label) for seed in range(3)]
        found.append(make.teacher(0.9, experiment=label))
    return found


def drawn(make, records):
    (sweep,) = swept_numbers(records)
    groups = group_records(records)
    axes = Figure().subplots()
    sweeps._draw(axes, sweep, groups, method_styles(groups))
    return axes


def test_the_variants_of_one_number_are_a_sweep_in_the_order_of_the_number(make):
    (found,) = swept_numbers(runs(make, ["1500", "300", "1e3"]))
    assert (found.experiment, found.key) == ("digits", "train_samples")
    assert found.variants == {
        "digits[train_samples=300]": 300,
        "digits[train_samples=1e3]": 1000,
        "digits[train_samples=1500]": 1500,
    }
    assert list(found.variants.values()) == [300, 1000, 1500]


@pytest.mark.parametrize(
    "labels",
    [
        ["digits"],
        ["digits[time_steps=2]"],
        ["digits[time_steps=2,lr=0.1]", "digits[time_steps=4,lr=0.1]"],
        ["digits[arch=resnet8]", "digits[arch=resnet18]"],
        ["digits[time_steps=2]", "digits[lr=0.1]"],
        ["digits[time_steps=2]", "digits[time_steps=inf]"],
        ["digits[time_steps=2]", "digits"],
        ["one", "two"],
    ],
)
def test_other_experiments_are_not(make, labels):
    assert swept_numbers([make.student("tet", 0, 0.5, experiment=label) for label in labels]) == []


def test_keys_that_are_walked_together_through_equal_numbers_are_one(make):
    labels = [f"dvs[num_frames={n},time_steps={n}]" for n in (2, 4)]
    (found,) = swept_numbers([make.student("tet", 0, 0.5, experiment=label) for label in labels])
    assert (found.key, list(found.variants.values())) == ("num_frames, time_steps", [2, 4])


def test_a_method_is_a_line_of_means_with_the_interval_of_students_t(make):
    axes = drawn(make, runs(make, [300, 500]))
    line, _, (bars,) = next(c for c in axes.containers if c.get_label() == "tet").lines
    assert list(line.get_xdata()) == [300, 500]
    np.testing.assert_allclose(line.get_ydata(), [51, 51])
    # accuracies of 50, 51, 52: standard error 1 / sqrt 3; t of 0.975 with 2 degrees of freedom is 4.302653
    np.testing.assert_allclose(bars.get_segments()[0][:, 1], [51 - 4.302653 / 3**0.5, 51 + 4.302653 / 3**0.5], atol=1e-5)
    teacher = next(c for c in axes.containers if c.get_label() == "teacher").lines[0]
    assert (teacher.get_color(), teacher.get_linestyle()) == (TEACHER_COLOUR, "--")


def test_a_run_that_is_missing_leaves_a_gap_and_not_a_zero(make):
    records = [*runs(make, [1, 2]), make.student("kd", 0, 0.8, experiment="digits[train_samples=2]")]
    axes = drawn(make, records)
    assert list(next(c for c in axes.containers if c.get_label() == "kd").lines[0].get_xdata()) == [2]


@pytest.mark.parametrize(("numbers", "scale"), [([300, 500, 1500], "linear"), ([1, 16], "log"), ([0, 16], "linear")])
def test_numbers_that_are_far_apart_are_on_a_logarithmic_axis_with_a_tick_at_each(make, numbers, scale):
    axes = drawn(make, runs(make, numbers))
    assert axes.get_xscale() == scale
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [str(number) for number in numbers]


def test_there_is_a_panel_for_each_sweep_and_a_word_where_there_is_none(make, records):
    many = [each for i in range(4) for each in runs(make, [1, 2], name=f"set{i}")]
    assert [panel.subject for panel in sweeps.accuracy_over_sweep(many)] == ["set0", "set1", "set2", "set3"]
    assert FIGURES["accuracy_over_sweep"].render(records).subjects == ()


def test_the_sources_of_the_figure_are_the_runs_that_it_shows(make, records):
    comparison = make.comparison([*runs(make, [1, 2], name="swept"), *records])
    assert '"accuracy_over_sweep.svg": [\n   0,\n   1,' in sources_text(comparison, ["accuracy_over_sweep.svg"])
    assert '"accuracy_over_sweep.svg": []' in sources_text(make.comparison(records), ["accuracy_over_sweep.svg"])
