"""For all tests of the plugin: Ctrl-C works in the programs that they start, and the long tests run first."""

import signal

import pytest


def pytest_configure() -> None:
    """Restore SIGINT: shells ignore it in background jobs, and child processes inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the Slurm tests first, so that others compute while they wait; time limits last, for their jobs run by themselves."""
    items.sort(key=lambda item: ("slurm" not in item.path.parts, item.path.name == "test_time_limit.py"))
