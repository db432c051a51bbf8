"""A layer of LIF neurons, forward and backward, in every way it can be computed, beside SpikingJelly's and a plain copy.

    python benchmarks/lif.py --out benchmarks/results/lif_cpu.json
    python benchmarks/lif.py --device cuda --dtype float32 bfloat16 --out benchmarks/results/lif_gpu.json

`copy` is a lower bound: forward and backward move at least the bytes of six copies' halves (forward reads currents, writes spikes
and potentials; backward reads potentials and gradients, writes gradients), so `share_of_copy` is the time of three copies over
the time measured. The ways take turns, so that whatever else the machine does slows down all; with `--threads 1` processor time
is measured, which a busy machine changes little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor

from spikedistill.data.malloc import keep_freed_memory
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig

SHAPES = [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def ways(time_steps: int, device: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """Currents [T, N] in, spikes [T, N] out, by name."""
    settings = NeuronConfig()
    theirs = neuron.LIFNode(
        tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0, surrogate_function=surrogate.Sigmoid(alpha=4.0)
    )

    def looped(x: Tensor) -> Tensor:
        theirs.reset()
        theirs.step_mode = "s"
        return torch.stack([theirs(x_t) for x_t in x])

    def multi_step(x: Tensor) -> Tensor:
        theirs.reset()
        theirs.step_mode = "m"
        return theirs(x)

    plain, compiled = LIF(settings, time_steps), LIF(settings, time_steps)
    compiled.compiled = True
    found = {
        "spikingjelly, loop over T": looped,
        "spikingjelly, multi-step": multi_step,
        "triton" if device == "cuda" else "plain": lambda x: plain(x.flatten(0, 1)).view_as(x),
    }
    return found if device == "cuda" else found | {"compiled": lambda x: compiled(x.flatten(0, 1)).view_as(x)}


def measure(shape: tuple[int, ...], time_steps: int, batch: int, dtype: torch.dtype, device: str, repeats: int) -> dict[str, Any]:
    """Median milliseconds of forward, backward, and a copy of the currents."""
    x = torch.randn(time_steps, batch, *shape, device=device, dtype=dtype).flatten(1).requires_grad_()
    upstream = torch.randn_like(x)

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        alone = device == "cpu" and torch.get_num_threads() == 1
        return time.process_time() if alone else time.perf_counter()

    functions = ways(time_steps, device)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    copies = []
    target = torch.empty_like(x)
    for _ in range(repeats + 3):
        for name, function in functions.items():
            x.grad = None
            started = now()
            spikes = function(x)
            forward = now()
            spikes.backward(upstream)
            seconds[name].append((forward - started, now() - forward))
        started = now()
        target.data.copy_(x.data)
        copies.append(now() - started)
    copy_s = statistics.median(copies[3:])
    rows = {}
    for name, each in seconds.items():
        forward_s, backward_s = (statistics.median(part) for part in zip(*each[3:], strict=True))
        total = forward_s + backward_s
        rows[name] = {"forward_ms": 1e3 * forward_s, "backward_ms": 1e3 * backward_s, "share_of_copy": 3 * copy_s / total}
    return {
        "shape": [time_steps, batch, *shape],
        "dtype": str(dtype).removeprefix("torch."),
        "copy_ms": 1e3 * copy_s,
        "ways": rows,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    parser.add_argument("--time-steps", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device == "cpu":
        keep_freed_memory()  # as training does; for all ways alike
    cases = []
    for dtype in options.dtype:
        for shape in SHAPES:
            case = measure(shape, options.time_steps, options.batch_size, getattr(torch, dtype), options.device, options.repeats)
            cases.append(case)
            print(f"{case['shape']} {dtype}, copy {case['copy_ms']:.2f} ms")
            slowest = max(sum((row["forward_ms"], row["backward_ms"])) for row in case["ways"].values())
            for name, row in case["ways"].items():
                total = row["forward_ms"] + row["backward_ms"]
                print(
                    f"  {name:>26}: {row['forward_ms']:8.2f} + {row['backward_ms']:8.2f} ms, {slowest / total:5.1f} x, "
                    f"{100 * row['share_of_copy']:3.0f} % of copy bandwidth",
                    flush=True,
                )
    if options.out:
        report = {
            "command": "python benchmarks/lif.py " + " ".join(sys.argv[1:]),
            "device": torch.cuda.get_device_name() if options.device == "cuda" else platform.machine(),
            "threads": options.threads,
            "torch": torch.__version__,
            "load_at_end": os.getloadavg()[0],
            "cases": cases,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
