"""The comparison as CSV for programs. Imports no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from spikedistill.report.tables.columns import ACCURACY, Column
from spikedistill.report.tables.rows import TableRow, columns_of

MEASURED = "measured"
FIRST_HEADERS = (
    *("experiment", "dataset", "method", "architecture", "time_steps", "source", "num_seeds", "num_missing"),
    *("difference_percent_mean", "difference_percent_low", "difference_percent_high", "difference_num_pairs"),
)
LAST_HEADERS = ("num_timed_alone",)


def csv_table(rows: Sequence[TableRow]) -> str:
    """Return the comparison as CSV with plain numbers of every measured quantity; missing values are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = columns_of(rows)
    names = (f"{column.name}_{part}" for column in columns for part in ("mean", "std"))
    writer.writerow([*FIRST_HEADERS, *names, *LAST_HEADERS])
    writer.writerows(_values(row, columns) for row in rows)
    return text.getvalue()


def _values(row: TableRow, columns: Sequence[Column]) -> list[object]:
    source = f"reported: {row.published.source}" if row.published else MEASURED
    names: list[object] = [row.experiment, row.dataset, row.method, row.arch, _number(row.time_steps), source]
    counts: list[object] = ["", ""] if row.published else [row.num_seeds, len(row.problems)]
    paired = row.difference
    bounds = [paired.mean, paired.low, paired.high] if paired else [None] * 3
    values = [*names, *counts, *(_number(each, 100) for each in bounds), paired.num_pairs if paired else ""]
    for column in columns:
        spread = row.measured.get(column)
        if row.published and column is ACCURACY:
            values += [row.published.accuracy, ""]
        elif spread is None:
            values += ["", ""]
        else:
            values += [_number(spread.mean, column.factor), _number(spread.std, column.factor)]
    return [*values, "" if row.published else row.num_timed_alone]


def _number(value: float | None, factor: float = 1) -> object:
    return "" if value is None else round(value * factor, 6)
