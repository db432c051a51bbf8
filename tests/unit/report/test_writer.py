from __future__ import annotations

import pytest

from spikedistill.report.findings import Findings
from spikedistill.report.plots.catalogue import FIGURES
from spikedistill.report.writer import backdate, write_report

DRAWINGS = [f"{stem}.{ending}" for ending in ("svg", "pdf") for stem in FIGURES]
TABLES = ["results.csv", "results.md", "results.tex", "results.html", "tests.csv", "costs.csv", "figures.tex"]
FILES = [*TABLES, *DRAWINGS, "sources.json"]


def test_writes_every_file_and_leaves_nothing_else(compared, tmp_path):
    out = tmp_path / "a new folder" / "results"
    assert write_report(Findings.of(compared), out) == [out / name for name in FILES]
    assert sorted(p.name for p in out.iterdir()) == sorted(FILES)
    assert "92.00 ± 2.83" in (out / "results.md").read_text(encoding="utf-8")
    assert "a GPU" in (out / "costs.csv").read_text(encoding="utf-8")


def test_second_report_replaces_the_first_with_equal_bytes(compared, tmp_path):
    before = {path.name: path.read_bytes() for path in write_report(Findings.of(compared), tmp_path)}
    after = {path.name: path.read_bytes() for path in write_report(Findings.of(compared), tmp_path)}
    assert after == before


def test_failure_leaves_the_old_report_intact(compared, tmp_path):
    before = {path: path.read_bytes() for path in write_report(Findings.of(compared), tmp_path)}
    compared.records[0].evaluation["firing_rate"]["layers"] = [{"name": "no rate"}]
    with pytest.raises(KeyError):
        write_report(Findings.of(compared), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_backdated_files_are_older_than_any_other_and_unchanged(tmp_path):
    old, partial = tmp_path / "old", tmp_path / "partial"
    old.touch()
    partial.write_text("content")
    backdate([partial])
    assert partial.stat().st_mtime < old.stat().st_mtime - 1e8
    assert partial.read_text() == "content"
