from __future__ import annotations

from html.parser import HTMLParser

from spikedistill.report.page import html_page
from spikedistill.report.tables import RESULT_HEADERS, build_rows, result_cells


class Parsed(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tables, self.links, self._cell = [], [], False

    def handle_starttag(self, tag, attrs):
        self.links += [value for key, value in attrs if key in ("src", "href")]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self._cell:
            self.tables[-1][-1][-1] += data


def parse(page):
    parsed = Parsed()
    parsed.feed(page)
    return parsed


def test_page_holds_every_table_and_loads_nothing(compared):
    page = html_page(compared, {"A figure": "<svg/>"})
    results, quality, work, runs, totals, stages, versions = parse(page).tables
    assert results == [list(RESULT_HEADERS), *(result_cells(row) for row in build_rows(compared))]
    assert quality[0][:3] == [*work[0][:2], "top-5 (%)"]
    assert [run[3] for run in runs[1:] if run[2] == "tet" and run[1] == "digits"] == ["0", "1"]
    missing = ["digits-resnet_small-kd-seed1-0123456789", "digits", "kd", "1", "missing", "-", "distill x failed: no memory"]
    missing += ["", "", ""]  # nothing that it was made from
    assert missing in runs
    assert totals[-1] == ["all", "1 of 2", "61.5", "0.0171", "512", "900", "1"]
    assert stages[1][2:] == ["done", "61.5", "0.0171", "512", "900", "1", "a GPU"]
    assert ["package torch", "2.15.0", "3"] in versions
    assert ["spikedistill", "0.1.0, commit abc1234 with uncommitted changes", "3"] in versions
    assert all(link.startswith(("data:", "#")) for link in parse(page).links)
    assert "data:image/svg+xml;base64,PHN2Zy8+" in parse(page).links
    assert "seeds:\n- 0\n- 1\nstore: store" in page


def test_page_escapes_names(make):
    comparison = make.comparison([make.student("<script>x", 0, 0.5)], config={"x": "<script>x"})
    page = html_page(comparison, {"<script>x": "<svg/>"})
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page
