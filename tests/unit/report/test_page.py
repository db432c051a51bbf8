from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

from spikedistill.report.findings import Findings
from spikedistill.report.page.elements import MAX_OPEN_ROWS
from spikedistill.report.page.page import html_page
from spikedistill.report.page.summary import summary
from spikedistill.report.plots.panels import Rendered
from spikedistill.report.tables.rows import RESULT_HEADERS, result_cells

FIGURE = Rendered(("digits",), ("<svg/>",), "<svg/>", b"")


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
    findings = Findings.of(compared)
    page = html_page(findings, {"firing_rates": FIGURE})
    results, quality, work, runs, totals, stages, versions = parse(page).tables
    assert results == [list(RESULT_HEADERS), *(result_cells(row) for row in findings.rows)]
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
    page = html_page(Findings.of(comparison), {"firing_rates": FIGURE._replace(subjects=('"<script>x',))})
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page


def test_the_top_tells_what_was_measured_when_with_which_code_and_configuration(make):
    facts = {"created": "2026-11-29T09:38:48+00:00", "commit": "a" * 40, "upstream": [], "digest": "", "code": {}}
    runs = [
        replace(
            make.student("kd", 0, 0.9),
            sources={"students/a": facts | {"created": "2026-01-01T00:00:00+00:00"}, "evaluations/a": facts},
        ),
        replace(
            make.student("kd", 1, 0.9),
            sources={"evaluations/b": facts | {"created": "2026-11-30T01:02:03+02:00", "commit": "b" * 40}},
        ),
        make.missing_student("tet", 0),
    ]
    told = dict(summary(make.comparison(runs, config={"seeds": [0]})))
    assert told["runs"] == "2 of 3 measured: 1 experiment, 2 methods, 2 seeds"
    assert told["measured"] == "2026-11-29 09:38 to 23:02 UTC"
    assert told["commit"] == f"{'a' * 40}, {'b' * 40}"
    assert told["configuration"] != dict(summary(make.comparison(runs, config={"seeds": [1]})))["configuration"]
    page = html_page(Findings.of(make.comparison(runs)), {})
    assert page.index("2026-11-29 09:38") < page.index("<h2")


def test_the_page_fits_phones_knows_the_dark_and_runs_no_script(compared):
    page = html_page(Findings.of(compared), {})
    assert '<meta name="viewport" content="width=device-width' in page
    assert "prefers-color-scheme: dark" in page
    assert "default-src 'none'" in page
    assert "<script" not in page


def test_a_long_table_is_folded(make):
    runs = [make.student("kd", seed, 0.9) for seed in range(MAX_OPEN_ROWS + 1)]
    assert f"<summary>{len(runs)} rows</summary>" in html_page(Findings.of(make.comparison(runs)), {})
    assert "<details>" not in html_page(Findings.of(make.comparison(runs[1:])), {})
