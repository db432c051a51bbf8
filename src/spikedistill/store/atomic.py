"""Files that appear whole or not at all, survive a power cut, and can be read by those they are for. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_CHANGING_UMASK = threading.Lock()


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically, in UTF-8; return its path.

    Raises:
        OSError: if it cannot be written, as on a full disk; nothing is left of it, and what was there stays.
    """
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a binary file atomically; return its path.

    Raises:
        OSError: if it cannot be written, as on a full disk; nothing is left of it, and what was there stays.
    """
    return write(path, lambda stream: stream.write(content))


def write(path: Path, fill: Callable[[BinaryIO], object], *, durable: bool = False) -> Path:
    """Write a file atomically; return its path.

    Args:
        path: the file; its folder must be there.
        fill: writes the content to a binary stream.
        durable: wait until the file and its name are on the disk.

    Raises:
        OSError: if it cannot be written, as on a full disk; nothing is left of it, and what was there stays.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as stream:
            fill(stream)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        fsync(path.parent)
    return path


def fsync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def share(path: Path, *, with_group: bool = False) -> None:
    """Make a file or folder as readable as the umask allows, as if it had been created by `open` or `mkdir`.

    A library that writes through a temporary file leaves it with mode 0600. Permissions that it has already stay.

    Args:
        path: the file or folder.
        with_group: let its group read it, whatever the umask.
    """
    mode = path.stat().st_mode
    readable = stat.S_IRGRP | (stat.S_IXGRP if stat.S_ISDIR(mode) else 0)
    created = (0o777 if stat.S_ISDIR(mode) else 0o666) & ~umask()
    path.chmod(stat.S_IMODE(mode) | created | (readable if with_group else 0))


def shared_folder(folder: Path) -> None:
    """Make a folder unless it is there; whatever the umask, the group may write to it if it may write to the one around it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    around, found = folder.parent.stat(), folder.stat()
    if around.st_mode & stat.S_IWGRP and around.st_gid == found.st_gid:  # else it would be open to another group
        folder.chmod(stat.S_IMODE(found.st_mode) | stat.S_IWGRP)


def may_write(folder: Path) -> bool:
    """Return True if this process may make and remove files in a folder."""
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK)


def owner_of(path: Path) -> str:
    """Return the name of the user whom a file or folder belongs to; a number if they have no name here."""
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def umask() -> int:
    """Return the umask of this process, without changing it where the system shows it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    with _CHANGING_UMASK:
        current = os.umask(0o077)
        os.umask(current)
    return current
