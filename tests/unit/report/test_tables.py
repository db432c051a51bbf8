from __future__ import annotations

import csv
import io
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from spikedistill.report.records import Spread
from spikedistill.report.tables import HEADERS, build_rows, csv_table, html_page, markdown_table, terminal_table


def test_deviation_is_that_of_a_sample():
    spread = Spread.of([0.90, 0.94])
    assert spread.mean == pytest.approx(0.92)
    assert spread.std == pytest.approx(0.0282842712)  # sqrt(2 * 0.02**2 / (2 - 1))


def test_single_seed_has_no_deviation_and_no_seed_no_spread():
    assert Spread.of([0.5]) == Spread(0.5, None)
    assert Spread.of([]) is None


def test_teacher_stands_above_the_students_of_its_experiment(records):
    rows = build_rows(records)
    assert [(row.experiment, row.method) for row in rows] == [
        ("digits", "teacher"),
        ("digits", "tet"),
        ("digits", "kd"),
        ("digits-dvs", "tet"),
    ]


def test_cells_hold_percent_mean_deviation_and_seeds(records):
    cells = {(row.experiment, row.method): row.cells() for row in build_rows(records)}
    assert cells["digits", "teacher"] == ["digits", "teacher", "resnet18", "-", "98.00", "-", "-", "1"]
    assert cells["digits", "tet"] == [
        "digits",
        "tet",
        "resnet_small",
        "2",
        "92.00 ± 2.83",
        "67.00 ± 2.83",
        "0.125 ± 0.000",
        "2",
    ]
    assert cells["digits-dvs", "tet"][4:] == ["88.00", "63.00", "0.300", "1"]


def test_missing_run_is_counted_in_its_row(records):
    row = next(row for row in build_rows(records) if row.method == "kd")
    assert row.cells()[4:] == ["96.00", "71.00", "0.100", "1 (1 missing)"]


def test_method_without_any_run_keeps_a_row_that_says_missing(make):
    rows = build_rows([make.teacher(0.9), make.missing_student("kd", 0), make.missing_student("kd", 1)])
    assert rows[1].cells() == ["digits", "kd", "resnet_small", "2", "missing", "missing", "missing", "0 (2 missing)"]


def test_csv_holds_plain_numbers(records):
    rows = list(csv.DictReader(io.StringIO(csv_table(records))))
    tet = rows[1]
    assert float(tet["accuracy_percent_mean"]) == pytest.approx(92.0)
    assert float(tet["accuracy_percent_std"]) == pytest.approx(2.828427)
    assert float(tet["firing_rate_mean"]) == pytest.approx(0.125)
    assert (rows[0]["time_steps"], rows[0]["firing_rate_mean"], rows[0]["accuracy_percent_std"]) == ("", "", "")
    assert (rows[2]["num_seeds"], rows[2]["num_missing"]) == ("1", "1")


def test_markdown_is_a_table_with_every_row(records):
    lines = [line for line in markdown_table(records).splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(HEADERS)
    assert len(lines) == 2 + 4
    assert "92.00 ± 2.83" in lines[3]


def test_terminal_table_shows_headers_and_numbers(records):
    text = terminal_table(records)
    assert text.splitlines()[0].split()[:4] == ["experiment", "method", "architecture", "T"]
    assert "92.00 ± 2.83" in text


def test_tables_of_no_runs_are_headers_alone():
    assert terminal_table([]).split()[0] == "experiment"
    assert csv_table([]).count("\n") == 1


class _Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tables, self.links, self._cell = [], [], False

    def handle_starttag(self, tag, attrs):
        self.links += [value for key, value in attrs if key in ("src", "href")]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        self._cell = tag in ("td", "th")

    def handle_data(self, data):
        if self._cell:
            self.tables[-1][-1].append(data)
            self._cell = False


def test_html_holds_the_rows_and_the_single_runs_and_loads_nothing(records):
    page = _Cells()
    page.feed(html_page(records, {"A figure": "<svg/>"}))
    assert page.tables[0] == [list(HEADERS), *(row.cells() for row in build_rows(records))]
    runs = page.tables[1][1:]
    assert [run[3] for run in runs if run[2] == "tet" and run[1] == "digits"] == ["0", "1"]
    assert ["digits-resnet_small-kd-seed1-0123456789", "digits", "kd", "1", "missing", "0", "-"] in runs
    assert page.links == ["data:image/svg+xml;base64,PHN2Zy8+"]


def test_html_escapes_names(make):
    assert "<script>" not in html_page([make.student("<script>", 0, 0.5)], {"<script>": "<svg/>"})


def test_report_imports_no_torch():
    code = "import sys, spikedistill.report.writer; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
