"""How far a preparation is: lines in the log, and a file that `spikedistill status` reads. Standard library only."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import time
from collections import deque

from spikedistill.data.prepare.blocks import session
from spikedistill.store.atomic import write_text

log = logging.getLogger(__name__)

PROGRESS = "progress.json"
"""In the work folder of a stage that prepares data: done, total, unit, and rate(1/s)."""
_LOG_S = 30.0
_FIRST_LOG_S = 10.0
_FILE_S = 2.0
_WINDOW_S = 60.0  # the rate is that of the last minute


class Progress:
    """Counts what is done of a whole; shows it now and then, with the rate of the last minute and the time that is left."""

    def __init__(self, what: str, total: int, *, unit: str = "") -> None:
        """Begin with nothing done.

        Args:
            what: name of finished items, such as "images decoded".
            total: number of all.
            unit: name of the items; by default, the first word of `what`.
        """
        self._what, self._total, self._unit = what, total, unit or what.partition(" ")[0]
        self._file = session.current().progress
        now = time.monotonic()
        self._seen: deque[tuple[float, int]] = deque([(now, 0)])
        self._log_at, self._file_at = now + _FIRST_LOG_S, now

    def show(self, done: int, *, before: int = 0) -> None:
        """Show how many items are done, if it is time to; call about every second.

        Args:
            done: number of items.
            before: of these, the number that an earlier run had done, which do not count for the rate.
        """
        now = time.monotonic()
        if now - self._seen[-1][0] >= 1.0:
            self._seen.append((now, done - before))
        while len(self._seen) > 2 and now - self._seen[1][0] > _WINDOW_S:
            self._seen.popleft()
        rate = self._rate(now, done - before)
        if now >= self._log_at:
            self._log_at = now + _LOG_S
            log.info("%d of %d %s%s", done, self._total, self._what, self._in_words(done, rate))
        if self._file is not None and now >= self._file_at:
            self._file_at = now + _FILE_S
            note = {"done": done, "total": self._total, "unit": self._unit, "rate(1/s)": rate}
            with contextlib.suppress(OSError):  # it is only informative
                write_text(self._file, json.dumps(note))

    def _rate(self, now: float, done: int) -> float | None:
        since, before = self._seen[0]
        return (done - before) / (now - since) if now > since and done > before else None

    def _in_words(self, done: int, rate: float | None) -> str:
        if rate is None:
            return ""
        left = datetime.timedelta(seconds=round((self._total - done) / rate))
        return f", {rate:.{1 if rate < 10 else 0}f} {self._unit}/s, {left} left"
