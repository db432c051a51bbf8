"""Remove from a store what nobody needs any more. Imports no torch.

What a given configuration needs, what a running job makes or reads, what is recent, and all that these were made from are kept.
The rest goes: whatever is removed is renamed to a hidden name under its lease first, so that no job ever sees half of it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from spikedistill.store.artifacts import Store
from spikedistill.store.inventory import (
    SET_ASIDE,
    WORK,
    Entry,
    Remains,
    Work,
    artifacts,
    format_age,
    format_size,
    half_finished,
    is_alive,
    remains,
    set_aside,
)
from spikedistill.store.lease import Lease, held, is_lease_file, lease_path

WORKERS = 4
MAX_WAITING = 64
_BUSY = "{}: stays, a running job holds its lease by now"
_STALE = "stale"


@dataclass(frozen=True)
class Prune:
    """What would be removed from a store, downstream first, and why the rest is kept.

    Attributes:
        artifacts: artifacts that nobody needs.
        works: half-finished work that nobody holds the lease of.
        remains: what killed builds left, and artifacts that were set aside.
        kept: for each artifact that stays, why.
        notes: sentences for the user.
    """

    artifacts: tuple[Entry, ...]
    works: tuple[Work, ...]
    remains: tuple[Remains, ...]
    kept: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that would be freed."""
        return sum(size for part in (self.artifacts, self.works, self.remains) for size in _sizes(part))

    def __len__(self) -> int:
        return len(self.artifacts) + len(self.works) + len(self.remains)


def _sizes(things: Iterable[Entry | Work | Remains]) -> list[int]:
    return [each.size for each in things]


def plan_prune(store: Store, needed: Mapping[str, Collection[str]], older_than_s: float) -> Prune:
    """Return what can go; removes nothing.

    Args:
        store: the store.
        needed: for each configuration, by the name to show, the references of what it needs.
        older_than_s: what came into the store, or changed, less than this many seconds ago stays.
    """
    works = half_finished(store)
    entries = artifacts(store)
    kept = _kept(entries, works, needed, older_than_s)
    notes = []
    if any(work.is_live and work.upstream is None for work in works):
        names = ", ".join(work.name for work in works if work.is_live and work.upstream is None)
        notes.append(f"no artifact is removed: a job of an earlier version, which does not tell what it reads, is making {names}")
        kept = {ref: kept.get(ref, "a running job may read it") for ref in entries}
    wanted = {Path(ref).name for refs in needed.values() for ref in refs}
    live = {work.name for work in works if work.is_live}
    before = time.time() - older_than_s
    return Prune(
        tuple(entries[ref] for ref in reversed(upstream_first(entries)) if ref not in kept),
        tuple(work for work in works if not work.is_live and work.name not in wanted and work.modified <= before),
        tuple(each for each in remains(store) if each.name not in live and each.modified <= before)
        + tuple(each for each in set_aside(store) if each.modified <= before),
        kept,
        tuple(notes),
    )


def describe(prune: Prune, store: Store) -> str:
    """Return what a prune would remove, one line each, and how much stays for which reason."""
    now = time.time()
    lines = [f"{entry.ref}  {format_size(entry.size)}, {format_age(now - entry.since)} old" for entry in prune.artifacts]
    for work in prune.works:
        owner = f"last held by {work.holder}" if work.holder else "held by nobody"
        lines.append(f".work/{work.name}  {format_size(work.size)}, {format_age(now - work.modified)} old, {owner}")
    for each in prune.remains:
        place = each.path.relative_to(store.root)
        lines.append(f"{place}  {format_size(each.size)}, {format_age(now - each.modified)} old")
    reasons: dict[str, int] = {}
    for reason in prune.kept.values():
        reasons[reason] = reasons.get(reason, 0) + 1
    stays = "".join(f"\n  {count} {reason}" for reason, count in sorted(reasons.items()))
    counts = f"{len(prune.artifacts)} artifacts, {len(prune.works)} half-finished, {len(prune.remains)} remains"
    summary = f"to remove: {counts}, {format_size(prune.size)} in all\nto keep: {len(prune.kept)} artifacts{stays}"
    return "\n".join([*lines, *([""] if lines else []), summary, *prune.notes])


def remove(store: Store, prune: Prune) -> list[str]:
    """Remove what `plan_prune` found; return a line for each thing that stayed after all, with the reason."""
    removals = [
        *(_of_artifact(store, entry) for entry in prune.artifacts),
        *(_of_work(work) for work in prune.works),
        *(_of_remains(store, each) for each in prune.remains),
    ]
    with ThreadPoolExecutor(WORKERS) as pool:
        outcomes = list(pool.map(_try_at_once, removals))
    waiting = [i for i, outcome in enumerate(outcomes) if outcome is _STALE]
    if waiting:  # each for up to `STALE_S`, so all at the same time
        with ThreadPoolExecutor(MAX_WAITING) as pool:
            for i, outcome in zip(waiting, pool.map(_take_over, [removals[i] for i in waiting]), strict=True):
                outcomes[i] = outcome
    return [outcome for outcome in outcomes if outcome]


