"""Requests to stop: signals set a flag that the training loop checks between steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Interrupted(SystemExit):
    """Training was asked to stop, and its state is saved; the exit status is that of a signal, 128 + its number."""

    def __init__(self, number: int) -> None:
        """Exit with the status of signal `number`."""
        super().__init__(128 + number)


class StopRequest:
    """A context manager in which SIGTERM, SIGUSR1 and SIGUSR2 set `number` instead of ending the process.

    Outside the main thread, where Python allows no signal handlers, they keep their effect.

    Attributes:
        number: of the signal that was received last; 0 if none was.
    """

    def __init__(self) -> None:
        """Start without a request."""
        self.number = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
