"""Programs that some tests need: where they are missing those tests are not run, and the end of the output says so.

With REQUIRE_ALL=1 in the environment, as in CI, a missing program is a failure.
"""

import os
import shutil
from collections.abc import Iterable, Sequence

import pytest

MARK = "not run: "


def require(what: str, programs: Sequence[str], advice: str, *, root: bool = False) -> None:
    """Skip the test that calls this, or fail with REQUIRE_ALL=1, unless every program is here.

    Args:
        what: what the programs make up, such as "a Slurm cluster on this machine".
        programs: names of the programs.
        advice: how to install them.
        root: needs to run as root, too.
    """
    missing = [name for name in programs if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None]
    lacks = [f"no {', '.join(missing)} ({advice})"] if missing else []
    lacks += ["not running as root"] if root and os.geteuid() != 0 else []
    if not lacks:
        return
    reason = f"{MARK}it needs {what}; {'; '.join(lacks)}"
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def list_not_run(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which tests were not run for want of a program, and how to have them run."""
    counts: dict[str, int] = {}
    for reason in _reasons(terminalreporter.stats.get("skipped", ())):
        counts[reason] = counts.get(reason, 0) + 1
    if counts:
        terminalreporter.section("not run on this machine")
        for reason, count in counts.items():
            terminalreporter.line(f"{count} test{'s' if count > 1 else ''} {reason}")


def _reasons(reports: Iterable[pytest.TestReport]) -> Iterable[str]:
    for report in reports:
        if isinstance(report.longrepr, tuple) and MARK in report.longrepr[2]:
            yield report.longrepr[2].removeprefix("Skipped: ")
