"""The run that prepares: which rank of a job this is, whether it still may write, where it shows progress. Standard library only.

Set by the stage, so that the `prepare` of a dataset need not pass it on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Session:
    """One run of a preparation.

    Attributes:
        rank: of this process among those of the job.
        world_size: number of ranks.
        token: distinguishes this run from those before it; all its ranks have the same.
        fence: raises if another run has taken over, so that nothing may be written any more.
        progress: file that shows how far it is; None: none.
    """

    rank: int = 0
    world_size: int = 1
    token: str = "alone"
    fence: Callable[[], None] = lambda: None
    progress: Path | None = None


_current: ContextVar[Session] = ContextVar("session", default=Session())  # noqa: B039 - it is frozen


def current() -> Session:
    """Return the session that this process is in."""
    return _current.get()


@contextlib.contextmanager
def preparing(session: Session) -> Iterator[None]:
    """Enter a session for the block."""
    before = _current.set(session)
    try:
        yield
    finally:
        _current.reset(before)
