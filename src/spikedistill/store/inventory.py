"""What lies in a store: artifacts, half-finished work, remains; how large, how old, in what state. Imports no torch.

Nothing here reads the files of an artifact: sizes are compared with the manifest, checksums are not (`Store.verify` does that).
"""

from __future__ import annotations

import datetime
import json
import re
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from spikedistill.errors import ArtifactError, ConfigError
from spikedistill.store.artifacts import KINDS, MANIFEST, MANIFEST_BACKUP, SET_ASIDE, WORK, Store, is_artifact_name
from spikedistill.store.lease import STALE_S, Holder, heartbeat_age_s, is_lease_file, lease_path, read_holder
from spikedistill.store.provenance import STARTS

TRANSFER = "transfer.json"
"""In the work folder of an artifact that is being copied from another store: what it was made from."""
FORMER_NAMES = "former_names"
"""In a manifest: the references that the artifact had under the rules of earlier versions, the oldest first."""
_REMAINS = re.compile(r"\.(?P<name>.+)\.[0-9a-f]+\.(tmp|old)")
_SET_ASIDE = re.compile(r"(?P<name>.+)-\d{8}T\d{6}-[0-9a-f]{4}")
_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Entry:
    """One artifact of a store.

    Attributes:
        ref: its reference, `<kind>/<name>`.
        size: bytes of its files.
        created: when it was made, in seconds since 1970; None if unknown.
        since: when it came into this store.
        manifest: its manifest; empty if that cannot be read.
        problem: how it is damaged, as far as names and sizes of its files tell; None if they are right.
    """

    ref: str
    size: int
    created: float | None
    since: float
    manifest: Mapping[str, Any] = field(repr=False)
    problem: str | None = None

    @property
    def kind(self) -> str:
        """Folder of the store that it lies in."""
        return self.ref.partition("/")[0]

    @property
    def digest(self) -> str | None:
        """Digest of its files, by its manifest."""
        return self.manifest.get("digest")

    @property
    def upstream(self) -> dict[str, str]:
        """What it was made from: reference -> digest."""
        return dict(self.manifest.get("upstream", {}))

    @property
    def former_names(self) -> tuple[str, ...]:
        """The references that it had under the rules of earlier versions, the oldest first."""
        names = self.manifest.get(FORMER_NAMES)
        return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()

    @property
    def commit(self) -> str:
        """The beginning of the commit that made it, "+" for uncommitted changes; empty if unknown."""
        own = self.manifest.get("spikedistill")
        own = own if isinstance(own, dict) else {}
        commit = own.get("commit")
        return f"{commit[:10]}{'+' if own.get('dirty') else ''}" if isinstance(commit, str) and commit else ""


@dataclass(frozen=True)
class Work:
    """Half-finished work on one artifact, in `<store>/.work/NAME/`.

    Attributes:
        path: its folder.
        size: bytes of its files.
        modified: when something last changed there, in seconds since 1970.
        holder: the process that holds its lease, dead or alive; None if nobody does.
        is_live: True if the holder gave a sign of life lately.
        upstream: the artifacts that the last start reads; None if that is not recorded (a start by an earlier version).
    """

    path: Path
    size: int
    modified: float
    holder: Holder | None
    is_live: bool
    upstream: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """Name of the artifact."""
        return self.path.name


@dataclass(frozen=True)
class Remains:
    """A hidden folder that a killed build or removal left beside the artifacts, or an artifact that was set aside.

    Attributes:
        path: its folder.
        name: name of the artifact that it belongs to.
        size: bytes of its files.
        modified: when something last changed there, in seconds since 1970.
    """

    path: Path
    name: str
    size: int
    modified: float


def artifacts(store: Store) -> dict[str, Entry]:
    """Return every artifact of a store by reference, also those whose manifest cannot be read; sorted."""
    found = (_entry(store, f"{folder.parent.name}/{folder.name}") for folder in _folders(store) if _is_artifact(folder))
    return {entry.ref: entry for entry in found}


def half_finished(store: Store) -> list[Work]:
    """Return the half-finished work in a store, sorted by name."""
    return [_work(folder) for folder in _subfolders(store.root / WORK) if is_artifact_name(folder.name)]


def remains(store: Store) -> list[Remains]:
    """Return what killed builds left beside the artifacts."""
    return [found for kind in _kinds(store) for found in _remains(kind, _REMAINS)]


def set_aside(store: Store) -> list[Remains]:
    """Return the artifacts that `spikedistill verify --set-aside` moved away."""
    return _remains(store.root / SET_ASIDE, _SET_ASIDE)


def is_alive(lease: Path) -> bool:
    """Return True if a lease is held by a process that gave a sign of life lately."""
    holder = read_holder(lease)
    try:
        return not (holder is not None and holder.is_gone()) and heartbeat_age_s(lease) <= STALE_S
    except OSError:
        return False


def listing(entries: Iterable[Entry], needed: Mapping[str, Collection[str]]) -> str:
    """Return the artifacts of a store as a table.

    Args:
        entries: the artifacts.
        needed: for each configuration, by the name to show, the references of what it needs.
    """
    now = time.time()
    rows = [
        (
            entry.ref,
            format_size(entry.size),
            format_age(now - entry.created) if entry.created is not None else "?",
            entry.commit or "?",
            ", ".join(users(entry.ref, needed)) or "-",
            f"damaged: {entry.problem}" if entry.problem else "ok",
        )
        for entry in entries
    ]
    headers = ["artifact", "size", "age", "commit", "needed by", "state"]
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True, colalign=("left", "right", "right"))


def users(ref: str, needed: Mapping[str, Collection[str]]) -> list[str]:
    """Return the names of the configurations that need an artifact."""
    return [name for name, refs in needed.items() if ref in refs]


