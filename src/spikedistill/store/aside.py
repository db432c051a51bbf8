"""Move a damaged artifact away, so that the next run builds it again. Imports no torch."""

from __future__ import annotations

import functools
from pathlib import Path

from spikedistill.errors import ArtifactError
from spikedistill.store.artifacts import Store
from spikedistill.store.housekeeping import leave_work, owner_name
from spikedistill.store.inventory import is_alive
from spikedistill.store.lease import held, lease_path


def move_aside(store: Store, ref: str) -> Path | None:
    """Move an artifact that was found damaged away, unless it is whole or gone by now; return its new place.

    It is verified once more under its lease: a job may have made it anew since.

    Raises:
        ArtifactError: if a running job holds its lease, or if it could not be read.
        OSError: if it cannot be moved.
    """
    path = lease_path(store.work(ref))
    try:
        with held(path, owner_name(), functools.partial(is_alive, path)) as lease:
            if lease is None:
                raise ArtifactError("a running job holds its lease; run this again when it has ended")
            if not _is_damaged(store, ref):
                return None
            lease.check()
            return store.set_aside(ref)
    finally:
        leave_work(path.parent)


def _is_damaged(store: Store, ref: str) -> bool:
    try:
        return store.verify(ref) is not None
    except FileNotFoundError:
        return False
