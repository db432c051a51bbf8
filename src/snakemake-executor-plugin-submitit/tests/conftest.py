"""For all tests of the plugin: Ctrl-C works in the programs that they start, and the long tests run first."""

import signal
from pathlib import Path

import pytest

from slurm_lab.requirements import list_not_run


def pytest_configure() -> None:
    """Restore SIGINT: shells ignore it in background jobs, and child processes inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the Slurm tests first, so that others compute while they wait; time limits last, for their jobs run by themselves."""
    items.sort(key=lambda item: ("slurm" not in item.path.parts, item.path.name == "test_time_limit.py"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End with what was not run for want of a program, unless these tests are part of a larger run, which says so itself."""
    if terminalreporter.config.rootpath == Path(__file__).parents[1]:
        list_not_run(terminalreporter)
