"""The comparison as a table: one row per experiment and method, mean ± standard deviation over seeds. Imports no torch."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from spikedistill.report.records import Group, RunRecord, Spread, group_records, measurements

HEADERS = (
    "experiment",
    "method",
    "architecture",
    "T",
    "accuracy (%)",
    "accuracy after 1 step (%)",
    "firing rate",
    "seeds",
)
CSV_HEADERS = (
    "experiment",
    "dataset",
    "method",
    "architecture",
    "time_steps",
    "accuracy_percent_mean",
    "accuracy_percent_std",
    "accuracy_after_1_step_percent_mean",
    "accuracy_after_1_step_percent_std",
    "firing_rate_mean",
    "firing_rate_std",
    "num_seeds",
    "num_missing",
)
NOTE = (
    "Accuracy: on the test split, of the mean of the logits over all T time steps, after the last epoch. "
    "Firing rate: spikes per neuron and time step. Mean ± sample standard deviation over seeds. "
    "The teacher is a non-spiking network."
)
MISSING = "missing"
NOT_APPLICABLE = "-"


@dataclass(frozen=True)
class TableRow:
    """One line of the comparison. Accuracies are fractions; None where nothing was measured."""

    experiment: str
    dataset: str
    method: str
    arch: str
    time_steps: int | None
    accuracy: Spread | None
    first_step: Spread | None
    firing_rate: Spread | None
    num_seeds: int
    """Runs that were measured."""
    num_missing: int
    """Runs that were asked for and have no evaluation."""

    def cells(self) -> list[str]:
        """The row as text, under `HEADERS`."""
        students_only = MISSING if self.time_steps is not None else NOT_APPLICABLE
        percent = [spread and (spread * 100).format(2) for spread in (self.accuracy, self.first_step)]
        return [
            self.experiment,
            self.method,
            self.arch,
            NOT_APPLICABLE if self.time_steps is None else str(self.time_steps),
            percent[0] or MISSING,
            percent[1] or students_only,
            self.firing_rate.format(3) if self.firing_rate else students_only,
            str(self.num_seeds) + (f" ({self.num_missing} missing)" if self.num_missing else ""),
        ]

    def values(self) -> list[object]:
        """The row as numbers, under `CSV_HEADERS`; empty where nothing was measured."""
        numbers: list[object] = []
        for spread, factor in ((self.accuracy, 100), (self.first_step, 100), (self.firing_rate, 1)):
            scaled = spread * factor if spread else None
            numbers += [_number(scaled.mean), _number(scaled.std)] if scaled else ["", ""]
        names = [self.experiment, self.dataset, self.method, self.arch, _number(self.time_steps)]
        return [*names, *numbers, self.num_seeds, self.num_missing]


def _number(value: float | None) -> object:
    return "" if value is None else round(value, 6)


def build_rows(records: Sequence[RunRecord]) -> list[TableRow]:
    """The rows of the comparison: per experiment its teacher, then its methods in the order of the records."""
    return [_row(group) for group in group_records(records)]


def _row(group: Group) -> TableRow:
    first = group.runs[0]
    measured = measurements(group)
    return TableRow(
        experiment=group.experiment,
        dataset=first.dataset,
        method=group.method,
        arch=first.arch,
        time_steps=first.time_steps,
        accuracy=Spread.of([m["accuracy"] for m in measured]),
        first_step=Spread.of([m["accuracy_at_step"][0] for m in measured if m.get("accuracy_at_step")]),
        firing_rate=Spread.of([m["firing_rate"]["mean"] for m in measured if m.get("firing_rate")]),
        num_seeds=len(measured),
        num_missing=len(group.runs) - len(measured),
    )


def terminal_table(records: Sequence[RunRecord]) -> str:
    """The comparison for a terminal."""
    return _tabulate(build_rows(records), "simple")


def _tabulate(rows: Sequence[TableRow], style: str) -> str:
    align = ("left", "left", "left", "right", "right", "right", "right", "right")
    return tabulate(
        [row.cells() for row in rows], headers=HEADERS, tablefmt=style, colalign=align if rows else None, disable_numparse=True
    )


def csv_table(records: Sequence[RunRecord]) -> str:
    """The comparison as CSV with plain numbers; accuracies in percent."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADERS)
    writer.writerows(row.values() for row in build_rows(records))
    return text.getvalue()


def markdown_table(records: Sequence[RunRecord]) -> str:
    """The comparison as Markdown."""
    return f"{_tabulate(build_rows(records), 'github')}\n\n{NOTE}\n"


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }
body { color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .35em .9em; text-align: left; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }
th { border-bottom: 2px solid #555; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr.teacher td { background: #f2f2f2; }
tr.missing td { color: #a33; }
img { max-width: 100%; }
code { font-size: 90%; }
"""
_FIRST_NUMBER = HEADERS.index("T")


def html_page(records: Sequence[RunRecord], figures: Mapping[str, str]) -> str:
    """The comparison, the figures and the single runs as one HTML file that loads nothing else.

    Args:
        records: what was run.
        figures: SVG text by title.
    """
    pictures = "".join(
        f'<h2>{html.escape(title)}</h2>\n<img alt="{html.escape(title)}" src="data:image/svg+xml;base64,'
        f'{base64.b64encode(svg.encode()).decode()}">\n'
        for title, svg in figures.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>spikedistill: results</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Results</h1>\n{_html_results(records)}<p>{html.escape(NOTE)}</p>\n"
        f"{pictures}<h2>Runs</h2>\n{_html_runs(records)}</body>\n</html>\n"
    )


def _html_results(records: Sequence[RunRecord]) -> str:
    rows = build_rows(records)
    classes = ["missing" if row.num_missing else "teacher" if row.time_steps is None else "student" for row in rows]
    return _html_table(HEADERS, [row.cells() for row in rows], classes, _FIRST_NUMBER)


def _html_runs(records: Sequence[RunRecord]) -> str:
    headers = ("artifact", "experiment", "method", "seed", "accuracy (%)", "epochs", "wall time (s)")
    cells = [
        [
            run.artifact,
            run.experiment,
            run.method,
            str(run.seed),
            MISSING if run.evaluation is None else f"{100 * run.evaluation['accuracy']:.2f}",
            str(len(run.metrics)),
            f"{run.manifest['wall_s']:.1f}" if "wall_s" in run.manifest else NOT_APPLICABLE,
        ]
        for group in group_records(records)
        for run in group.runs
    ]
    return _html_table(headers, cells, ["run"] * len(cells), headers.index("seed"))


def _html_table(headers: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str], first_number: int) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = ("text" if i < first_number else "number" for i in range(len(cells)))
        return "".join(f'<{tag} class="{kind}">{html.escape(cell)}</{tag}>' for kind, cell in zip(kinds, cells, strict=True))

    body = "".join(f'<tr class="{kind}">{line("td", cells)}</tr>\n' for kind, cells in zip(classes, rows, strict=True))
    return f"<table>\n<thead><tr>{line('th', headers)}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"
