"""Which evaluations had their machine to themselves: only their latencies can be compared. Imports no torch."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Manifest = Mapping[str, Any]


class _Stay(NamedTuple):
    """When a stage was on a host."""

    start: datetime.datetime
    end: datetime.datetime
    ref: str


def measured_alone(manifests: Mapping[str, Manifest]) -> dict[str, bool]:
    """Return for each artifact whether no other one was made on the same host at the same time.

    Of a stage that was started several times, the last start counts. What else ran there is not known.

    Args:
        manifests: the manifest of each artifact, by reference; those without host and times are left out.
    """
    hosts: dict[str, list[_Stay]] = {}
    for ref, manifest in manifests.items():
        if manifest.get("host") and manifest.get("started") and manifest.get("created"):
            start, end = (datetime.datetime.fromisoformat(manifest[key]) for key in ("started", "created"))
            hosts.setdefault(manifest["host"], []).append(_Stay(start, end, ref))
    return {ref: alone for stays in hosts.values() for ref, alone in _alone(sorted(stays))}


def _alone(stays: list[_Stay]) -> Iterator[tuple[str, bool]]:
    """Yield whether each of some stays, sorted by start, overlaps none of the others."""
    busy_until = None
    for stay, following in zip(stays, [*stays[1:], None], strict=True):
        is_alone = (busy_until is None or busy_until <= stay.start) and (following is None or stay.end <= following.start)
        yield stay.ref, is_alone
        busy_until = stay.end if busy_until is None else max(busy_until, stay.end)
