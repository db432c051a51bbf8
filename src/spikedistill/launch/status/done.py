"""Which stages are done: their artifact is there, and was made from the upstream artifacts that are there now."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikedistill.errors import ArtifactError
from spikedistill.launch.status.files import number_in, printable
from spikedistill.plan.build import Plan
from spikedistill.plan.stages import STAGES
from spikedistill.store.artifacts import Store


@dataclass(frozen=True)
class Made:
    """What matters here of an artifact's manifest.

    Attributes:
        digest: of its files.
        upstream: digests of the artifacts that it was made from, by reference.
        host: where it was made.
        wall_s: how long its last run took.
        gpu_hours: of that run.
        starts: how many runs it took.
    """

    digest: str
    upstream: Mapping[str, Any]
    host: str
    wall_s: float
    gpu_hours: float
    starts: int


class DoneStages:
    """Looks for the artifacts of a plan; a manifest is read once, for artifacts never change."""

    def __init__(self, plan: Plan, store: Store) -> None:
        """Read nothing yet."""
        self._plan, self._store = plan, store
        self._read: dict[str, tuple[tuple[int, int], Made | None]] = {}
        self._current: dict[str, Made] = {}

    def look(self) -> None:
        """Look at the store again."""
        there = {f"{stage.folder}/{name}" for stage in STAGES.values() for name in names_in(self._store.root / stage.folder)}
        made = {ref: self._made(ref) for ref in self._plan.stages if ref in there}
        self._current = {}
        for ref, spec in self._plan.stages.items():  # upstream first
            found = made.get(ref)
            if found is not None and all(self._is_used(found, each) for each in spec.upstream.values()):
                self._current[ref] = found

    def made(self, ref: str) -> Made | None:
        """Return what is known of an artifact; None if it is not there, or must be made again."""
        return self._current.get(ref)

    def is_damaged(self, ref: str) -> bool:
        """Return whether there is an artifact whose manifest cannot be read."""
        return ref in self._read and self._read[ref][1] is None

    def is_outdated(self, ref: str) -> bool:
        """Return whether there is an artifact that was made from other upstream artifacts than are there now."""
        return ref not in self._current and ref in self._read and self._read[ref][1] is not None

    def _is_used(self, made: Made, upstream: str) -> bool:
        return upstream in self._current and made.upstream.get(upstream) == self._current[upstream].digest

    def _made(self, ref: str) -> Made | None:
        try:
            about = self._store.manifest_path(ref).stat()
        except OSError:
            self._read.pop(ref, None)
            return self._restored(ref)
        key = (about.st_ino, about.st_mtime_ns)
        if ref not in self._read or self._read[ref][0] != key:
            self._read[ref] = key, self._parsed(ref) if stat.S_ISREG(about.st_mode) else None
        return self._read[ref][1]

    def _restored(self, ref: str) -> Made | None:
        """Return an artifact whose manifest Snakemake has just removed; the store puts it back."""
        return self._made(ref) if self._parsed(ref) is not None else None

    def _parsed(self, ref: str) -> Made | None:
        try:
            manifest = self._store.manifest(ref)
        except (ArtifactError, OSError):
            return None
        starts = manifest.get("starts")
        return Made(
            digest=str(manifest["digest"]),
            upstream=dict(manifest["upstream"]),
            host=printable(manifest.get("host", "?")),
            wall_s=number_in(manifest.get("wall_s")) or 0.0,
            gpu_hours=number_in(manifest.get("gpu_hours")) or 0.0,
            starts=starts if isinstance(starts, int) else 1,
        )


def names_in(folder: Path) -> Iterable[str]:
    """Return the names of what lies in a folder; none if there is no such folder."""
    try:
        return {entry.name for entry in folder.iterdir()}
    except OSError:
        return set()
