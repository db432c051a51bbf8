"""Means, deviations, differences and shares of a report, by hand."""

import math

import numpy as np
import pytest

from spikedistill.report.records import Difference, Group, Spread, difference, group_records, mean_confusion


def group(make, method, accuracies):
    (found,) = group_records([make.student(method, seed, accuracy) for seed, accuracy in enumerate(accuracies)])
    return found


def test_the_mean_of_a_skewed_sample_and_its_deviation():
    spread = Spread.of([1.0, 2.0, 6.0])
    assert spread.mean == pytest.approx(3.0)
    assert spread.std == pytest.approx(7**0.5)  # squares 4 + 1 + 9, over n - 1 = 2
    scaled = spread * 100
    assert (scaled.mean, scaled.std) == (pytest.approx(300), pytest.approx(100 * 7**0.5))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_leaves_the_others_of_a_report_alone(value):
    spread = Spread.of([1.0, value, 6.0])
    assert not math.isfinite(spread.mean)
    assert math.isnan(spread.std)


def test_pairs_that_move_together_have_a_narrow_interval():
    # the values spread by 10, their differences by 0.1: 2.0, 2.1, 1.9, with t of 0.975 for 2 degrees of freedom
    found = Difference.of({0: 12.0, 1: 22.1, 2: 31.9}, {0: 10.0, 1: 20.0, 2: 30.0})
    assert found.mean == pytest.approx(2.0)
    assert found.high - found.mean == pytest.approx(4.302653 * 0.1 / 3**0.5, abs=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_methods_are_compared_with_the_baseline_and_the_baseline_and_teachers_are_not(make):
    baseline, other = group(make, "tet", (0.8, 0.9)), group(make, "kd", (0.9, 0.92))
    teacher = Group("digits", "teacher", (make.teacher(0.99),))
    assert difference(other, baseline).mean == pytest.approx(0.06)
    assert difference(baseline, baseline) is difference(teacher, baseline) is difference(other, None) is None


def test_confusion_is_shared_out_over_each_true_class(make):
    runs = [make.student("kd", seed, 0.5) for seed in range(2)]
    runs[0].evaluation["confusion"] = [[3, 1, 0], [0, 2, 0], [0, 0, 0]]
    runs[1].evaluation["confusion"] = [[1, 3, 0], [1, 1, 0], [0, 0, 0]]
    (found,) = group_records(runs)
    np.testing.assert_allclose(mean_confusion(found), [[0.5, 0.5, 0], [0.25, 0.75, 0], [0, 0, 0]])
