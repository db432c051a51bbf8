"""A layer of LIF neurons, forward and backward, in every way it can be computed, compared with SpikingJelly's and a plain copy.

    python benchmarks/lif.py --out benchmarks/results/lif_cpu.json
    python benchmarks/lif.py --device cuda --dtype float32 bfloat16 --out results/lif_gpu.json
    SJ_LIF_CUDA_IMPLEMENTATION=triton python benchmarks/lif.py --device cuda    with SpikingJelly's neuron in Triton

`copy` is a lower bound: forward and backward move at least the bytes of six copies' halves (forward reads currents, writes spikes
and potentials; backward reads potentials and gradients, writes gradients), so `share_of_copy` is the time of three copies over
the time measured. The ways take turns, so that other work on the machine slows down all of them alike; with `--threads 1`,
processor time is measured, which a busy machine changes little.

On a GPU, CUDA graphs launch each way, and CUDA events time many launches; what cannot be captured is launched by Python.
`share_of_bandwidth` counts the bytes that a way reads and writes if it does so once: currents, spikes, what it keeps for the
backward pass, gradients; its time is compared with that of a copy of 1 GiB. Batches are large, so that tensors exceed the cache.
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

from measuring.cuda_timing import AT_LEAST_S, time_calls
from measuring.machine import measure_copy, prepare_device
from spikedistill.data.malloc import keep_freed_memory
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig

SHAPES = [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


BATCH = {"cpu": 32, "cuda": 512}


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
        "ours" if device == "cuda" else "plain": lambda x: plain(x.flatten(0, 1)).view_as(x),
    }
    return found if device == "cuda" else found | {"compiled": lambda x: compiled(x.flatten(0, 1)).view_as(x)}


def measure(shape: tuple[int, ...], time_steps: int, batch: int, dtype: torch.dtype, repeats: int) -> dict[str, Any]:
    """Median milliseconds of forward, backward, and a copy of the currents."""
    x = torch.randn(time_steps, batch, *shape, dtype=dtype).flatten(1).requires_grad_()
    upstream = torch.randn_like(x)
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    functions = ways(time_steps, "cpu")
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


def measure_on_gpu(
    shape: tuple[int, ...], time_steps: int, batch: int, dtype: torch.dtype, bandwidth: float, at_least_s: float
) -> dict[str, Any]:
    """Do as `measure`, by the device's clock, with the share of the bandwidth of a large copy."""
    x = torch.randn(time_steps, batch, *shape, device="cuda", dtype=dtype).flatten(1).requires_grad_()
    upstream, target = torch.randn_like(x), torch.empty_like(x)
    copy_s = time_calls(lambda: target.copy_(x.detach()), at_least_s=at_least_s).seconds
    rows: dict[str, dict[str, Any]] = {}
    for name, function in ways(time_steps, "cuda").items():
        try:
            rows[name] = _row(function, x, upstream, copy_s, bandwidth, at_least_s)
        except (RuntimeError, ImportError, ValueError) as err:  # an implementation of SpikingJelly's that is not there
            rows[name] = {"error": str(err).partition("\n")[0]}
    return {
        "shape": [time_steps, batch, *shape],
        "dtype": str(dtype).removeprefix("torch."),
        "copy_ms": 1e3 * copy_s,
        "ways": rows,
    }


def _row(
    function: Callable[[Tensor], Tensor], x: Tensor, upstream: Tensor, copy_s: float, bandwidth: float, at_least_s: float
) -> dict[str, Any]:
    """Times of one way; that of the backward pass is the time of both passes less that of the forward pass."""

    def leaf() -> Tensor:
        return x.detach().requires_grad_()  # of this call's own stream, as graphs need

    def both() -> None:
        currents = leaf()
        torch.autograd.grad(function(currents), currents, upstream)

    moved = moved_bytes(function, x)
    forward = time_calls(lambda: function(leaf()), at_least_s=at_least_s)
    total = time_calls(both, at_least_s=at_least_s)
    return {
        "forward_ms": 1e3 * forward.seconds,
        "backward_ms": 1e3 * (total.seconds - forward.seconds),
        "share_of_copy": 3 * copy_s / total.seconds,
        "bytes_per_current": moved / x.numel(),
        "share_of_bandwidth": moved / total.seconds / bandwidth,
        "graphed": forward.graphed and total.graphed,
    }


def moved_bytes(function: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Bytes that a way reads and writes, forward and backward, if it does so once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        spikes = function(x)
    written = sum(size for place, size in kept.items() if place not in (x.data_ptr(), spikes.data_ptr()))
    forward = x.nbytes + spikes.nbytes + written
    return forward + sum(kept.values()) + 2 * x.nbytes  # kept, gradients of spikes, gradients of currents


def show(case: dict[str, Any]) -> None:
    """Print a case."""
    print(f"{case['shape']} {case['dtype']}, copy {case['copy_ms']:.2f} ms")
    there = {name: row for name, row in case["ways"].items() if "error" not in row}
    slowest = max(row["forward_ms"] + row["backward_ms"] for row in there.values())
    for name, row in case["ways"].items():
        if "error" in row:
            print(f"  {name:>26}: {row['error']}")
            continue
        total = row["forward_ms"] + row["backward_ms"]
        share = row.get("share_of_bandwidth", row["share_of_copy"])
        print(
            f"  {name:>26}: {row['forward_ms']:8.2f} + {row['backward_ms']:8.2f} ms, {slowest / total:5.1f} x, "
            f"{100 * share:3.0f} % of copy bandwidth{'' if row.get('graphed', True) else ', launched by Python'}",
            flush=True,
        )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    parser.add_argument("--time-steps", type=int, default=4)
    parser.add_argument("--batch-size", type=int, help="default: 32 on a CPU, 512 on a GPU")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads")
    parser.add_argument(
        "--short", action="store_true", help="on a GPU, one shape and short repeats: shows that it runs, not how fast"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prepare_device(options.device)
    batch = options.batch_size or BATCH[options.device]
    if options.device == "cpu":
        keep_freed_memory()  # as training does; for all ways alike
    bandwidth = measure_copy(options.device) if options.device == "cuda" else 0.0
    cases = []
    for dtype in options.dtype:
        for shape in SHAPES[-1:] if options.short else SHAPES:
            if options.device == "cuda":
                at_least_s = 0.0 if options.short else AT_LEAST_S
                case = measure_on_gpu(shape, options.time_steps, batch, getattr(torch, dtype), bandwidth, at_least_s)
            else:
                case = measure(shape, options.time_steps, batch, getattr(torch, dtype), options.repeats)
            cases.append(case)
            show(case)
    if options.out:
        report = {
            "command": "python benchmarks/lif.py " + " ".join(sys.argv[1:]),
            "device": torch.cuda.get_device_name() if options.device == "cuda" else platform.machine(),
            "threads": options.threads,
            "torch": torch.__version__,
            "load_at_end": os.getloadavg()[0],
            "cases": cases,
        }
        if options.device == "cuda":
            report |= {"spikingjelly": os.environ.get("SJ_LIF_CUDA_IMPLEMENTATION", "auto"), "copy_gb_per_s": bandwidth / 1e9}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
