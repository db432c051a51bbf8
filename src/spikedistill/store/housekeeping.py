"""Remove from a store what nobody needs any more. Imports no torch.

What a given configuration needs, what a running job makes or reads, what is recent, and all that these were made from are kept.
The rest goes: whatever is removed is renamed to a hidden name under its lease first, so that no job ever sees half of it; what a
job reads by then is put back.
"""

from __future__ import annotations

import contextlib
import errno
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

from spikedistill.errors import ArtifactError
from spikedistill.store.artifacts import SET_ASIDE, WORK, Store
from spikedistill.store.atomic import may_write, owner_of
from spikedistill.store.inventory import (
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
_BUSY = "stays, a running job holds its lease by now"
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
    problems = _remove(store, prune, removals, _hide_at_once)
    waiting = [each for each in removals if problems.get(each.label) == _STALE]
    if waiting:  # each for up to `STALE_S`, so all at the same time; each by itself, so that none is hidden until the last is
        with ThreadPoolExecutor(MAX_WAITING) as pool:
            outcomes = pool.map(lambda each: _remove(store, prune, [each], _hide_after_watching), waiting)
            for each, found in zip(waiting, outcomes, strict=True):
                del problems[each.label]
                problems |= found
    return [f"{label}: {problem}" for label, problem in problems.items()]


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
        elif not entry.manifest:  # which alone tells that it is an artifact
            reasons[ref] = "without a manifest that can be read, see `spikedistill verify`"
    return {ref: reasons.get(ref, "that a kept artifact was made from") for ref in sorted(with_upstream(reasons, entries))}


@dataclass(frozen=True, eq=False)
class _Removal:
    """One thing to remove.

    Attributes:
        label: what to call it in messages; the reference of an artifact.
        lease: the lease to hold meanwhile; None if nobody can be at work on it.
        hide: makes it invisible, under the lease, and returns what is left to remove after that.
        place: where it is put back if it has to stay; None if nobody misses it.
        takes_long: whether `hide` may take long.
    """

    label: str
    lease: Path | None
    hide: Callable[[], Path | None]
    place: Path | None = None
    takes_long: bool = False


def _of_artifact(store: Store, entry: Entry) -> _Removal:
    folder = store.path(entry.ref)

    def hide() -> Path | None:
        digest = store.digest(entry.ref)
        if digest is None or digest != entry.digest:  # gone, damaged or built anew since
            return None
        _check_removable(folder)
        return _hide(folder)

    return _Removal(entry.ref, lease_path(store.work(entry.ref)), hide, place=folder)


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

    def hide() -> Path | None:
        if not each.path.exists():
            return None
        _check_removable(each.path)
        return each.path

    lease = None if is_aside else lease_path(store.root / WORK / each.name)
    return _Removal(str(each.path.relative_to(store.root)), lease, hide)


_Hidden = dict[_Removal, Path]
_Hide = Callable[[_Hidden, _Removal], str | None]


def _remove(store: Store, prune: Prune, removals: list[_Removal], hide: _Hide) -> dict[str, str]:
    """Remove some things; return why others stay, by label.

    A job records what it reads, and opens it after that. So all is hidden first; what nobody has recorded by then, nobody reads.
    """
    problems = _in_use(store, prune, removals)
    chosen = [each for each in removals if each.label not in problems]
    hidden: _Hidden = {}
    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            outcomes = pool.map(functools.partial(hide, hidden), chosen)
            problems |= {each.label: problem for each, problem in zip(chosen, outcomes, strict=True) if problem}
        used = _in_use(store, prune, hidden)
    except BaseException:
        for each, path in hidden.items():
            _put_back(each, path)
        raise
    problems |= used
    for each in [each for each in hidden if each.label in used]:
        _put_back(each, hidden.pop(each))
    with ThreadPoolExecutor(WORKERS) as pool:
        outcomes = pool.map(_delete, hidden.keys(), hidden.values())
        return problems | {each.label: problem for each, problem in zip(hidden, outcomes, strict=True) if problem}


def _in_use(store: Store, prune: Prune, removals: Iterable[_Removal]) -> dict[str, str]:
    """Return which of some artifacts have to stay by now, contrary to the plan, with the reason."""
    refs = {each.label for each in removals if each.place is not None}
    if not refs:
        return {}
    planned = {entry.ref: entry for entry in prune.artifacts}
    reasons: dict[str, str] = {}
    for work in half_finished(store):
        if work.is_live:
            read = planned if work.upstream is None else work.upstream
            reasons |= dict.fromkeys(read, "a running job reads it by now")
    # The artifacts come after the jobs, which commit before they forget what they read.
    for ref, upstream in _made_since(store, prune, planned).items():
        reasons |= dict.fromkeys(upstream, f"{ref} was made from it meanwhile")
    return {
        ref: f"stays, {reasons.get(ref, 'something that stays was made from it')}"
        for ref in with_upstream(reasons, planned)
        if ref in refs
    }


def _made_since(store: Store, prune: Prune, planned: Mapping[str, Entry]) -> dict[str, list[str]]:
    """Return the artifacts that were made after the plan, and what each was made from."""
    found = {}
    for ref in store.refs():
        if ref not in prune.kept:
            with contextlib.suppress(FileNotFoundError, ArtifactError):
                manifest = store.manifest(ref)
                if ref not in planned or manifest["digest"] != planned[ref].digest:
                    found[ref] = list(manifest["upstream"])
    return found


def _hide_at_once(hidden: _Hidden, removal: _Removal) -> str | None:
    """Hide something; return None, or why it stays: `_STALE` if its lease is held by a process that seems to be dead."""
    lease = Lease(removal.lease, owner_name(), heartbeat=removal.takes_long) if removal.lease else None
    try:
        if lease is not None and not lease.acquire():
            return _BUSY if is_alive(lease.path) else _STALE
        _hide_under(lease, hidden, removal)
    except OSError as err:
        return f"not removed: {err.strerror or err}"
    return None


def _hide_after_watching(hidden: _Hidden, removal: _Removal) -> str | None:
    """Hide something whose lease is held by a process that seems to be dead, after watching it; return why it stays."""
    assert removal.lease is not None
    try:
        with held(removal.lease, owner_name(), functools.partial(is_alive, removal.lease)) as lease:
            if lease is None:
                return _BUSY
            _hide_under(lease, hidden, removal)
    except OSError as err:
        return f"not removed: {err.strerror or err}"
    return None


def _hide_under(lease: Lease | None, hidden: _Hidden, removal: _Removal) -> None:
    """Hide something, add what is left of it to `hidden`, and give up its lease."""
    try:
        path = removal.hide()
        if path is not None:
            hidden[removal] = path
    finally:
        if lease is not None:
            lease.release()
            leave_work(lease.path.parent)


def _put_back(removal: _Removal, hidden: Path) -> None:
    """Make an artifact visible again, unless it was made anew meanwhile."""
    if removal.place is not None:
        with contextlib.suppress(OSError):
            hidden.rename(removal.place)


def _delete(removal: _Removal, hidden: Path) -> str | None:
    """Delete something hidden; return why it stays. What cannot be deleted is put back while it is whole."""
    there = set(hidden.rglob("*"))
    try:
        shutil.rmtree(hidden)
    except OSError as err:
        if not hidden.exists():
            return None  # a job that makes it anew has removed it
        if set(hidden.rglob("*")) == there:
            _put_back(removal, hidden)
        return f"not removed: {err.strerror or err}"
    return None


def _check_removable(folder: Path) -> None:
    """Check that all that lies in a folder can be removed, before any of it is.

    Raises:
        PermissionError: if not, naming whose it is.
    """
    for each in (folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())):
        if not may_write(each):
            raise PermissionError(errno.EACCES, f"no permission to change {each}, which belongs to {owner_of(each)}")


def _hide(folder: Path) -> Path:
    """Rename a folder, so that nobody ever sees half of it; return its hidden name."""
    hidden = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.old"
    folder.rename(hidden)
    return hidden
