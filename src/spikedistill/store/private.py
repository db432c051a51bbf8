"""A folder of this user below the cache folder, which nobody else can write to or replace. Imports no torch.

It is `spikedistill/…` in XDG_CACHE_HOME, else in ~/.cache, which nodes usually share. Everything up to it is checked: whoever can
write to such a folder, or rename it, decides what the user's jobs read there.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

ROOT = 0


class NotPrivateError(Exception):
    """Someone else could write to a folder, or replace it."""


def private_folder(*names: str) -> Path:
    """Make a folder below `spikedistill` in the cache folder, with the parts of its path that are missing, and return it.

    Raises:
        OSError, RuntimeError: if it cannot be made.
        NotPrivateError: if someone else could write to it or replace it.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    base = Path(given) if given else Path.home() / ".cache"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = base.resolve()
    _check_places(folder)
    for name in ("spikedistill", *names):
        folder = folder / name
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        _check_owned(folder)
    return folder


def _check_places(folder: Path) -> None:
    """Check that nobody but the user and root can rename a folder: by the owners and modes of all that it lies in."""
    for place in (folder, *folder.parents):
        found = place.stat()
        if found.st_uid not in (os.geteuid(), ROOT):
            raise NotPrivateError(f"{place} belongs to another user")
        if found.st_mode & stat.S_ISVTX:
            continue
        shared = found.st_mode & stat.S_IWGRP and found.st_gid not in (found.st_uid, ROOT)  # not the user's own group
        if found.st_mode & stat.S_IWOTH or shared:
            raise NotPrivateError(f"other users can write to {place}")


def _check_owned(folder: Path) -> None:
    """Check that a path is a folder, not a link, and that only the user can enter it."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotPrivateError(f"{folder} is not a folder")
    if found.st_uid != os.geteuid():
        raise NotPrivateError(f"{folder} belongs to another user")
    if found.st_mode & 0o077:
        raise NotPrivateError(f"other users may have written to {folder}: delete it")
