"""For all tests: one thread for each process, Ctrl-C works in the programs that they start, long ones run first and are named.

And folders of plug-ins that one test has imported are unknown to the next, which may have others of the same name.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from slurm_lab.requirements import list_not_run
from spikedistill import plugins

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads that wait for each other cost more than small tensors do
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # nor do stages with several threads spin while other tests want the cores

WAITING, COMPUTING = {"slurm"}, {"workflow", "install"}
"""Folders of the long tests: those that mostly wait for Slurm, and those that mostly compute."""
NAMED_S = 30.0


def pytest_configure() -> None:
    """Restore SIGINT: shells ignore it in background jobs, and child processes inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class LongTests:
    """Print each long test when it ends, so that a run that is stopped from outside has told what took its time."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print it, with its fixtures counted by themselves."""
        if report.duration >= NAMED_S:
            self._terminal.write_line(
                f" {time.strftime('%T')}  {report.duration:.0f} s  {report.when} of {report.nodeid}: {report.outcome}"
            )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have long tests printed by the process that has a terminal: not by xdist's workers."""
    if terminal := session.config.pluginmanager.get_plugin("terminalreporter"):
        session.config.pluginmanager.register(LongTests(terminal))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long tests first, and take files of those that wait and of those that compute in turn: two run at a time."""
    files = dict.fromkeys(item.path for item in items)
    places = {}
    for folders in (WAITING, COMPUTING):
        group = [file for file in files if not folders.isdisjoint(file.parts)]
        places |= {file: (number + 0.5) / len(group) for number, file in enumerate(group)}
    items.sort(key=lambda item: places.get(item.path, 1.0))


@pytest.fixture(autouse=True)
def _forget_folders_of_plugins() -> Iterator[None]:
    """Forget the folders, unless a fixture of several tests still uses some."""
    yield
    if plugins.named():
        return
    folders = plugins._finder().folders
    for module in [name for name in sys.modules if name.partition(".")[0] in folders]:
        del sys.modules[module]
    folders.clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End with what was not run for want of a program."""
    list_not_run(terminalreporter)
