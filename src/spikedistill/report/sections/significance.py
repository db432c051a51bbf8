"""Paired tests of every method against the baselines of its experiment, over all experiments of a report. Imports no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from spikedistill.report.records import Comparison, Difference, Group, accuracies, group_records
from spikedistill.report.statistics import LEVEL, POWER, PairedTest, holm, smallest_detectable

TITLE = "Tests"
MIN_PAIRS = 3
"""Methods with fewer seeds are not tested."""
SIGNIFICANT = "†"
UNKNOWN = "-"


@dataclass(frozen=True)
class Tested:
    """A method against a baseline; differences and errors are those of accuracies in [0, 1].

    Attributes:
        experiment: label of the experiment.
        method: label of the method.
        against: label of the method that it is compared with.
        num_teachers: number of different teachers behind the pairs.
        difference: mean of the paired differences, with an interval that is not corrected for the number of tests.
        test: p values and standard errors.
        p_holm: p value of the paired t test, corrected for all tests of the report.
        combined_p_holm: p value against both sources of error, corrected likewise; None where it is not known.
        smallest_detectable: by the paired t test, see `statistics.smallest_detectable`.
        combined_smallest_detectable: by the test against both sources of error; None where the predictions are not known.
    """

    experiment: str
    method: str
    against: str
    num_teachers: int
    difference: Difference
    test: PairedTest
    p_holm: float
    combined_p_holm: float | None
    smallest_detectable: float | None
    combined_smallest_detectable: float | None

    @property
    def is_significant(self) -> bool:
        """True if the corrected p value of the paired t test is below the level."""
        return self.p_holm < LEVEL


@dataclass(frozen=True)
class _Pairs:
    """The runs of two methods that have a seed in common."""

    method: Group
    against: Group

    @property
    def differences(self) -> list[float]:
        mine, theirs = accuracies(self.method), accuracies(self.against)
        return [mine[seed] - theirs[seed] for seed in self.seeds]

    @property
    def seeds(self) -> list[int]:
        return sorted(accuracies(self.method).keys() & accuracies(self.against).keys())

    def correct(self, group: Group) -> npt.NDArray[np.bool_] | None:
        """Return [S, N], whether each run is right about each sample; None unless all runs of both methods know it."""
        found = {run.seed: run.correct for run in group.runs}
        rows = [row for seed in self.seeds if (row := found[seed]) is not None]
        return np.stack(rows) if len(rows) == len(self.seeds) else None

    @property
    def num_teachers(self) -> int:
        runs = [run for group in (self.method, self.against) for run in group.runs if run.seed in self.seeds]
        return len({teacher for run in runs for teacher in run.teachers})


def paired_tests(comparison: Comparison) -> list[Tested]:
    """Return every test of a report: the methods of an experiment against each of its baselines.

    A baseline is compared with those before it, too. Two methods are tested if they have `MIN_PAIRS` seeds in common.
    """
    pairs = [each for each in _all_pairs(comparison) if len(each.seeds) >= MIN_PAIRS]
    tests = [PairedTest.of(each.differences, each.correct(each.method), each.correct(each.against)) for each in pairs]
    corrected = holm([test.p for test in tests])
    combined = holm([1.0 if test.combined_p is None else test.combined_p for test in tests])
    return [
        _tested(each, test, corrected[i], None if test.combined_p is None else combined[i], len(tests))
        for i, (each, test) in enumerate(zip(pairs, tests, strict=True))
    ]


def _tested(pairs: _Pairs, test: PairedTest, p_holm: float, combined_p_holm: float | None, num_tests: int) -> Tested:
    difference = Difference.of(accuracies(pairs.method), accuracies(pairs.against))
    assert difference is not None
    size = (difference.num_pairs, num_tests)
    return Tested(
        experiment=pairs.method.experiment,
        method=pairs.method.method,
        against=pairs.against.method,
        num_teachers=pairs.num_teachers,
        difference=difference,
        test=test,
        p_holm=p_holm,
        combined_p_holm=combined_p_holm,
        smallest_detectable=smallest_detectable(test.seed_error, *size),
        combined_smallest_detectable=None if test.combined_error is None else smallest_detectable(test.combined_error, *size),
    )


def _all_pairs(comparison: Comparison) -> Iterator[_Pairs]:
    groups: dict[str, dict[str, Group]] = {}
    for group in group_records(comparison.records):
        if not group.is_teacher:
            groups.setdefault(group.experiment, {})[group.method] = group
    for experiment, methods in groups.items():
        baselines = comparison.baselines.get(experiment, ())
        for i, against in enumerate(baselines):
            done = baselines[: i + 1]
            yield from (_Pairs(group, methods[against]) for label, group in methods.items() if label not in done)


HEADERS = (
    *("experiment", "method", "against", "difference (points)", "pairs", "error: seeds", "error: test samples"),
    *("p", "p (Holm)", "p, both errors (Holm)", "smallest detectable (points)", "smallest detectable, both errors"),
)
FIRST_NUMBER = 3


def cells(tests: Sequence[Tested]) -> list[list[str]]:
    """Return the cells of a table under `HEADERS`."""
    return [_cells(each) for each in tests]


def _cells(tested: Tested) -> list[str]:
    test = tested.test
    errors = [_points(test.seed_error), _points(test.sample_error)]
    mark = f" {SIGNIFICANT}" if tested.is_significant else ""
    return [
        *(tested.experiment, tested.method, tested.against),
        *(tested.difference.format(100, 2), str(tested.difference.num_pairs), *errors),
        *(p_text(test.p), p_text(tested.p_holm) + mark, p_text(tested.combined_p_holm)),
        *(_points(tested.smallest_detectable), _points(tested.combined_smallest_detectable)),
    ]


def _points(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.2f}"


def p_text(value: float | None) -> str:
    """Return a p value with two significant digits."""
    return UNKNOWN if value is None else f"{value:.1e}" if value < 1e-4 else f"{value:.2g}"


def notes(tests: Sequence[Tested]) -> list[str]:
    """Return what the numbers of the table mean."""
    m = len(tests)
    found = [
        "Difference: mean over the pairs of equal seed, in percentage points, with its own 95 % confidence interval of Student's "
        "t, which is not corrected for the number of tests. p: of the two-sided paired t test. p (Holm): corrected by "
        f"Holm's method (1979) for all {m} tests of this report; {SIGNIFICANT} marks those below {LEVEL}.",
        "Errors: standard errors of the difference in points. Seeds: from the deviation of the differences over the n pairs. "
        "Test samples: from the finite test set, by the deviation over its samples of the difference averaged over seeds. "
        "p, both errors: the difference divided by the root of the sum of both squares, against Student's t of n - 1 degrees of "
        "freedom; conservative, since the effect of a seed on a single sample is in both.",
        "Smallest detectable: the true difference that a test with this n and these errors finds with a probability of "
        f"{POWER:.0%} at the level {LEVEL} / {m}, the strictest of Holm's method; of the paired t test, and of that against both "
        "errors. A smaller one may be there and not be found.",
    ]
    if any(each.num_teachers == 1 for each in tests):
        found.append(
            "Where all pairs have the same teacher, the tests say nothing about other teachers; with teacher.seed: student, "
            "each pair has its own."
        )
    if any(each.test.sample_error is None for each in tests):
        found.append(f"{UNKNOWN}: evaluated by a version that did not keep the predictions.")
    return found


def markdown(tests: Sequence[Tested]) -> str:
    """Return the section as Markdown; empty without tests."""
    if not tests:
        return ""
    align = (*("left",) * FIRST_NUMBER, *("right",) * (len(HEADERS) - FIRST_NUMBER))
    table = tabulate(cells(tests), headers=HEADERS, tablefmt="github", colalign=align, disable_numparse=True)
    return "\n\n".join([f"## {TITLE}", table, *notes(tests)]) + "\n"


CSV_HEADERS = (
    *("experiment", "method", "against", "num_pairs", "num_teachers"),
    *("difference_points", "difference_low_points", "difference_high_points"),
    *("seed_error_points", "test_set_error_points", "p", "p_holm", "p_both_errors", "p_both_errors_holm"),
    *("smallest_detectable_points", "smallest_detectable_both_errors_points", "num_tests", "level"),
)


def csv_table(tests: Sequence[Tested]) -> str:
    """Return all tests as CSV with plain numbers; unknown values are empty. Without tests it has the header alone."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADERS)
    writer.writerows(_csv_values(each, len(tests)) for each in tests)
    return text.getvalue()


def _csv_values(tested: Tested, num_tests: int) -> list[object]:
    difference, test = tested.difference, tested.test
    points = [difference.mean, difference.low, difference.high, test.seed_error, test.sample_error]
    detectable = [tested.smallest_detectable, tested.combined_smallest_detectable]
    p_values = [test.p, tested.p_holm, test.combined_p, tested.combined_p_holm]
    return [
        *(tested.experiment, tested.method, tested.against, difference.num_pairs, tested.num_teachers),
        *("" if value is None else round(100 * value, 6) for value in points),
        *("" if p is None else float(f"{p:.6g}") for p in p_values),
        *("" if value is None else round(100 * value, 6) for value in detectable),
        *(num_tests, LEVEL),
    ]
