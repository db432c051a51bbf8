"""Writes the files of a report. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from spikedistill.report import page, tables, trace
from spikedistill.report.plots import curves, pictures, sweeps
from spikedistill.report.records import Comparison, RunRecord
from spikedistill.report.sections import costs, significance
from spikedistill.store.atomic import write_text

LONG_AGO = 315_532_800  # 1980-01-01: older than any artifact, and the earliest date that ZIP archives can hold
FIGURES: dict[str, tuple[str, Callable[[Sequence[RunRecord]], str]]] = {
    "accuracy_over_time.svg": ("Accuracy over time steps", curves.accuracy_over_time),
    "accuracy_over_energy.svg": ("Accuracy against energy", curves.accuracy_over_energy),
    "accuracy_over_sweep.svg": ("Accuracy against a swept number", sweeps.accuracy_over_sweep),
    "training_curves.svg": ("Training curves", curves.training_curves),
    "firing_rates.svg": ("Firing rates", curves.firing_rates),
    "confusion_matrices.svg": ("Confusion matrices", pictures.confusion_matrices),
    "saliency_maps.svg": ("Saliency maps", pictures.saliency_maps),
    "event_frames.svg": ("Event frames", pictures.event_frames),
}


def write_report(comparison: Comparison, out: Path) -> list[Path]:
    """Write the tables and figures of a comparison, each file atomically.

    Args:
        comparison: content of the report.
        out: folder of the report; it is created if missing.

    Returns:
        The files: results.csv, .md, .tex and .html, tests.csv, costs.csv, those of `FIGURES`, and sources.json.
    """
    tests = significance.paired_tests(comparison)
    drawn = {name: draw(comparison.records) for name, (_, draw) in FIGURES.items()}
    contents = {
        "results.csv": tables.csv_table(comparison),
        "results.md": "\n".join(filter(None, [tables.markdown_table(comparison), significance.markdown(tests)])),
        "results.tex": tables.latex_table(comparison),
        "results.html": page.html_page(comparison, {FIGURES[name][0]: svg for name, svg in drawn.items()}),
        "tests.csv": significance.csv_table(tests),
        "costs.csv": costs.csv_table(comparison.costs),
        **drawn,
    }
    contents[trace.SOURCES] = trace.sources_text(comparison, list(contents))
    out.mkdir(parents=True, exist_ok=True)
    return [write_text(out / name, text) for name, text in contents.items()]


def backdate(files: Sequence[Path]) -> None:
    """Set the modification time of files to long ago, so that Snakemake considers them outdated and makes them again."""
    for file in files:
        os.utime(file, (LONG_AGO, LONG_AGO))
