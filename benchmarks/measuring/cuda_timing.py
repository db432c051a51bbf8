"""Times on a GPU, by its own clock: CUDA events around many calls, which are launched by CUDA graphs where they can be captured.

Without a graph, a kernel of some microseconds takes as long as Python needs to launch the next one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch

AT_LEAST_S = 0.02
REPEATS = 5
MOST_CALLS = 200
WARMUP = 3


class Timing(NamedTuple):
    """The time of one call, and whether a graph launched it."""

    seconds: float
    graphed: bool


def time_calls(function: Callable[[], object], *, graph: bool = True, at_least_s: float = AT_LEAST_S) -> Timing:
    """Return the median over some repeats, each long enough that the resolution of events does not matter.

    Args:
        function: what is measured; it must not wait for the device.
        graph: whether to launch it by a CUDA graph; if it cannot be captured, it is launched call by call.
        at_least_s: duration of a repeat.
    """
    replay = _captured(function) if graph else None
    return Timing(_median(replay or function, at_least_s), replay is not None)


def _captured(function: Callable[[], object]) -> Callable[[], object] | None:
    """Return what replays a graph of a function, or None if it cannot be captured."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # as torch's documentation asks: allocations of a warm-up are none of the graph's
        for _ in range(WARMUP):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            function()
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return graph.replay


def _median(call: Callable[[], object], at_least_s: float) -> float:
    for _ in range(WARMUP):
        call()
    count = max(1, min(MOST_CALLS, math.ceil(at_least_s / _once(call, 1))))
    return statistics.median(_once(call, count) for _ in range(REPEATS))


def _once(call: Callable[[], object], count: int) -> float:
    """Return the seconds of one of `count` calls."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return max(start.elapsed_time(end) / 1e3, 1e-7) / count
