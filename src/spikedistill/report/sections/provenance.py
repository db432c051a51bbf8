"""The origin of the networks of a comparison: code, packages, machines. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spikedistill.report.records import RunRecord
from spikedistill.store.provenance import commit_of

HEADERS = ("what", "value", "runs")


def cells(records: Sequence[RunRecord]) -> list[list[str]]:
    """Return every value in the networks' manifests with the number of networks that have it, under `HEADERS`."""
    counts: dict[tuple[str, str], int] = {}
    manifests = {run.artifact: run.manifest for run in records if run.manifest}
    for manifest in manifests.values():
        for fact in _facts(manifest):
            counts[fact] = counts.get(fact, 0) + 1
    return [[name, value, str(count)] for (name, value), count in sorted(counts.items())]


def _facts(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    own = manifest.get("spikedistill", {})
    if own:
        yield "spikedistill", f"{own.get('version')}, commit {commit_of(manifest)}"
    for name, version in manifest.get("packages", {}).items():
        yield f"package {name}", str(version)
    for key in ("python", "platform", "device", "world_size", "host"):
        if manifest.get(key) is not None:
            yield key.replace("world_size", "ranks"), str(manifest[key])
