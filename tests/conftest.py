"""For all tests: one thread for each process, and Ctrl-C works in the programs that they start."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: threads that wait for each other cost more than small tensors do


def pytest_configure() -> None:
    """Heed SIGINT, which a shell has its background jobs ignore, and with them all programs that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