def as_json(entry: Entry, needed: Mapping[str, Collection[str]]) -> dict[str, Any]:
    """Return an artifact as plain values, with its whole spec."""
    return {
        "artifact": entry.ref,
        "kind": entry.kind,
        "bytes": entry.size,
        "created": entry.manifest.get("created"),
        "in_store_since": datetime.datetime.fromtimestamp(entry.since, datetime.UTC).isoformat(timespec="seconds"),
        "commit": entry.commit or None,
        "spec": entry.manifest.get("spec"),
        "upstream": entry.upstream,
        "needed_by": users(entry.ref, needed),
        "problem": entry.problem,
    }


def usage(store: Store) -> str:
    """Return what the parts of a store take, as a table: each kind, half-finished work, remains, and what was set aside."""
    by_kind: dict[str, list[int]] = {}
    for entry in artifacts(store).values():
        by_kind.setdefault(entry.kind, []).append(entry.size)
    parts = list(by_kind.items())
    parts.append((f"{WORK} (half-finished)", [work.size for work in half_finished(store)]))
    parts.append((f"{SET_ASIDE} (damaged)", [each.size for each in set_aside(store)]))
    parts.append(("left by killed jobs", [each.size for each in remains(store)]))
    rows = [(name, str(len(sizes)), format_size(sum(sizes))) for name, sizes in parts]
    every = [size for _, sizes in parts for size in sizes]
    rows.append(("all", str(len(every)), format_size(sum(every))))
    return tabulate(
        rows, headers=["what", "number", "size"], tablefmt="simple", disable_numparse=True, colalign=("left", "right", "right")
    )


def format_size(size: float) -> str:
    """Return a number of bytes in the unit that keeps it short."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_age(age_s: float) -> str:
    """Return an age in minutes, hours or days."""
    if age_s < 3600:
        return f"{max(age_s, 0) / 60:.0f} min"
    return f"{age_s / 3600:.0f} h" if age_s < 2 * 86400 else f"{age_s / 86400:.0f} d"


def parse_age(text: str) -> float:
    """Parse an age such as `30d`, `12h` or `2w`; return it in seconds.

    Raises:
        ConfigError: if it is not an age.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", text.strip())
    if not found:
        raise ConfigError(f"{text!r} is no age: give a number with h (hours), d (days) or w (weeks), such as 30d")
    return float(found[1]) * _UNITS[found[2]]


def _kinds(store: Store) -> list[Path]:
    return [folder for folder in _subfolders(store.root) if folder.name in KINDS]


def _folders(store: Store) -> Iterator[Path]:
    for kind in _kinds(store):
        yield from (folder for folder in _subfolders(kind) if is_artifact_name(folder.name))


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if each.is_dir() and not each.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_artifact(folder: Path) -> bool:
    return (folder / MANIFEST).exists() or (folder / MANIFEST_BACKUP).exists()


def _entry(store: Store, ref: str) -> Entry:
    folder = store.path(ref)
    try:
        manifest, problem = store.manifest(ref), None
    except (ArtifactError, FileNotFoundError) as err:
        manifest, problem = {}, str(err)
    size, _ = _measure(folder)
    since = _modified(folder)
    created = _timestamp(manifest.get("created"))
    if manifest:
        problem = _mismatch(folder, manifest["files"])
    return Entry(ref, size, created, max(since, created or 0.0), manifest, problem)


def _mismatch(folder: Path, files: Any) -> str | None:
    """Return how the files of a folder differ from a manifest in names and sizes; None if they do not."""
    try:
        for name, entry in files.items():
            size = (folder / name).stat().st_size
            if size != entry["bytes"]:
                return f"{name}: {size} bytes, expected {entry['bytes']}"
    except OSError as err:
        return f"{name}: {err.strerror or err}"
    except (AttributeError, KeyError, TypeError):
        return f"{MANIFEST}: it does not list the files"
    return None


def _work(folder: Path) -> Work:
    lease = lease_path(folder)
    size, modified = _measure(folder)
    is_live = lease.exists() and is_alive(lease)
    return Work(folder, size, modified, read_holder(lease), is_live, _recorded_upstream(folder))


def _recorded_upstream(work: Path) -> tuple[str, ...] | None:
    """Return what the starts of a stage or a transfer read, all together: () before the first, None if one does not record it."""
    found: dict[str, None] = {}
    for file in (work / STARTS, work / TRANSFER):
        try:
            for line in file.read_text(encoding="utf-8").splitlines():
                found |= dict.fromkeys(json.loads(line)["upstream"])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return tuple(found)


def _remains(place: Path, pattern: re.Pattern[str]) -> list[Remains]:
    """Return the folders in a place whose name fits a pattern that has the name of an artifact in it."""
    found = ((folder, pattern.fullmatch(folder.name)) for folder in _subfolders(place))
    ours = ((folder, match["name"]) for folder, match in found if match and is_artifact_name(match["name"]))
    return [Remains(folder, name, *_measure(folder)) for folder, name in ours]


def _measure(folder: Path) -> tuple[int, float]:
    """Return the bytes in a folder, a file with two names once, and when something in it last changed, not counting leases."""
    seen: set[int] = set()
    size, modified = 0, 0.0
    for path in folder.rglob("*"):
        try:
            found = path.lstat()
        except OSError:
            continue  # gone since it was listed
        if found.st_ino not in seen:
            seen.add(found.st_ino)
            size += found.st_size if stat.S_ISREG(found.st_mode) else 0
        if not is_lease_file(path):
            modified = max(modified, found.st_mtime)
    return size, modified or _modified(folder)


def _modified(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return time.time()  # gone since it was listed: not old, in any case


def _timestamp(text: Any) -> float | None:
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None
