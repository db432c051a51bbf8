"""The comparison as text for people: in the terminal and as Markdown. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from spikedistill.report.tables.notes import notes
from spikedistill.report.tables.rows import RESULT_HEADERS, TableRow, result_cells

FIRST_NUMBER = 3
"""Columns from this one on hold numbers."""


def terminal_table(rows: Sequence[TableRow]) -> str:
    """Return the comparison as a table for the terminal, followed by the missing runs."""
    missing = [f"missing: {row.experiment}, {row.method}, {problem}" for row in rows for problem in row.problems]
    return "\n".join([_tabulate(rows, "simple"), *missing])


def markdown_table(rows: Sequence[TableRow]) -> str:
    """Return the comparison as Markdown."""
    return "\n\n".join([_tabulate(rows, "github"), *notes(rows)]) + "\n"


def _tabulate(rows: Sequence[TableRow], style: str) -> str:
    align = (*("left",) * FIRST_NUMBER, *("right" for _ in RESULT_HEADERS[FIRST_NUMBER:]))
    cells = [result_cells(row) for row in rows]
    return tabulate(cells, headers=RESULT_HEADERS, tablefmt=style, colalign=align if rows else None, disable_numparse=True)
