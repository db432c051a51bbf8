"""Checksums of large files that this user has computed on this node, so that the next stage need not read them again.

A file counts as unchanged while its device, inode, size, and times of modification and change are the same; every write gives it
a new time of change, which no user can set. Bit rot on a disk shows in none of them; `spikedistill verify` finds it, because it
reads everything. The notes lie in a folder for each node that nobody else can write to: see `store.private`. Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from spikedistill.store.atomic import write_text
from spikedistill.store.private import NotPrivateError, private_folder

LARGE_BYTES = 16 << 20
"""Smaller files are read each time."""
SETTLED_S = 3.0
"""A file that changed more recently may change again within the resolution of its timestamps, and is not noted."""


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def noted_sha256(path: Path) -> str:
    """Return the sha256 of a file, in hex; for a large file that is unchanged, from the notes of this node.

    Raises:
        OSError: if the file cannot be read. Notes that cannot be read or written are no error.
    """
    before = _state(path)
    if before["bytes"] < LARGE_BYTES:
        return sha256(path)
    note = _note(path)
    if note is not None and (known := _known(note, before)):
        return known
    found = sha256(path)
    settled = time.time() - before["changed_ns"] / 1e9 > SETTLED_S
    if note is not None and settled and _state(path) == before:
        with contextlib.suppress(OSError):
            write_text(note, json.dumps({"path": str(path.absolute()), **before, "sha256": found}) + "\n")
    return found


def _state(path: Path) -> dict[str, int]:
    found = path.stat()
    return {
        "device": found.st_dev,
        "inode": found.st_ino,
        "bytes": found.st_size,
        "modified_ns": found.st_mtime_ns,
        "changed_ns": found.st_ctime_ns,
    }


def _note(path: Path) -> Path | None:
    """Return the place of the note about a file; None where there can be none."""
    try:
        folder = private_folder("verified", re.sub(r"[^A-Za-z0-9.-]", "_", platform.node()) or "node")
    except (OSError, RuntimeError, NotPrivateError):
        return None
    return folder / hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]


def _known(note: Path, state: dict[str, int]) -> str | None:
    """Return the checksum in a note if it is about a file in this state."""
    try:
        content: Any = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or any(content.get(key) != value for key, value in state.items()):
        return None
    found = content.get("sha256")
    return found if isinstance(found, str) else None
