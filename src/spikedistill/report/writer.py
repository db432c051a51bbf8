"""Writes the files of a report. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from spikedistill.report import sources
from spikedistill.report.findings import Findings
from spikedistill.report.page.page import html_page
from spikedistill.report.paper.figures import FigurePages, figures_tex
from spikedistill.report.paper.table import latex_tables
from spikedistill.report.plots.catalogue import FIGURES
from spikedistill.report.plots.panels import Rendered
from spikedistill.report.sections import costs, significance
from spikedistill.report.tables.csv_file import csv_table
from spikedistill.report.tables.plain import markdown_table
from spikedistill.store.atomic import write_bytes

LONG_AGO = 315_532_800  # 1980-01-01: older than any artifact, and the earliest date that ZIP archives can hold


def write_report(findings: Findings, out: Path) -> list[Path]:
    """Write the tables and figures of a comparison, each file atomically.

    Args:
        findings: content of the report.
        out: folder of the report; it is created if missing.

    Returns:
        The files: results.csv, .md, .tex and .html, tests.csv, costs.csv, figures.tex, each of `FIGURES` as .svg and .pdf, and
        sources.json.
    """
    comparison, tests = findings.comparison, findings.tests
    drawn = {stem: kind.render(comparison.records) for stem, kind in FIGURES.items()}
    texts = {
        "results.csv": csv_table(findings.rows),
        "results.md": "\n".join(filter(None, [markdown_table(findings.rows), significance.markdown(tests)])),
        "results.tex": latex_tables(findings.rows, len(tests)),
        "results.html": html_page(findings, drawn),
        "tests.csv": significance.csv_table(tests),
        "costs.csv": costs.csv_table(comparison.costs),
        "figures.tex": figures_tex(FigurePages(stem, FIGURES[stem].caption, drawn[stem].subjects) for stem in drawn),
    }
    contents = {name: text.encode() for name, text in texts.items()} | _figure_files(drawn)
    contents[sources.FILE] = sources.sources_text(comparison, list(contents)).encode()
    out.mkdir(parents=True, exist_ok=True)
    return [write_bytes(out / name, content) for name, content in contents.items()]


def _figure_files(drawn: dict[str, Rendered]) -> dict[str, bytes]:
    svgs = {f"{stem}.svg": figure.svg.encode() for stem, figure in drawn.items()}
    return svgs | {f"{stem}.pdf": figure.pdf for stem, figure in drawn.items()}


def backdate(files: Sequence[Path]) -> None:
    """Set the modification time of files to long ago, so that Snakemake considers them outdated and makes them again."""
    for file in files:
        os.utime(file, (LONG_AGO, LONG_AGO))
