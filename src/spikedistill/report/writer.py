"""Writes the report's files. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from spikedistill.report import figures, tables
from spikedistill.report.records import RunRecord


def write_report(records: Sequence[RunRecord], out: Path) -> list[Path]:
    """Write the tables and figures of a comparison, each file atomically.

    Args:
        records: what was run.
        out: folder of the report; made if it is not there.

    Returns:
        The files: results.csv, results.md, results.html, accuracy_over_time.svg, training_curves.svg, firing_rates.svg.
    """
    drawn = {
        "Accuracy over time steps": figures.accuracy_over_time(records),
        "Training curves": figures.training_curves(records),
        "Firing rates": figures.firing_rates(records),
    }
    contents = {
        "results.csv": tables.csv_table(records),
        "results.md": tables.markdown_table(records),
        "results.html": tables.html_page(records, drawn),
        "accuracy_over_time.svg": drawn["Accuracy over time steps"],
        "training_curves.svg": drawn["Training curves"],
        "firing_rates.svg": drawn["Firing rates"],
    }
    out.mkdir(parents=True, exist_ok=True)
    return [_write(out / name, text) for name, text in contents.items()]


def _write(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
