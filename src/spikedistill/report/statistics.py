"""Statistics of comparisons over seeds: intervals, paired tests, correction for many tests. Numbers in, numbers out.

Imports neither torch nor the records of the report. Shapes: n pairs (seeds), m tests, S seeds, N test samples. Accuracies and
their differences are in [0, 1]. Two sources of error are kept apart: the seeds (initial weights, order, augmentation; the
teacher, too, if each seed has its own) and the finite number of test samples.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
"""Of intervals."""
LEVEL = 0.01
"""Of tests: a p value below it, after correction, counts as a difference."""
POWER = 0.8
"""Probability with which the smallest detectable difference is found."""
RESOLUTION = 1e-12
"""Accuracies that differ by less are equal: they are fractions of N, computed in double precision."""


def half_width(values: Sequence[float]) -> float | None:
    """Return half the width of the confidence interval of Student's t for the mean of n values; None for fewer than two."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * standard_error(values)


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of n >= 2 values, from their sample standard deviation (n - 1)."""
    return deviation(values) / math.sqrt(len(values))


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation (n - 1) of n >= 2 values; NaN if one of them is not finite."""
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan


def paired_p(differences: Sequence[float]) -> float:
    """Return the p value of the two-sided paired t test, which asks whether the mean of n >= 2 differences is 0.

    Without any spread there is no t. Then it is the p value of the exact test that flips the signs of the differences: 1 if all
    are 0, else 2 / 2^n, as 2 of the 2^n ways to choose the signs are as extreme.
    """
    if max(differences) - min(differences) < RESOLUTION:
        return 1.0 if abs(differences[0]) < RESOLUTION else 2.0 ** (1 - len(differences))
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0.0).pvalue)  # by definition ttest_rel of the two methods


def combined_p(differences: Sequence[float], sample_error: float) -> float:
    """Return the p value of the mean difference against both sources of error together.

    The mean over sqrt(standard error over seeds ^ 2 + `sample_error` ^ 2) is compared with Student's t of n - 1 degrees of
    freedom. This is conservative: the effect of a seed on a single test sample is in both errors, and the second one is known
    from N - 1 degrees of freedom. Without any spread over seeds and samples it is that of `paired_p`.

    Args:
        differences: one for each seed, n >= 2.
        sample_error: standard error of their mean from the finite test set, see `error_of_test_set`.
    """
    seed_error = standard_error(differences)
    error = math.hypot(seed_error if seed_error >= RESOLUTION else 0.0, sample_error)
    if error < RESOLUTION:
        return paired_p(differences)
    from scipy.stats import t

    return float(2 * t.sf(abs(statistics.fmean(differences)) / error, len(differences) - 1))


def error_of_test_set(correct: npt.NDArray[np.bool_], baseline: npt.NDArray[np.bool_]) -> float:
    """Return the standard error of a mean difference in accuracy from the finite test set: that of d_i over its samples.

    d_i is the mean over seeds of the difference on test sample i.

    Args:
        correct: [S, N], whether a method is right about each sample, for each seed.
        baseline: [S, N], the same of the method that it is compared with, with the seeds in the same order.
    """
    differences = (correct.astype(np.int8) - baseline.astype(np.int8)).mean(0)
    return float(differences.std(ddof=1)) / math.sqrt(len(differences))


def binomial_error(accuracy: float, num_samples: int) -> float:
    """Return the standard error of a single accuracy from the finite test set, sqrt(p (1 - p) / N)."""
    return math.sqrt(accuracy * (1 - accuracy) / num_samples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values of m tests, corrected for their number by Holm's step-down method, in the order given.

    Reference: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6 (1979) 65-70.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def smallest_detectable(error: float, num_pairs: int, num_tests: int) -> float | None:
    """Return the true difference that a test finds with a probability of `POWER`, in the unit of `error`.

    It is for `LEVEL` / m, the level at which Holm's method tests the smallest of m p values: so it is the worst case.

    Args:
        error: standard error of the mean difference that the test compares it with; the same would be found again.
        num_pairs: n.
        num_tests: m.

    Returns:
        None if the error is 0.
    """
    return None if error < RESOLUTION else _detectable_noncentrality(num_pairs, LEVEL / num_tests) * error


@functools.cache
def _detectable_noncentrality(num_pairs: int, level: float) -> float:
    """Return the noncentrality at which a two-sided t test at a level has the wanted power.

    Only differences that are found with the right sign count, which is all but a part of `level` / 2.
    """
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    freedom = num_pairs - 1
    threshold = float(t.ppf(1 - level / 2, freedom))
    return float(brentq(lambda shift: nct.sf(threshold, freedom, shift) - POWER, 0.0, 4 * threshold + 10))


@dataclass(frozen=True)
class PairedTest:
    """What the pairs of two methods say about their difference.

    Attributes:
        p: of the paired t test.
        seed_error: standard error of the mean difference from seeds.
        sample_error: standard error of it from the finite test set; None if the predictions are not known.
        combined_p: p value against both errors; None likewise.
    """

    p: float
    seed_error: float
    sample_error: float | None
    combined_p: float | None

    @property
    def combined_error(self) -> float | None:
        """Both errors together; None if the predictions are not known."""
        return None if self.sample_error is None else math.hypot(self.seed_error, self.sample_error)

    @classmethod
    def of(
        cls, differences: Sequence[float], correct: npt.NDArray[np.bool_] | None, baseline: npt.NDArray[np.bool_] | None
    ) -> PairedTest:
        """Test n >= 2 differences, one for each seed.

        Args:
            differences: accuracy of a method minus that of the method that it is compared with.
            correct: of the method, see `error_of_test_set`; None if the predictions are not known.
            baseline: of the method that it is compared with; None likewise.
        """
        error = None if correct is None or baseline is None else error_of_test_set(correct, baseline)
        combined = None if error is None else combined_p(differences, error)
        return cls(paired_p(differences), standard_error(differences), error, combined)
