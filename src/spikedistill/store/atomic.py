"""Files that appear whole or not at all, and survive a power cut. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically, in UTF-8; return its path.

    Raises:
        OSError: if it cannot be written, as on a full disk; nothing is left of it, and what was there stays.
    """
    return write(path, lambda stream: stream.write(text.encode("utf-8")))


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
