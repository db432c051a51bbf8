"""The user's files, read with size limits, and errors of the operating system in words. Standard library only."""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from spikedistill.errors import DataError

log = logging.getLogger(__name__)

MAX_TEXT_BYTES = 64 << 20
MUCH_BYTES = 1 << 30
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ADVICE = {
    errno.EACCES: "give yourself permission, or ask its owner",
    errno.EPERM: "give yourself permission, or ask its owner",
    errno.EROFS: "choose a place that can be written to",
    errno.ELOOP: "a symbolic link leads back to itself: remove it",
    errno.EIO: "the disk or its network failed: try again, then get the file again",
    errno.ESTALE: "the network disk lost it: try again",
    **dict.fromkeys(_DISK_FULL, "make room, or use another disk"),
}

Prepare = TypeVar("Prepare", bound=Callable[..., None])


def reason(err: OSError) -> str:
    """Return what the operating system refused, with what to do about it where that is known."""
    said = err.strerror or str(err) or type(err).__name__
    return f"{said}; {advice}" if (advice := _ADVICE.get(err.errno or 0)) else said


def is_disk_full(err: OSError) -> bool:
    """Return whether a write failed for want of space."""
    return err.errno in _DISK_FULL


def explained(prepare: Prepare) -> Prepare:
    """Decorate the `prepare` of a dataset: errors of the operating system become a DataError that names the file."""

    @functools.wraps(prepare)
    def prepare_explained(params: Any, *, raw: Path | None, out: Path, **others: Any) -> None:
        try:
            prepare(params, raw=raw, out=out, **others)
        except OSError as err:
            place = err.filename or (out if raw is None or is_disk_full(err) else f"while {raw} was prepared into {out}")
            raise DataError(f"{place}: {reason(err)}") from err

    return prepare_explained  # type: ignore[return-value]


def is_there(file: Path) -> bool:
    """Return whether a file that a list names exists; the list may have any text in place of a name."""
    try:
        return file.is_file()
    except OSError as err:
        if err.errno == errno.ENAMETOOLONG:
            return False
        raise


def read_file(path: Path | str, *, limit: int) -> bytes:
    """Return the content of a file.

    Raises:
        DataError: if it cannot be read, or is larger than `limit` bytes.
    """
    try:
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - twice as fast as Path.open
            size = os.fstat(stream.fileno()).st_size
            if size > limit:
                raise DataError(f"{path}: {in_units(size)}, where at most {in_units(limit)} are expected; another file?")
            return stream.read()
    except OSError as err:
        raise DataError(f"{path}: {reason(err)}") from err


def read_text(path: Path, *, limit: int = MAX_TEXT_BYTES) -> str:
    """Return the content of a text file in UTF-8, without a byte order mark.

    Raises:
        DataError: if it cannot be read, is larger than `limit` bytes, or is not UTF-8.
    """
    content = read_file(path, limit=limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        found = content[err.start]
        raise DataError(
            f"{path}: expected text in UTF-8, found byte 0x{found:02x} at offset {err.start}; get it again, or save it as UTF-8"
        ) from err


def read_json(path: Path) -> Any:
    """Return the content of a JSON file of a prepared dataset.

    Raises:
        DataError: if it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise DataError(f"{path}: {reason(err)}") from err
    except (ValueError, RecursionError) as err:
        raise DataError(f"{path}: not JSON that can be read ({err})") from err


def state_of(path: Path | str) -> str:
    """Return size and time of the last change of a file in one word, which differs if the file may have changed."""
    try:
        found = os.stat(path)  # noqa: PTH116 - of a string, a million times
    except OSError:
        return "missing"
    return f"{found.st_size}:{found.st_mtime_ns}"


def link(source: Path, target: Path) -> None:
    """Hard-link a file to `target`, replacing what is there; copy it if the file systems differ or have no hard links."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def in_units(num_bytes: int) -> str:
    """Return a size in the largest unit of bytes that leaves at least 1 before the point."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.1f} {name}"
    return f"{num_bytes} bytes"


def check_free_space(folder: Path, needed: int, what: str) -> None:
    """Raise a DataError if the disk of `folder` has fewer than `needed` bytes free; log the need if it is large."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{folder}: {in_units(needed)} needed for the {what}, {in_units(free)} free; make room, or use another disk"
        )
    if needed >= MUCH_BYTES:
        log.info("%s to write for the %s below %s, %s free", in_units(needed), what, folder, in_units(free))


def reserve(descriptor: int, num_bytes: int, *, keep_size: bool = False) -> None:
    """Reserve space for a file, where the file system can: nothing else takes it, and an exceeded quota shows at once.

    Args:
        descriptor: of the file.
        num_bytes: from its beginning on.
        keep_size: do not make the file longer.

    Raises:
        OSError: if the space is not there.
    """
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate  # os.posix_fallocate would fall back to writing zeros
    except (OSError, AttributeError):
        return
    if fallocate(descriptor, int(keep_size), ctypes.c_int64(0), ctypes.c_int64(num_bytes)) and ctypes.get_errno() in _DISK_FULL:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