def owner_name() -> str:
    """Return the name under which this process holds leases during housekeeping."""
    return f"{socket.gethostname()}:{os.getpid()}:store"


def leave_work(work: Path) -> None:
    """Remove a work folder that holds nothing more; another process may be waiting for its lease there."""
    with contextlib.suppress(OSError):
        work.rmdir()


def with_upstream(refs: Iterable[str], entries: Mapping[str, Entry]) -> set[str]:
    """Return some artifacts and all that they were made from, as far as it is in the store."""
    found: set[str] = set()
    waiting = [ref for ref in refs if ref in entries]
    while waiting:
        ref = waiting.pop()
        if ref not in found:
            found.add(ref)
            waiting += [each for each in entries[ref].upstream if each in entries]
    return found


def upstream_first(entries: Mapping[str, Entry]) -> list[str]:
    """Return the references so that each comes after all that it was made from."""
    order: dict[str, None] = {}
    entered: set[str] = set()
    waiting = [(ref, False) for ref in reversed(list(entries))]
    while waiting:
        ref, is_upstream_done = waiting.pop()
        if is_upstream_done:
            order[ref] = None
        elif ref not in entered:
            entered.add(ref)
            waiting.append((ref, True))
            waiting += [(each, False) for each in entries[ref].upstream if each in entries]
    return list(order)


def _kept(
    entries: Mapping[str, Entry], works: Collection[Work], needed: Mapping[str, Collection[str]], older_than_s: float
) -> dict[str, str]:
    live = [work for work in works if work.is_live]
    names, read = {work.name for work in live}, {ref for work in live for ref in work.upstream or ()}
    before = time.time() - older_than_s
    reasons: dict[str, str] = {}
    for ref, entry in entries.items():
        users = [name for name, refs in needed.items() if ref in refs]
        if users:
            reasons[ref] = f"needed by {', '.join(users)}"
        elif Path(ref).name in names or ref in read:
            reasons[ref] = "made or read by a running job"
        elif entry.since > before:
            reasons[ref] = f"younger than {format_age(older_than_s)}"
    return {ref: reasons.get(ref, "that a kept artifact was made from") for ref in sorted(with_upstream(reasons, entries))}


@dataclass(frozen=True)
class _Removal:
    """One thing to remove.

    Attributes:
        label: what to call it in messages.
        lease: the lease to hold meanwhile; None if nobody can be at work on it.
        hide: makes it invisible, under the lease, and returns what is left to remove after that.
        takes_long: whether `hide` may take long.
    """

    label: str
    lease: Path | None
    hide: Callable[[], Path | None]
    takes_long: bool = False


def _of_artifact(store: Store, entry: Entry) -> _Removal:
    def hide() -> Path | None:
        folder = store.path(entry.ref)
        if not folder.exists() or store.digest(entry.ref) != entry.digest:  # built anew since
            return None
        return _hide(folder)

    return _Removal(entry.ref, lease_path(store.work(entry.ref)), hide)


def _of_work(work: Work) -> _Removal:
    def hide() -> None:
        for entry in list(work.path.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif not is_lease_file(entry):
                entry.unlink()

    return _Removal(f"{WORK}/{work.name}", lease_path(work.path), hide, takes_long=True)


def _of_remains(store: Store, each: Remains) -> _Removal:
    is_aside = each.path.parent == store.root / SET_ASIDE
    lease = None if is_aside else lease_path(store.root / WORK / each.name)
    return _Removal(str(each.path.relative_to(store.root)), lease, lambda: each.path if each.path.exists() else None)


def _try_at_once(removal: _Removal) -> str | None:
    """Remove something; return None, or why it stays: `_STALE` if its lease is held by a process that seems to be dead."""
    lease = Lease(removal.lease, owner_name(), heartbeat=removal.takes_long) if removal.lease else None
    try:
        if lease is not None and not lease.acquire():
            return _BUSY.format(removal.label) if is_alive(lease.path) else _STALE
        _remove(removal, lease)
    except OSError as err:
        return f"{removal.label}: not removed: {err.strerror or err}"
    return None


def _take_over(removal: _Removal) -> str | None:
    """Remove something whose lease is held by a process that seems to be dead, after watching it; return why it stays."""
    assert removal.lease is not None
    try:
        with held(removal.lease, owner_name(), functools.partial(is_alive, removal.lease)) as lease:
            if lease is None:
                return _BUSY.format(removal.label)
            _remove(removal, lease)
    except OSError as err:
        return f"{removal.label}: not removed: {err.strerror or err}"
    return None


def _remove(removal: _Removal, lease: Lease | None) -> None:
    try:
        hidden = removal.hide()
    finally:
        if lease is not None:
            lease.release()
            leave_work(lease.path.parent)
    if hidden is not None:
        shutil.rmtree(hidden)


def _hide(folder: Path) -> Path:
    """Rename a folder, so that nobody ever sees half of it; return its hidden name."""
    hidden = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.old"
    folder.rename(hidden)
    return hidden
