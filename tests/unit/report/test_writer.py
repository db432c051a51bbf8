from __future__ import annotations

import pytest

from spikedistill.report.writer import write_report

FILES = [
    "results.csv",
    "results.md",
    "results.html",
    "accuracy_over_time.svg",
    "training_curves.svg",
    "firing_rates.svg",
]


def test_writes_every_file_and_leaves_nothing_else(records, tmp_path):
    out = tmp_path / "a new folder" / "results"
    assert write_report(records, out) == [out / name for name in FILES]
    assert sorted(p.name for p in out.iterdir()) == sorted(FILES)
    assert "92.00 ± 2.83" in (out / "results.md").read_text(encoding="utf-8")


def test_second_report_replaces_the_first_with_equal_bytes(records, tmp_path):
    before = {path.name: path.read_bytes() for path in write_report(records, tmp_path)}
    after = {path.name: path.read_bytes() for path in write_report(records, tmp_path)}
    assert after == before


def test_failure_leaves_the_old_report_whole(records, tmp_path):
    before = {path: path.read_bytes() for path in write_report(records, tmp_path)}
    records[0].evaluation["firing_rate"]["layers"] = [{"name": "no rate"}]
    with pytest.raises(KeyError):
        write_report(records, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
