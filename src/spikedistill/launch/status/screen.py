"""A snapshot on a terminal, as many stages as fit: first what is running, then what went wrong, then what is to come."""

from __future__ import annotations

import collections
import time
from collections.abc import Sequence
from typing import Literal

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from spikedistill.launch.status.cells import HEADERS, cells, summary
from spikedistill.launch.status.snapshot import STATES, Snapshot, State

STYLES: dict[State, str] = {
    "running": "green",
    "starting": "green",
    "pending": "yellow",
    "failed": "bold red",
    "cancelled": "red",
    "interrupted": "red",
    "damaged": "bold red",
    "blocked": "red",
    "done": "dim",
}
NUMBERS = ("epoch", "loss", "train", "valid.", "samples/s", "left")
SHRINKING = ("artifact", "state")
LEAST_ROWS = 3
LEAST_WIDTH = 12
GAP = 2  # between columns
FRAME_LINES = 5  # of the table's head and of what separates it from the summary, and the terminal's last line


class Screen:
    """What rich draws for a snapshot."""

    def __init__(self, snapshot: Snapshot, interval_s: float) -> None:
        """Show a snapshot that is refreshed every so many seconds."""
        self._snapshot, self._interval_s = snapshot, interval_s

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw as many rows as the terminal has room for."""
        below = [Text(line) for line in self._below()]
        wrapped = sum(max(1, -(-len(line) // options.max_width)) for line in below)
        height = options.height or console.height
        yield Group(*self._table(max(LEAST_ROWS, height - wrapped - FRAME_LINES), options.max_width), Text(), *below)

    def _table(self, room: int, width: int) -> list[Table | Text]:
        stages = sorted(self._snapshot.stages, key=lambda stage: STATES.index(stage.state))
        shown, hidden = stages[:room], collections.Counter(stage.state for stage in stages[room:])
        rows = [cells(stage) for stage in shown]
        used = [i for i in range(len(HEADERS)) if any(row[i] for row in rows)]
        table = Table(box=None, pad_edge=False, padding=(0, GAP), header_style="bold", collapse_padding=True)
        for i, column in _widths(rows, used, width).items():
            side: Literal["left", "right"] = "right" if HEADERS[i] in NUMBERS else "left"
            table.add_column(HEADERS[i], justify=side, no_wrap=True, overflow="ellipsis", width=column)
        for stage, row in zip(shown, rows, strict=True):
            table.add_row(*(Text(row[i]) for i in used), style=STYLES.get(stage.state, ""))
        more = ", ".join(f"{hidden[state]} {state}" for state in STATES if hidden[state])
        return [table, Text(f"… and {more}", style="dim")] if more else [table]

    def _below(self) -> list[str]:
        moment = time.strftime("%H:%M:%S", time.localtime(self._snapshot.time))
        return [*summary(self._snapshot), f"{moment}, every {self._interval_s:.0f} s; Ctrl-C ends this view, not the jobs"]


def _widths(rows: Sequence[Sequence[str]], used: Sequence[int], width: int) -> dict[int, int]:
    """Return the widths of the columns that are used: names and states shrink where the terminal is narrow, numbers do not."""
    longest = {i: max(len(HEADERS[i]), *(len(row[i]) for row in rows)) for i in used}
    shrinking = [i for i in used if HEADERS[i] in SHRINKING]
    room = width - GAP * (len(used) - 1) - sum(longest[i] for i in used if i not in shrinking)
    for left, i in zip(range(len(shrinking), 0, -1), sorted(shrinking, key=lambda i: longest[i]), strict=True):
        longest[i] = max(LEAST_WIDTH, min(longest[i], room // left))  # the shorter one first: what it leaves is for the other
        room -= longest[i]
    return longest
