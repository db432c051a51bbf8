"""Intervals, paired tests and their correction: numbers by hand, and what holds for any numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from spikedistill.report import statistics
from spikedistill.report.statistics import (
    PairedTest,
    binomial_error,
    combined_p,
    error_of_test_set,
    half_width,
    holm,
    paired_p,
    smallest_detectable,
    standard_error,
)

P_VALUES = st.lists(st.floats(0, 1), max_size=12)
DIFFERENCES = st.lists(st.integers(-50, 50), min_size=2, max_size=12).map(lambda counts: [count / 1000 for count in counts])
SLEEP = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
"""Hours of sleep that ten patients gained by two drugs: the example of Student (1908), t = 4.0621, p = 0.002833."""
GAINED = [second - first for first, second in zip(*SLEEP, strict=True)]


def test_the_paired_test_is_students_on_his_own_example():
    assert paired_p(GAINED) == pytest.approx(0.002833, abs=5e-7)
    assert paired_p(GAINED) == pytest.approx(stats.ttest_rel(*SLEEP).pvalue)
    assert half_width(GAINED) == pytest.approx(2.262157 * 1.229995 / math.sqrt(10), abs=1e-6)


def test_the_p_value_by_hand():
    # 1, 2, 3: t = 2 / (1 / sqrt 3) = 3.4641; with 2 degrees of freedom the two tails are 1 - t / sqrt(2 + t^2)
    assert paired_p([1.0, 2.0, 3.0]) == pytest.approx(1 - math.sqrt(12) / math.sqrt(14))


def test_a_single_value_has_no_interval():
    assert half_width([0.5]) is None


def test_differences_without_spread_have_the_p_value_of_a_test_of_signs():
    assert paired_p([0.0] * 5) == 1
    assert paired_p([0.1] * 5) == paired_p([-0.1] * 5) == 1 / 16  # 2 of 2^5
    thirds = [0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6]  # equal, but for rounding
    assert len(set(thirds)) > 1
    assert paired_p(thirds) == combined_p(thirds, 0.0) == 1 / 4


@given(DIFFERENCES)
def test_the_sign_of_a_difference_does_not_matter_to_its_p_values(differences):
    other = [-each for each in differences]
    assert paired_p(differences) == pytest.approx(paired_p(other))
    assert combined_p(differences, 0.01) == pytest.approx(combined_p(other, 0.01))
    assert 0 <= paired_p(differences) <= 1


@given(DIFFERENCES, st.floats(0.001, 0.1))
def test_a_second_source_of_error_only_makes_a_difference_less_certain(differences, error):
    assert combined_p(differences, error) >= paired_p(differences) - 1e-12 or max(differences) == min(differences)


def test_both_errors_together_by_hand():
    # 1, 2, 3 have a standard error of 1 / sqrt 3; with one of sqrt(2 / 3) from samples, together 1, and t = 2
    assert combined_p([1.0, 2.0, 3.0], math.sqrt(2 / 3)) == pytest.approx(1 - 2 / math.sqrt(2 + 4))
    assert combined_p([1.0, 2.0, 3.0], 0.0) == pytest.approx(paired_p([1.0, 2.0, 3.0]))
    assert combined_p([2.0, 2.0, 2.0], 1.0) == pytest.approx(1 - 2 / math.sqrt(2 + 4))


def test_holms_method_on_an_example_by_hand():
    # sorted 0.005, 0.01, 0.03, 0.04, times 4, 3, 2, 1; the last, 0.04, is raised to the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(P_VALUES)
def test_holms_method_keeps_the_order_and_lies_between_no_correction_and_bonferronis(p_values):
    corrected = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [corrected[i] for i in order] == sorted(corrected)
    for p, after in zip(p_values, corrected, strict=True):
        assert p <= after <= min(1.0, len(p_values) * p)


@given(P_VALUES, st.floats(0.001, 0.5))
def test_holms_method_rejects_what_its_steps_reject(p_values, level):
    """Holm (1979): reject in order of size while p <= level / (m - rank)."""
    rejected = 0
    for p in sorted(p_values):
        if (len(p_values) - rejected) * p > level:
            break
        rejected += 1
    assert sum(after <= level for after in holm(p_values)) == rejected


def test_the_error_of_the_test_set_is_that_of_the_mean_over_seeds_by_hand():
    # by sample: (1 + 1) / 2, (0 + 1) / 2, (0 + 0) / 2, (0 - 1) / 2: mean 0.25; (9 + 1 + 1 + 9) / 16 over 3, over N = 4
    correct = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], dtype=bool)
    baseline = np.array([[0, 1, 0, 0], [0, 0, 1, 1]], dtype=bool)
    assert error_of_test_set(correct, baseline) == pytest.approx(math.sqrt(20 / 16 / 3 / 4))
    assert error_of_test_set(baseline, correct) == pytest.approx(error_of_test_set(correct, baseline))
    assert error_of_test_set(correct, correct) == 0


def test_samples_that_all_methods_find_hard_are_no_error_of_a_difference():
    hard = np.random.default_rng(0).random((3, 500)) < 0.5
    assert error_of_test_set(hard, hard) == 0 < binomial_error(0.5, 500)


def test_the_error_of_one_accuracy_is_binomial():
    assert binomial_error(0.9, 900) == pytest.approx(0.01)
    assert binomial_error(1.0, 900) == 0


def test_errors_of_simulated_runs_are_those_that_a_repetition_shows():
    """Runs whose samples are as hard for each seed: the two errors together are the deviation over repetitions, or more."""
    rng = np.random.default_rng(7)
    means, errors = [], []
    for _ in range(300):
        chance = rng.choice([0.95, 0.5], p=[0.8, 0.2], size=200)
        chances = [np.clip(chance + shift, 0, 1) + rng.normal(0, 0.02, (6, 1)) for shift in (0.03, 0.0)]
        mine, theirs = (rng.random((6, 200)) < each for each in chances)
        differences = list(mine.mean(1) - theirs.mean(1))
        means.append(np.mean(differences))
        errors.append(standard_error(differences) ** 2 + error_of_test_set(mine, theirs) ** 2)
    assert np.std(means) <= math.sqrt(np.mean(errors)) <= 1.6 * np.std(means)


@pytest.mark.parametrize(("num_pairs", "num_tests"), [(3, 1), (3, 60), (5, 8), (10, 1), (10, 60)])
def test_the_smallest_detectable_difference_is_found_in_four_of_five_tries(num_pairs, num_tests):
    """The power by quadrature: the deviation of a sample is a chi variable, the mean is normal."""
    error = 0.25
    shift = smallest_detectable(error, num_pairs, num_tests) / error
    freedom = num_pairs - 1
    threshold = stats.t.isf(0.01 / num_tests / 2, freedom)

    def integrand(u):
        return stats.chi.pdf(u, freedom) * stats.norm.cdf(shift - threshold * u / math.sqrt(freedom))

    steps = np.linspace(0, 12, 20_001)
    assert integrate.simpson(integrand(steps), x=steps) == pytest.approx(0.8, abs=1e-6)


def test_more_pairs_detect_smaller_differences_and_more_tests_larger_ones():
    assert smallest_detectable(0.1, 10, 1) < smallest_detectable(0.1, 5, 1) < smallest_detectable(0.1, 5, 10)
    assert smallest_detectable(standard_error([0.1] * 5), 5, 1) is None


def test_a_test_has_both_errors_where_the_predictions_are_known():
    correct, baseline = np.tri(3, dtype=bool), np.zeros((3, 3), dtype=bool)
    known = PairedTest.of([0.1, 0.2, 0.3], correct, baseline)
    assert (known.p, known.seed_error) == (paired_p([0.1, 0.2, 0.3]), standard_error([0.1, 0.2, 0.3]))
    assert known.sample_error == error_of_test_set(correct, baseline)
    assert known.combined_p == combined_p([0.1, 0.2, 0.3], known.sample_error)
    unknown = PairedTest.of([0.1, 0.2, 0.3], correct, None)
    assert (unknown.sample_error, unknown.combined_p) == (None, None)


def test_level_power_and_confidence_are_the_documented_ones():
    assert (statistics.LEVEL, statistics.POWER, statistics.CONFIDENCE) == (0.01, 0.8, 0.95)
