"""The report of a run in which one student fails: it is built all the same, says so, and a browser can read it."""

import json
import os
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from slurm_lab.requirements import require
from slurm_lab.running import run
from tests.workflow.project import copy_project

TRAIN = {"epochs": 1, "batch_size": 64}
CONFIG = {
    "seeds": [0, 1],
    "experiments": {
        "digits": {
            "dataset": {"name": "digits"},
            "teacher": {"arch": "resnet8", "train": TRAIN},
            "student": {"arch": "resnet8", "time_steps": 2, "train": TRAIN},
            "methods": {"tet": {}, "broken": {"method": "kd", "params": {"alpha": 1e39}}},
        }
    },
}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A project in which all ran but the students of one method; with the output of that run."""
    folder = copy_project(tmp_path_factory.mktemp("failed"))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    done = run(folder, "snakemake", "--profile", "cluster/local")
    assert done.returncode != 0
    html = run(folder, "snakemake", "--report", "report.html")
    assert html.returncode == 0, html.stdout[-3000:]
    return folder, done.stdout


def test_a_failed_student_has_a_row_that_says_so_and_the_others_are_measured(failed):
    folder, output = failed
    table = (folder / "results/results.md").read_text()
    assert re.search(r"\| digits +\| broken +\|.* missing \|.*0 \(2 missing\)", table)
    assert re.search(r"Missing: digits, broken: seed 1: distill digits-resnet8-kd-seed1-\w+ failed: .*loss", table)
    assert re.search(r"\| digits +\| tet +\|.*± .*baseline.*\| +2 \|", table)
    assert table.splitlines()[0].split("|")[1].strip() == "experiment"
    assert "missing: digits, broken, seed 0" in output  # the table is shown at the end
    costs = (folder / "results/costs.csv").read_text()
    assert len(re.findall(r"^distill,.*,done,", costs, re.MULTILINE)) == 2
    assert len(re.findall(r"^distill,.*interrupted", costs, re.MULTILINE)) == 2
    assert "saliency_maps" in (folder / "report.html").read_text()


def test_a_browser_draws_every_figure_and_sorts_and_filters_the_table(failed):
    folder, _ = failed
    seen = browse(folder, "results/results.html", RESULTS_SCRIPT)
    assert seen["figures"] == 8
    assert seen["drawn"] == 8
    before, ascending, descending = seen["order"]
    assert ascending == sorted(before, key=float)
    assert descending == ascending[::-1] != ascending
    assert seen["rows"] == 3
    assert seen["shown"] == [True, False, False]
    assert seen["loaded"] == []


def test_a_browser_shows_the_report_of_snakemake_with_its_categories(failed):
    folder, _ = failed
    seen = browse(folder, "report.html", SNAKEMAKE_SCRIPT)
    for category in ("Results", "Figures", "Pictures", "Cost"):
        assert category in seen["menu"]
    assert "accuracy against energy" in seen["figures"]
    assert seen["loaded"] == []


def test_without_the_failed_method_only_the_report_is_made_again(failed):
    folder, _ = failed
    config = CONFIG | {"experiments": {"digits": CONFIG["experiments"]["digits"] | {"methods": {"tet": {}}}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    done = run(folder, "snakemake", "--profile", "cluster/local")
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.findall(r"^(preprocess|teacher|distill|evaluate|report)\s+(\d+)$", done.stdout, re.MULTILINE) == [("report", "1")]
    assert "broken" not in (folder / "results/results.md").read_text()


RESULTS_SCRIPT = """
const images = [...page.querySelectorAll("img")];
await Promise.all(images.map(image => image.decode()));
const table = page.querySelector("table"), rows = () => [...table.tBodies[0].rows];
const head = [...table.querySelectorAll("th")].find(th => th.textContent === "accuracy (%)");
const order = () => rows().map(row => row.cells[head.cellIndex].textContent.split(" ")[0]).filter(text => text !== "missing");
const orders = [order()];
for (let i = 0; i < 2; i++) { head.querySelector("button").click(); orders.push(order()); }
const filter = table.closest("section").querySelector("input");
filter.value = "broken"; filter.dispatchEvent(new Event("input"));
return {
  figures: images.length, drawn: images.filter(image => image.naturalWidth > 100).length, order: orders, rows: rows().length,
  shown: rows().map(row => !row.hidden).sort().reverse(),
};
"""
SNAKEMAKE_SCRIPT = """
const until = async test => { while (!test()) await new Promise(done => setTimeout(done, 50)); };
const link = text => [...page.querySelectorAll("span")].find(each => each.textContent.trim() === text);
await until(() => link("Figures"));
const menu = page.body.innerText;
link("Figures").click();
await until(() => page.body.innerText.includes("accuracy against energy"));
return {menu: menu, figures: page.body.innerText};
"""
HARNESS = """<!DOCTYPE html><link rel="icon" href="data:,"><iframe src="%s" width="1400" height="1000"></iframe><pre></pre>
<script>
const frame = document.querySelector("iframe"), AsyncFunction = (async () => {}).constructor;
frame.addEventListener("load", async () => {
  const page = frame.contentDocument;
  let seen;
  try { seen = await new AsyncFunction("page", %s)(page); } catch (error) { seen = {error: String(error)}; }
  seen.loaded = frame.contentWindow.performance.getEntriesByType("resource").map(each => each.name)
    .filter(name => !name.startsWith("data:") && !name.startsWith("blob:"));
  document.querySelector("pre").textContent = JSON.stringify(seen);
});
</script>"""


SNAKEMAKES_OWN = "cdn.tailwindcss.com should not be used in production"  # a remark of a script inside Snakemake's page


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def browse(folder, page, script):
    """What a script finds on a page in a headless browser, which must have nothing to complain about."""
    if CHROMIUM is None:
        require("a browser", ["chromium"], "on Debian: apt-get install chromium")
    (folder / "harness.html").write_text(HARNESS % (f"/{page}", json.dumps(script).replace("</", "<\\/")))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--headless", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=30000", "--dump-dom"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    try:
        done = subprocess.run(
            [CHROMIUM, *flags, f"--user-data-dir={folder / 'browser'}", f"http://127.0.0.1:{server.server_port}/harness.html"],
            capture_output=True,
            text=True,
            timeout=300,
        )
    finally:
        server.shutdown()
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line and SNAKEMAKES_OWN not in line]
    assert console == []
    (found,) = re.findall(r"<pre>(.*)</pre>", done.stdout) or [done.stdout[-500:] + done.stderr[-2000:]]
    seen = json.loads(found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert "error" not in seen, seen
    return seen
