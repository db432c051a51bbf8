"""The comparison as one self-contained HTML file, which can be read offline and sent by mail. Imports no torch.

It holds no script and loads nothing, and its content security policy makes browsers enforce that.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from spikedistill.report import sources
from spikedistill.report.findings import Findings
from spikedistill.report.page.elements import anchor, facts, figure, paragraphs, preformatted, table
from spikedistill.report.page.summary import summary
from spikedistill.report.plots.catalogue import FIGURES
from spikedistill.report.plots.panels import Rendered
from spikedistill.report.records import Comparison, group_records
from spikedistill.report.sections import costs, provenance, ranking, significance
from spikedistill.report.tables.columns import EFFICIENCY, MEASURES, QUALITY, Column
from spikedistill.report.tables.notes import notes, time_notes
from spikedistill.report.tables.rows import MISSING, NOT_APPLICABLE, RESULT_HEADERS, TableRow, columns_of, result_cells

STYLE = Path(__file__).with_name("style.css")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
RUN_HEADERS = (
    *("artifact", "experiment", "method", "seed", "accuracy (%)", "epochs", "state"),
    *("measured in", "made from", "commit"),
)


def html_page(findings: Findings, figures: Mapping[str, Rendered]) -> str:
    """Return the whole report as the text of one HTML file.

    Args:
        findings: content of the report.
        figures: the figures of `FIGURES`, by name.
    """
    sections = _sections(findings, figures)
    links = "".join(f'<a href="#{anchor(title)}">{html.escape(title)}</a>' for title in sections)
    parts = "".join(f'<h2 id="{anchor(title)}">{html.escape(title)}</h2>\n{content}' for title, content in sections.items())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        '<title>spikedistill: results</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<h1>Comparison</h1>\n"
        f"{facts(summary(findings.comparison))}<nav>{links}</nav>\n{parts}</body>\n</html>\n"
    )


def _sections(findings: Findings, figures: Mapping[str, Rendered]) -> dict[str, str]:
    comparison, rows = findings.comparison, findings.rows
    methods = [row for row in rows if not row.published]
    robustness = [column for column in columns_of(rows) if column not in MEASURES]
    drawn = {FIGURES[name].title: figure(FIGURES[name].title, FIGURES[name].caption, each) for name, each in figures.items()}
    return {
        "Results": table(RESULT_HEADERS, [result_cells(row) for row in rows], 3, [_kind(row) for row in rows])
        + paragraphs(notes(rows)),
        **_tests(findings.tests),
        **_ranking(findings.sweeps),
        **drawn,
        "Quality": _columns(methods, QUALITY),
        **({"Robustness": _columns(methods, robustness)} if robustness else {}),
        "Work and speed": _columns(methods, EFFICIENCY) + paragraphs(time_notes(methods)),
        "Runs": _runs(comparison),
        "Cost": _costs(comparison),
        "Versions": table(provenance.HEADERS, provenance.cells(comparison.records), 2),
        "Configuration": preformatted(yaml.safe_dump(dict(comparison.config), sort_keys=False, allow_unicode=True)),
    }


def _tests(tests: Sequence[significance.Tested]) -> dict[str, str]:
    """Return the section about paired tests, if there are any."""
    if not tests:
        return {}
    kinds = ["significant" if each.is_significant else "run" for each in tests]
    made = table(significance.HEADERS, significance.cells(tests), significance.FIRST_NUMBER, kinds)
    return {significance.TITLE: made + paragraphs(significance.notes(tests))}


def _ranking(sweeps: Sequence[ranking.Sweep]) -> dict[str, str]:
    """Return the section about sweeps, if there is any."""
    if not sweeps:
        return {}
    told = [ranking.NOTE, *([ranking.UNRANKED] if any(not sweep.ranked for sweep in sweeps) else [])]
    return {"Sweeps": table(ranking.HEADERS, ranking.ranking_cells(sweeps), 2) + paragraphs(told)}


def _costs(comparison: Comparison) -> str:
    stages = table(costs.HEADERS, costs.cost_cells(comparison.costs), costs.FIRST_NUMBER, last_number=costs.LAST_NUMBER)
    return table(costs.TOTAL_HEADERS, costs.total_cells(comparison.costs), 1) + paragraphs([costs.NOTE]) + stages


def _kind(row: TableRow) -> str:
    if row.published:
        return "reported"
    return "missing" if row.problems else "teacher" if row.is_teacher else "student"


def _columns(rows: Sequence[TableRow], columns: Sequence[Column]) -> str:
    headers = ("experiment", "method", *(column.header for column in columns))
    cells = [[row.experiment, row.method, *(row.cell(column) for column in columns)] for row in rows]
    return table(headers, cells, 2, [_kind(row) for row in rows])


def _runs(comparison: Comparison) -> str:
    cells, kinds = [], []
    for run in (run for group in group_records(comparison.records) for run in group.runs):
        accuracy = MISSING if run.evaluation is None else f"{100 * run.evaluation['accuracy']:.2f}"
        epochs = str(len(run.metrics)) if run.metrics else NOT_APPLICABLE
        known = [run.artifact, run.experiment, run.method, str(run.seed), accuracy, epochs, run.problem or "measured"]
        cells.append([*known, *sources.origin(run)])
        kinds.append("missing" if run.evaluation is None else "run")
    return table(RUN_HEADERS, cells, 3, kinds, last_number=5) + paragraphs([sources.NOTE])
