"""`spikedistill logs`: the ends of the logs of stages, and what is added to them. Imports no torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

POLL_S = 0.5


class Logs:
    """Prints logs as `tail` does: under the name of the file where it changes.

    A log that does not exist yet is waited for. One that is replaced, or shorter than it was, is read from its beginning.
    """

    def __init__(self, paths: Sequence[Path], out: TextIO) -> None:
        """Print the logs at `paths` to `out`."""
        self._paths, self._out = paths, out
        self._read: dict[Path, tuple[int, int]] = {}  # inode, and bytes that are printed
        self._shown: Path | None = None

    def print_ends(self, lines: int) -> list[Path]:
        """Print the last lines of each log, all for 0; return those that do not exist."""
        missing = []
        for path in self._paths:
            found = self._new_bytes(path)
            if found is None:
                missing.append(path)
                continue
            self._print(path, found.splitlines(keepends=True)[-lines:])
        return missing

    def print_rests(self) -> None:
        """Print what comes after the last whole line of each log, as a process leaves it that was killed while it wrote."""
        for path, (_, at) in self._read.items():
            if rest := path.read_bytes()[at:]:
                self._print(path, [rest + b"\n"])

    def follow(self, is_finished: Callable[[], bool]) -> None:
        """Print what is added to the logs, whole lines at a time, until all stages are finished."""
        while True:
            finished = is_finished()  # before the last look, which then misses nothing
            for path in self._paths:
                self._print(path, (self._new_bytes(path) or b"").splitlines(keepends=True))
            if finished:
                return
            time.sleep(POLL_S)

    def _new_bytes(self, path: Path) -> bytes | None:
        """Return the whole lines that were added since the last look; None if there is no such file."""
        try:
            with path.open("rb") as log:
                about = os.fstat(log.fileno())
                inode, at = self._read.get(path, (about.st_ino, 0))
                if inode != about.st_ino or about.st_size < at:
                    at = 0
                log.seek(at)
                found = log.read()
        except FileNotFoundError:
            return None
        whole = found[: found.rfind(b"\n") + 1]
        self._read[path] = about.st_ino, at + len(whole)
        return whole

    def _print(self, path: Path, lines: Sequence[bytes]) -> None:
        if not lines:
            return
        if self._shown != path:
            print(f"==> {path} <==", file=self._out)
            self._shown = path
        self._out.write(b"".join(lines).decode("utf-8", errors="replace"))
        self._out.flush()
