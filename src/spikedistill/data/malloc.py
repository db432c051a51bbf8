"""The memory that a process holds on a CPU."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def keep_freed_memory(most: int = 2**31 - 1) -> None:
    """From now on malloc keeps up to `most` bytes of freed blocks for later ones instead of giving them back to the system.

    A training step, and a recording, allocate and free the same large arrays again and again. By default glibc maps each of them
    anew, and the first touch of every page costs more than the arithmetic on it. Without effect where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, most)
        mallopt(_M_ARENA_MAX, 1)
