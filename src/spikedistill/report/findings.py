"""What a report says about a comparison, worked out once for all its files. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from spikedistill.report.records import Comparison
from spikedistill.report.sections.ranking import Sweep, rank_sweeps
from spikedistill.report.sections.significance import Tested, paired_tests
from spikedistill.report.tables.rows import TableRow, build_rows


@dataclass(frozen=True)
class Findings:
    """A comparison with what follows from it.

    Attributes:
        comparison: what was collected.
        tests: all paired tests, corrected for their number.
        rows: the rows of its tables.
        sweeps: its sweeps, ranked by the validation split.
    """

    comparison: Comparison
    tests: tuple[Tested, ...]
    rows: tuple[TableRow, ...]
    sweeps: tuple[Sweep, ...]

    @classmethod
    def of(cls, comparison: Comparison) -> Findings:
        """Compute them."""
        tests = paired_tests(comparison)
        rows = build_rows(comparison, tests)
        return cls(comparison, tuple(tests), tuple(rows), tuple(rank_sweeps(comparison.records)))
