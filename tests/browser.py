"""A real browser for tests: opens a page of a folder and returns what a script finds on it."""

import json
import os
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from slurm_lab.requirements import require

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HARNESS = """<!DOCTYPE html><link rel="icon" href="data:,"><iframe src="%s" width="%d" height="1000"></iframe><pre></pre>
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


def browse(folder, page, script, *, width=1400, dark=False):
    """What a script finds on a page in a headless browser, which must have nothing to complain about.

    The script is the body of an asynchronous function of `page`, the document, in a window of some width in CSS pixels.
    """
    if CHROMIUM is None:
        require("a browser", ["chromium"], "on Debian: apt-get install chromium")
    (folder / "harness.html").write_text(HARNESS % (f"/{page}", width, json.dumps(script).replace("</", "<\\/")))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    flags = ["--headless", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=30000", "--dump-dom"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    flags += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
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
