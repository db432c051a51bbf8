"""For all tests of the plugin: Ctrl-C works in the programs that they start, and the long tests run first."""

import signal
from pathlib import Path

import pytest

from slurm_lab.requirements import list_not_run

SLURM_TESTS = (
    *(
        "test_pools",
        "test_conformance",
        "test_stage_in",
        "test_pool_time_limits",
        "test_requeue",
        "test_outages",
        "test_executor",
        "test_adoption",
        "test_odd_places",
        "test_parity",
    ),
    *("test_site", "test_without_accounting", "test_time_limit"),
)
"""Files of Slurm tests, the longest first; but the time limits last, for their jobs run by themselves from the beginning."""


def pytest_configure() -> None:
    """Restore SIGINT: shells ignore it in background jobs, and child processes inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the Slurm tests first, the longest ones before the others, so that other tests compute while they wait."""
    items.sort(key=_position)


def _position(item: pytest.Item) -> int:
    if "slurm" not in item.path.parts:
        return len(SLURM_TESTS)
    return SLURM_TESTS.index(item.path.stem) if item.path.stem in SLURM_TESTS else -1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was not run for want of a program, unless these tests are part of a larger run, which lists it itself."""
    if terminalreporter.config.rootpath == Path(__file__).parents[1]:
        list_not_run(terminalreporter)
