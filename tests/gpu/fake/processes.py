"""Run tests in a process that has fake GPUs, and bring their reports back into the pytest that selected them.

A process runs the tests of one file that need the same number of GPUs, one after the other; a test marked `own_process` gets one
for itself. Torch starts once for each of them, which takes most of the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.fake.build import fake_environment

REPORTS = "FAKE_GPU_REPORTS"
"""Environment variable: file that the inner pytest appends its reports to, one JSON object a line."""

TIMEOUT_S = 600


class Processes:
    """The reports of tests on fake GPUs, from processes that are started when a report of theirs is first asked for."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._reports: dict[str, list[pytest.TestReport]] = {}

    def run(self, item: pytest.Item, session: pytest.Session) -> None:
        """Report a test as if it had run here."""
        if item.nodeid not in self._reports:
            together = [each for each in session.items if _process(each) == _process(item)]
            self._start(together, gpus_of(item))
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports[item.nodeid]:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _start(self, items: list[pytest.Item], gpus: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            reports = Path(folder) / "reports.jsonl"
            reports.touch()
            names = [item.nodeid for item in items]
            # without plugins that the outer pytest has use for
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short", *names]
            environment = fake_environment(gpus) | {REPORTS: str(reports), "PYTHONPATH": _python_path()}
            ended = _ended(command, cwd=self._config.rootpath, env=environment)
            self._collect(reports, items, ended)

    def _collect(self, reports: Path, items: list[pytest.Item], ended: subprocess.CompletedProcess[str]) -> None:
        for line in reports.read_text(encoding="utf-8").splitlines():
            report = self._config.hook.pytest_report_from_serializable(config=self._config, data=json.loads(line))
            self._reports.setdefault(report.nodeid, []).append(report)
        for item in items:
            if not any(report.when == "teardown" for report in self._reports.get(item.nodeid, [])):
                self._reports.setdefault(item.nodeid, []).append(_lost(item, ended))


def _ended(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, or to that of its time; return its status and what it has printed."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options) as process:
        try:
            output, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            output += f"\nkilled after {TIMEOUT_S} s"
    return subprocess.CompletedProcess(command, process.returncode, output)


def gpus_of(item: pytest.Item) -> int:
    """Return the number of GPUs that a test is marked to need."""
    mark = item.get_closest_marker("gpus")
    return int(mark.args[0]) if mark else 1


def _process(item: pytest.Item) -> tuple[str, ...]:
    """Return what tests of one process have in common."""
    if item.get_closest_marker("own_process"):
        return (item.nodeid,)
    return (str(item.path), str(gpus_of(item)))


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]))


def _lost(item: pytest.Item, ended: subprocess.CompletedProcess[str]) -> pytest.TestReport:
    """Return the report of a test that its process ended without reporting."""
    text = f"the process on the fake GPU ended with status {ended.returncode}; its output ends with\n{ended.stdout[-6000:]}"
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")


def write_report(config: pytest.Config, report: pytest.TestReport) -> None:
    """In the inner pytest: hand a report to the outer one."""
    data = config.hook.pytest_report_to_serializable(config=config, report=report)
    with Path(os.environ[REPORTS]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(data) + "\n")
