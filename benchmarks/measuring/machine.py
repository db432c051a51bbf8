"""The machine that a benchmark runs on: what it is, and how fast it multiplies matrices and copies."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from measuring.cuda_timing import time_calls

BEST_OF, ENOUGH_S = 7, 5.0
"""How often a rate is measured on a CPU at most, and the seconds after which it is not measured again."""


def prepare_device(device: str) -> None:
    """On the fake GPU of the tests, let this process answer for cuDNN and cuBLAS, and compare no values; nothing otherwise."""
    if device == "cuda" and "FAKE_GPUS" in os.environ:
        from spikedistill.train.step import graph
        from tests.gpu.fake.libraries import replace_libraries

        replace_libraries()
        for name in ("_metric_difference", "_state_difference"):
            setattr(graph, name, lambda *_: None)


def describe(device: str, threads: int) -> dict[str, Any]:
    """The machine and the software."""
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    load = os.getloadavg()[0]
    return {
        "device": name,
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_at_start": load,
    }


def processor() -> str:
    """The name of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def measure_rates(device: str, threads: int, precision: str) -> dict[str, float]:
    """Rates of matrix products in one precision and of copies."""
    torch.set_num_threads(threads)
    side = 2048 if device == "cpu" else 8192
    dtype = {"float32": torch.float32, "bf16": torch.bfloat16}[precision]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return {
        f"matmul_{precision}_gflops": rate_of(2 * side**3, partial(torch.matmul, a, b), device) / 1e9,
        "copy_gb_per_s": measure_copy(device) / 1e9,
    }


def measure_copy(device: str) -> float:
    """Bytes per second, read and written, of a copy that no cache holds."""
    x = torch.randn(2**26 if device == "cpu" else 2**28, device=device)
    y = torch.empty_like(x)
    return rate_of(2 * x.nbytes, lambda: y.copy_(x), device)


def rate_of(work: float, function: Callable[[], object], device: str) -> float:
    """`work` per second: the best on a CPU, the median on a GPU."""
    if device == "cuda":
        return work / time_calls(function).seconds
    seconds: list[float] = []
    while len(seconds) < BEST_OF and sum(seconds) < ENOUGH_S:
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return work / min(seconds)
