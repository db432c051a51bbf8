"""For all tests: one thread for each process, Ctrl-C works in the programs that they start, the long ones run first."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads that wait for each other cost more than small tensors do
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # nor do stages with several threads spin while other tests want the cores

LONG = ("slurm", "workflow")


def pytest_configure() -> None:
    """Heed SIGINT, which a shell has its background jobs ignore, and with them all programs that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long tests first: when two run at a time, by file, one that waits for Slurm is beside one that computes."""
    folders = {item: item.path.relative_to(Path(__file__).parent).parts[0] for item in items}
    files: dict[str, list[Path]] = {}
    for item, folder in folders.items():
        if item.path not in files.setdefault(folder, []):
            files[folder].append(item.path)
    last = len(items)
    items.sort(key=lambda item: files[folders[item]].index(item.path) if folders[item] in LONG else last)
