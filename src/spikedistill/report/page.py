"""The comparison as one self-contained HTML file, which can be read offline and sent by mail. Imports no torch."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from spikedistill.report import trace
from spikedistill.report.records import Comparison, group_records
from spikedistill.report.sections import costs, provenance, ranking, significance
from spikedistill.report.tables import (
    EFFICIENCY,
    MISSING,
    NOT_APPLICABLE,
    QUALITY,
    RESULT_HEADERS,
    Column,
    TableRow,
    build_rows,
    notes,
    result_cells,
    robustness_columns,
)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 80em; padding: 0 1em; }
body { color: #1a1a1a; background: #fff; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5em 0 1em; }
th, td { padding: .35em .9em; text-align: left; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }
th { border-bottom: 2px solid #555; vertical-align: bottom; }
th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid #0072b2; }
th button::after { content: " \\2195"; color: #888; }
th[aria-sort=ascending] button::after { content: " \\2191"; color: #000; }
th[aria-sort=descending] button::after { content: " \\2193"; color: #000; }
td.number, th.number { text-align: right; }
td { white-space: nowrap; }
td.text:last-child { white-space: normal; }
tr.teacher td { background: #f2f2f2; }
tr.reported td { font-style: italic; color: #555; }
tr.significant td { font-weight: 600; }
tr.missing td { color: #a33; }
img { max-width: 100%; }
pre { background: #f6f6f6; padding: 1em; overflow-x: auto; }
input { font: inherit; padding: .2em .5em; width: 20em; }
nav a { margin-right: 1.2em; }
"""

# Sorts a table by a column, numbers by value ("97.5 ± 0.2" counts as 97.5), and hides rows that lack a word of the filter.
_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const value = (row, i) => { const text = row.cells[i].textContent, n = parseFloat(text); return isNaN(n) ? text : n; };
  const order = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
  table.querySelectorAll("th button").forEach((button, i) => button.addEventListener("click", () => {
    const head = button.parentElement, descending = head.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th").forEach(each => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const rows = [...body.rows].sort((a, b) => order(value(a, i), value(b, i)) * (descending ? -1 : 1));
    body.append(...rows);
  }));
  const filter = table.closest("section").querySelector("input");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\\s+/);
    for (const row of body.rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
  });
}
"""


def html_page(comparison: Comparison, figures: Mapping[str, str]) -> str:
    """Return the whole report as the text of one HTML file.

    Args:
        comparison: content of the report.
        figures: SVG text by title.
    """
    rows = build_rows(comparison)
    kinds = [_kind(row) for row in rows]
    methods = [row for row in rows if not row.published]
    sections = {
        "Results": _table(RESULT_HEADERS, [result_cells(row) for row in rows], 3, kinds) + _paragraphs(notes(rows)),
        **_tests(comparison),
        **_ranking(comparison),
        **{title: _image(title, svg) for title, svg in figures.items()},
        "Quality": _columns(methods, QUALITY),
        **({"Robustness": _columns(methods, columns)} if (columns := robustness_columns(comparison)) else {}),
        "Work and speed": _columns(methods, EFFICIENCY),
        "Runs": _runs(comparison),
        "Cost": _table(costs.TOTAL_HEADERS, costs.total_cells(comparison.costs), 1)
        + _paragraphs([costs.NOTE])
        + _table(costs.HEADERS, costs.cost_cells(comparison.costs), costs.FIRST_NUMBER, last_number=costs.LAST_NUMBER),
        "Versions": _table(provenance.HEADERS, provenance.cells(comparison.records), 2),
        "Configuration": f"<pre>{html.escape(_yaml(comparison.config))}</pre>\n",
    }
    links = "".join(f'<a href="#{_anchor(title)}">{html.escape(title)}</a>' for title in sections)
    parts = "".join(f'<h2 id="{_anchor(title)}">{html.escape(title)}</h2>\n{content}' for title, content in sections.items())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>spikedistill: results</title>\n'
        f'<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Comparison</h1>\n<nav>{links}</nav>\n'
        f"{parts}<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _tests(comparison: Comparison) -> dict[str, str]:
    """Return the section about paired tests, if there are any."""
    tests = significance.paired_tests(comparison)
    if not tests:
        return {}
    kinds = ["significant" if each.is_significant else "run" for each in tests]
    table = _table(significance.HEADERS, significance.cells(tests), significance.FIRST_NUMBER, kinds)
    return {significance.TITLE: table + _paragraphs(significance.notes(tests))}


def _ranking(comparison: Comparison) -> dict[str, str]:
    """Return the section about sweeps, if there is any."""
    sweeps = ranking.rank_sweeps(comparison.records)
    if not sweeps:
        return {}
    notes = [ranking.NOTE, *([ranking.UNRANKED] if any(not sweep.ranked for sweep in sweeps) else [])]
    return {"Sweeps": _table(ranking.HEADERS, ranking.ranking_cells(sweeps), 2) + _paragraphs(notes)}


def _yaml(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)


def _anchor(title: str) -> str:
    return html.escape(title.lower().replace(" ", "-"), quote=True)


def _kind(row: TableRow) -> str:
    if row.published:
        return "reported"
    return "missing" if row.problems else "teacher" if row.is_teacher else "student"


def _image(title: str, svg: str) -> str:
    source = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{html.escape(title, quote=True)}" src="data:image/svg+xml;base64,{source}">\n'


def _paragraphs(texts: Sequence[str]) -> str:
    return "".join(f"<p>{html.escape(text)}</p>\n" for text in texts)


def _columns(rows: Sequence[TableRow], columns: Sequence[Column]) -> str:
    headers = ("experiment", "method", *(column.header for column in columns))
    cells = [[row.experiment, row.method, *(row.cell(column) for column in columns)] for row in rows]
    return _table(headers, cells, 2, [_kind(row) for row in rows])


def _runs(comparison: Comparison) -> str:
    headers = (
        "artifact",
        "experiment",
        "method",
        "seed",
        "accuracy (%)",
        "epochs",
        "state",
        "measured in",
        "made from",
        "commit",
    )
    cells, kinds = [], []
    for group in group_records(comparison.records):
        for run in group.runs:
            accuracy = MISSING if run.evaluation is None else f"{100 * run.evaluation['accuracy']:.2f}"
            epochs = str(len(run.metrics)) if run.metrics else NOT_APPLICABLE
            known = [run.artifact, run.experiment, run.method, str(run.seed), accuracy, epochs, run.problem or "measured"]
            cells.append([*known, *trace.origin(run)])
            kinds.append("missing" if run.evaluation is None else "run")
    return _table(headers, cells, 3, kinds, last_number=5) + _paragraphs([trace.NOTE])


def _table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    first_number: int,
    kinds: Sequence[str] | None = None,
    last_number: int | None = None,
) -> str:
    """Return a table that can be sorted and filtered; its columns from `first_number` to `last_number` hold numbers."""
    last = len(headers) - 1 if last_number is None else last_number
    of_column = ["number" if first_number <= i <= last else "text" for i in range(len(headers))]
    head = "".join(
        f'<th class="{kind}"><button type="button">{html.escape(text)}</button></th>'
        for kind, text in zip(of_column, headers, strict=True)
    )
    body = "".join(
        f'<tr class="{kind}">'
        + "".join(f'<td class="{c}">{html.escape(cell)}</td>' for c, cell in zip(of_column, cells, strict=True))
        + "</tr>\n"
        for kind, cells in zip(kinds or ["run"] * len(rows), rows, strict=True)
    )
    return (
        '<section>\n<input type="search" placeholder="show rows with …" aria-label="Filter rows">\n<div class="wide"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n</section>\n"
    )
