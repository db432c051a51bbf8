"""Checksums of weights files, which are part of the ids of what is imported from them. Imports no torch."""

from __future__ import annotations

import functools
from pathlib import Path

from spikedistill.errors import ConfigError
from spikedistill.store.verified import sha256


def weights_digest(file: str) -> str:
    """Return the sha256 of a weights file, in hex; a file that did not change is read once in a process.

    Raises:
        ConfigError: if it cannot be read.
    """
    path = Path(file).expanduser()
    try:
        state = path.stat()
        return _digest(path, state.st_size, state.st_mtime_ns)
    except (OSError, ValueError, RuntimeError) as err:
        raise ConfigError(f"weights {file}: {getattr(err, 'strerror', None) or err}") from None


@functools.lru_cache(maxsize=256)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    return sha256(path)
