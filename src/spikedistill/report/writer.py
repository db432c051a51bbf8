"""Writes the report's files. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from spikedistill.report import costs, page, tables
from spikedistill.report.plots import curves as figures
from spikedistill.report.plots import pictures
from spikedistill.report.records import Comparison, RunRecord

LONG_AGO = 315_532_800  # 1980-01-01: older than any artifact, and a date that every archive can hold
FIGURES: dict[str, tuple[str, Callable[[Sequence[RunRecord]], str]]] = {
    "accuracy_over_time.svg": ("Accuracy over time steps", figures.accuracy_over_time),
    "accuracy_over_energy.svg": ("Accuracy against energy", figures.accuracy_over_energy),
    "training_curves.svg": ("Training curves", figures.training_curves),
    "firing_rates.svg": ("Firing rates", figures.firing_rates),
    "confusion_matrices.svg": ("Confusion matrices", pictures.confusion_matrices),
    "saliency_maps.svg": ("Saliency maps", pictures.saliency_maps),
    "event_frames.svg": ("Event frames", pictures.event_frames),
}


def write_report(comparison: Comparison, out: Path) -> list[Path]:
    """Write the tables and figures of a comparison, each file atomically.

    Args:
        comparison: what was run.
        out: folder of the report; made if it is not there.

    Returns:
        The files: results.csv, .md, .tex and .html, costs.csv, and those of `FIGURES`.
    """
    drawn = {name: draw(comparison.records) for name, (_, draw) in FIGURES.items()}
    contents = {
        "results.csv": tables.csv_table(comparison),
        "results.md": tables.markdown_table(comparison),
        "results.tex": tables.latex_table(comparison),
        "results.html": page.html_page(comparison, {FIGURES[name][0]: svg for name, svg in drawn.items()}),
        "costs.csv": costs.csv_table(comparison.costs),
        **drawn,
    }
    out.mkdir(parents=True, exist_ok=True)
    return [_write(out / name, text) for name, text in contents.items()]


def backdate(files: Sequence[Path]) -> None:
    """Date files back, so that Snakemake takes them for older than anything that they are made from, and makes them again."""
    for file in files:
        os.utime(file, (LONG_AGO, LONG_AGO))


def _write(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
