"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def keep_freed_memory(max_bytes: int = 2**31 - 1) -> None:
    """Let malloc keep up to `max_bytes` of freed memory for later allocations instead of returning it to the system.

    Training steps and recordings allocate and free the same large arrays again and again. By default glibc maps each of them
    anew, and the first access to each page costs more than the arithmetic on it. No effect where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, max_bytes)
        mallopt(_M_ARENA_MAX, 1)
