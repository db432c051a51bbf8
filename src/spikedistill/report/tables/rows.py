"""The rows of the comparison: one per experiment and method, mean ± standard deviation over seeds. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spikedistill.report.published import PublishedResult
from spikedistill.report.records import Comparison, Difference, Group, Spread, difference, group_records, measurements
from spikedistill.report.sections.significance import Tested, p_text
from spikedistill.report.tables.columns import ACCURACY, MEASURES, RESULTS, Column, robustness_columns

MISSING = "missing"
NOT_APPLICABLE = "-"
NOT_ALONE = "‡"
"""Marks times that were measured while other stages ran on the same machine."""


@dataclass(frozen=True)
class TableRow:
    """One line of the comparison: the measurements of a method, or a published result.

    Attributes:
        experiment: label of the experiment.
        dataset: name of the dataset.
        method: label of the method; "teacher" for teachers.
        arch: name of the architecture.
        time_steps: time steps T; None for teachers.
        measured: mean and deviation by quantity, in the unit of evaluation.json; None where nothing was measured.
        difference: accuracy minus that of the baseline.
        test: the paired test of that difference; None for fewer than three pairs.
        is_teacher: True for the teachers of the experiment.
        is_baseline: True for the method that the others are compared with.
        num_seeds: number of runs that were measured.
        num_teachers: number of different teachers behind them; 0 where it is not known.
        num_timed_alone: number of runs that were measured while no other stage ran on the same machine.
        problems: for each run without an evaluation, why.
        published: the published result; None for a measured row.
    """

    experiment: str
    dataset: str
    method: str
    arch: str
    time_steps: int | None
    measured: dict[Column, Spread | None] = field(default_factory=dict)
    difference: Difference | None = None
    test: Tested | None = None
    is_teacher: bool = False
    is_baseline: bool = False
    num_seeds: int = 0
    num_teachers: int = 0
    num_timed_alone: int = 0
    problems: tuple[str, ...] = ()
    published: PublishedResult | None = None

    def cell(self, column: Column) -> str:
        """Return a quantity as text."""
        if self.published is not None:
            return f"{self.published.accuracy:.2f}" if column is ACCURACY else NOT_APPLICABLE
        spread = self.measured.get(column)
        if spread is None:
            return MISSING if not self.num_seeds and not (self.is_teacher and column.students_only) else NOT_APPLICABLE
        mark = f" {NOT_ALONE}" if column.timed and self.num_timed_alone < self.num_seeds else ""
        return (spread * column.factor).format(column.digits) + mark

    def names(self) -> list[str]:
        """Return experiment, method, architecture and T as text."""
        method = f"{self.method} (reported)" if self.published else self.method
        return [self.experiment, method, self.arch, NOT_APPLICABLE if self.time_steps is None else str(self.time_steps)]

    def against_baseline(self) -> str:
        """Return the difference to the baseline in percentage points, as text."""
        if self.is_baseline:
            return "baseline"
        return self.difference.format(100, 2) if self.difference else NOT_APPLICABLE

    def corrected_p(self) -> str:
        """Return the p value of the difference after correction for all tests of the report, as text."""
        return p_text(self.test.p_holm) if self.test else NOT_APPLICABLE

    def seeds(self) -> str:
        """Return the number of seeds that were measured and the number that are missing, as text."""
        if self.published:
            return NOT_APPLICABLE
        return str(self.num_seeds) + (f" ({len(self.problems)} missing)" if self.problems else "")


RESULT_HEADERS = (
    *("experiment", "method", "architecture", "T"),
    *(ACCURACY.header, "against baseline (points)", "p (Holm)"),
    *(column.header for column in RESULTS[1:]),
    "seeds",
)


def result_cells(row: TableRow) -> list[str]:
    """Return the cells of a row of the main table, under `RESULT_HEADERS`."""
    rest = [row.cell(column) for column in RESULTS[1:]]
    return [*row.names(), row.cell(ACCURACY), row.against_baseline(), row.corrected_p(), *rest, row.seeds()]


def build_rows(comparison: Comparison, tests: Sequence[Tested]) -> list[TableRow]:
    """Return the rows: per experiment its teacher, its methods in the order of the records, then the published results.

    Args:
        comparison: content of the report.
        tests: its paired tests; a row has the one against the first baseline of its experiment.
    """
    groups = group_records(comparison.records)
    columns = (*MEASURES, *robustness_columns(m for group in groups for m in measurements(group)))
    tested = {(each.experiment, each.method, each.against): each for each in tests}
    rows: list[TableRow] = []
    for experiment in dict.fromkeys(group.experiment for group in groups):
        own = [group for group in groups if group.experiment == experiment]
        baseline = next((group for group in own if group.is_baseline), None)
        rows += [_row(group, baseline, columns, tested) for group in own]
        rows += [
            TableRow(experiment, each.dataset, each.method, each.arch, each.time_steps, published=each)
            for each in comparison.published.get(experiment, ())
        ]
    return rows


def columns_of(rows: Sequence[TableRow]) -> tuple[Column, ...]:
    """Return every quantity that rows can hold: those of all comparisons, then the accuracies on corrupted samples."""
    return tuple(dict.fromkeys((*MEASURES, *(column for row in rows for column in row.measured))))


def _row(
    group: Group, baseline: Group | None, columns: Sequence[Column], tested: Mapping[tuple[str, str, str], Tested]
) -> TableRow:
    first, measured = group.runs[0], measurements(group)
    values = {column: [v for m in measured if (v := column.read(m)) is not None] for column in columns}
    return TableRow(
        experiment=group.experiment,
        dataset=first.dataset,
        method=group.method,
        arch=first.arch,
        time_steps=first.time_steps,
        measured={column: Spread.of(each) for column, each in values.items()},
        difference=difference(group, baseline),
        test=tested.get((group.experiment, group.method, baseline.method)) if baseline else None,
        is_teacher=group.is_teacher,
        is_baseline=group.is_baseline,
        num_seeds=len(measured),
        num_teachers=0 if group.is_teacher else len(group.teachers),
        num_timed_alone=sum(run.timed_alone is True for run in group.runs if run.evaluation is not None),
        problems=tuple(f"seed {run.seed}: {run.problem or 'not evaluated'}" for run in group.runs if run.evaluation is None),
    )
