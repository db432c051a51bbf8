"""For all tests: Ctrl-C works in the programs that they start."""

import signal


def pytest_configure() -> None:
    """Heed SIGINT, which a shell has its background jobs ignore, and with them all programs that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
