"""For all tests of the plugin: Ctrl-C works in the programs that they start, and the long tests run first."""

import signal

import pytest


def pytest_configure() -> None:
    """Restore SIGINT: shells ignore it in background jobs, and child processes inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those that wait for Slurm first, so that others compute beside them; the slowest, which is ready by itself, after them."""
    items.sort(key=lambda item: ("slurm" not in item.path.parts, item.path.name == "test_time_limit.py"))
