"""For all tests: one thread a process, Ctrl-C works in the programs that they start, and what shares fixtures runs together."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads that wait for each other cost more than small tensors do


def pytest_configure() -> None:
    """Heed SIGINT, which a shell has its background jobs ignore, and with them all programs that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """For `-n 2 --dist loadgroup`: a file's tests run in one process, and so do all that use the Slurm cluster."""
    folders = {item: item.path.relative_to(Path(__file__).parent).parts[0] for item in items}
    for item, folder in folders.items():
        item.add_marker(pytest.mark.xdist_group("slurm" if folder == "slurm" else str(item.path)))
    items.sort(key=lambda item: {"slurm": 0, "workflow": 1}.get(folders[item], 2))  # the longest first
