"""Reading by libraries in C and Rust in a process of its own: on damaged bytes they may crash, hang, or exhaust the memory.

Then only that process ends, and the file is named. The columns come back through a pipe, as plain bytes.
"""

from __future__ import annotations

import json
import math
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spikedistill.data.formats.archives import MAX_RECORDING_BYTES
from spikedistill.data.formats.recordings.columns import Table
from spikedistill.errors import DataError

SECONDS = 60.0
"""Time limit for a file; each megabyte of it adds a second."""
MEMORY = 8 * MAX_RECORDING_BYTES
"""Bytes that reading may take."""
_CHUNK = 1 << 20


def guarded(read: Callable[[], Table], name: str, num_bytes: int) -> Table:
    """Call a function in a process of its own, and return its result.

    Args:
        read: reads a file.
        name: of the file, for messages.
        num_bytes: size of the file.

    Raises:
        DataError: as `read`; or if it crashes, takes too long or too much memory.
    """
    seconds = SECONDS + num_bytes / 1e6
    source, sink = os.pipe()
    child = os.fork()
    if not child:
        os.close(source)
        _serve(read, name, sink, math.ceil(seconds))
    os.close(sink)
    try:
        parts, in_time = _received(source, time.monotonic() + seconds)
    finally:
        os.close(source)
        os.kill(child, signal.SIGKILL)  # has ended, unless this is about a timeout or an interrupt
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not in_time:
        raise DataError(f"{name}: cannot be read: the library took more than {seconds:.0f} s; damaged? Get the file again")
    if (table := _table(b"".join(parts))) is None:
        raise DataError(
            f"{name}: cannot be read: the library crashed or ran out of memory (exit status {status}); get the file again"
        )
    return table


def _serve(read: Callable[[], Table], name: str, sink: int, seconds: int) -> None:
    """Call a function, and send what it returns or raises; never return."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # hide what libraries print
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = size + MEMORY if hard == resource.RLIM_INFINITY else min(hard, size + MEMORY)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds + 1, seconds + 2))  # if nobody is left to stop it
        try:
            chunks = _packed(read())
        except DataError as err:
            chunks = [json.dumps({"error": str(err)}).encode() + b"\n"]
        except MemoryError:
            chunks = [json.dumps({"error": f"{name}: unpacks to more than fits into the memory; damaged?"}).encode() + b"\n"]
        with os.fdopen(sink, "wb") as stream:
            stream.writelines(chunks)
    finally:
        os._exit(0)


def _packed(table: Table) -> list[Any]:
    """Return a table as a line of JSON and the bytes of its columns."""
    columns = [np.ascontiguousarray(column) for column in table[:4]]
    facts = {"columns": [[column.dtype.str, column.shape] for column in columns], "rest": table[4:]}
    return [json.dumps(facts).encode() + b"\n", *(column.data.cast("B") if column.size else b"" for column in columns)]


def _received(source: int, deadline: float) -> tuple[list[bytes], bool]:
    """Return what comes through a pipe, and whether it ended in time."""
    parts: list[bytes] = []
    while (left := deadline - time.monotonic()) > 0:
        if select.select([source], [], [], left)[0]:
            if not (part := os.read(source, _CHUNK)):
                return parts, True
            parts.append(part)
    return parts, False


def _table(content: bytes) -> Table | None:
    """Return a received table, or None if the process ended before it had sent one.

    Raises:
        DataError: if that is what was sent.
    """
    line, separator, body = content.partition(b"\n")
    if not separator:
        return None
    facts = json.loads(line)
    if "error" in facts:
        raise DataError(facts["error"])
    columns, start = [], 0
    for dtype, shape in facts["columns"]:
        column = np.frombuffer(body, np.dtype(dtype), count=int(np.prod(shape)), offset=start).reshape(shape)
        columns.append(column)
        start += column.nbytes
    unit, sensor, polarity, dropped = facts["rest"]
    t, x, y, p = columns
    return Table(t, x, y, p, unit, tuple(sensor) if sensor else None, polarity, dropped)
