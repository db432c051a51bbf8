"""`spikedistill status --watch`: a snapshot again and again, until every stage is done or the user leaves."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from spikedistill.launch.status.plain import Lines, as_json
from spikedistill.launch.status.snapshot import Snapshot

Show = Callable[[Snapshot], None]


def watch(collect: Callable[[], Snapshot], *, interval_s: float, json: bool) -> None:
    """Show snapshots until every stage is done or Ctrl-C is pressed: drawn in place on a terminal, as lines elsewhere.

    Args:
        collect: returns a new snapshot.
        interval_s: seconds from the end of one to the next.
        json: print each as a line of JSON.
    """
    with contextlib.suppress(KeyboardInterrupt), _shown(interval_s, json) as show:
        while True:
            snapshot = collect()
            show(snapshot)
            if all(stage.state == "done" for stage in snapshot.stages):
                return
            time.sleep(interval_s)


@contextlib.contextmanager
def _shown(interval_s: float, json: bool) -> Iterator[Show]:
    """Yield what shows a snapshot on stdout."""
    if json or not sys.stdout.isatty():
        lines = Lines()

        def print_lines(snapshot: Snapshot) -> None:
            for line in [as_json(snapshot)] if json else lines.changes(snapshot):
                print(line, flush=True)

        yield print_lines
        return
    from rich.console import Console
    from rich.live import Live

    from spikedistill.launch.status.screen import Screen

    with Live(console=Console(highlight=False), auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda snapshot: live.update(Screen(snapshot, interval_s), refresh=True)
