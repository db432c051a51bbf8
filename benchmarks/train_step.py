"""A training step of this engine compared with a reference-style one, taking turns; with its parts, memory and a roofline.

    python benchmarks/train_step.py --precision bf16 --compile --out benchmarks/results/train_step_cpu.json
    python benchmarks/train_step.py --device cuda --config all --precision bf16 --engine cuda_graph=true --out results/gpu.json

Ours is `train.engine.train` itself on generated samples, with the loader, the method and the teacher of a real run; hooks note
when each part begins. The reference-style step does what the published scripts do: float32, neurons as a Python loop over T with
SpikingJelly's LIFNode, the input repeated T times, nothing compiled; same method, teacher, weights and batch. Each is a process
of its own, and they take turns, step by step, so that other work on the machine slows down both alike. On a machine that is busy
with other work, `--threads 1` and the processor time, which is reported too, say more than the wall time.

On a GPU the turns are blocks of steps, timed by CUDA events around each block, within which the host waits for nothing. The parts
of a step are those of one more step, at the end, in which the host waits at each part.

The roofline is the larger of two times: operations (3 forward passes of the student, 1 of the teacher) over the measured rate of
matrix products in the same precision, and bytes (every layer output written and read once forward, three times backward) over
the measured rate of copies.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from measuring.cases import BATCH, CONFIGS, Case
from measuring.machine import describe, measure_rates, prepare_device
from measuring.turns import PARTS, Line, ours, reference, worker
from spikedistill.plan.costs.work import network_counts
from spikedistill.train.settings import EngineConfig


def compare(case: Case) -> dict[str, Any]:
    """Steps of both in turns."""
    samples: dict[str, list[dict[str, float]]] = {"ours": [], "reference": []}
    with worker(ours, case) as (our_line, our_idle), worker(reference, case) as (their_line, their_idle):
        lines = {"ours": (our_line, our_idle), "reference": (their_line, their_idle)}
        started = time.perf_counter()
        for turn in range(case.warmup + case.repeats):
            for name, (line, _) in lines.items():
                line.send(case.block)
                samples[name].append(line.recv())
            if turn == 0:
                first_s = samples["ours"][0]["step"]
            print(f"  turn {turn}: " + ", ".join(f"{n} {s[-1]['step'] * 1e3:.2f} ms" for n, s in samples.items()), flush=True)
        detailed = samples if case.device == "cpu" else in_parts(lines)
        elapsed = time.perf_counter() - started
    result: dict[str, Any] = {}
    for name, (_, idle) in lines.items():
        steps = samples[name][case.warmup :]
        seconds = statistics.median(s["step"] for s in steps)
        parts = steps if case.device == "cpu" else detailed[name]
        result[name] = {
            "step_ms": 1e3 * seconds,
            "samples_per_s": case.batch / seconds,
            "cpu_ms": 1e3 * statistics.median(s["cpu"] for s in steps),
            "parts_ms": {part: 1e3 * statistics.median(s[part] for s in parts) for part in PARTS},
            "peak_mib": steps[-1]["peak_mib"] - (0 if case.device == "cuda" else idle),
        }
        if case.device == "cuda":
            result[name] |= {"reserved_mib": steps[-1]["reserved_mib"], "notes": steps[-1]["notes"]}
    ratios = [
        r["step"] / o["step"] for o, r in zip(samples["ours"][case.warmup :], samples["reference"][case.warmup :], strict=True)
    ]
    result["speedup"] = result["reference"]["step_ms"] / result["ours"]["step_ms"]
    result["speedup_in_cpu_time"] = result["reference"]["cpu_ms"] / max(result["ours"]["cpu_ms"], 1e-6)
    result["speedup_of_each_pair"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    result["first_step_s"] = first_s
    result["seconds"] = elapsed
    return result


def in_parts(lines: dict[str, tuple[Line, float]]) -> dict[str, list[dict[str, float]]]:
    """One step of each in which the host waits for the GPU at each part; of a CUDA graph, all is one part."""
    samples = {}
    for name, (line, _) in lines.items():
        line.send(1)
        samples[name] = [line.recv()]
    return samples


def roofline(case: Case, machine: dict[str, float]) -> dict[str, float]:
    """A rough lower bound on the time of a step, from arithmetic and memory."""
    config = case.config
    student, teacher = network_counts()[config.arch], network_counts()[config.teacher]
    pixels = (config.sample[-1] / student["side"]) ** 2
    runs = case.batch * pixels
    if case.backward == "bptt":
        passes = 3 * config.steps
        moved = 5 * config.steps
    else:
        passes = config.steps + 3  # a forward pass of every step, then one step forward and backward
        moved = 2 * config.steps + 5
    operations = 2 * runs * (passes * student["macs"] + teacher["macs"])
    width = 2 if case.precision == "bf16" else 4
    transported = runs * width * (moved * student["elements"] + 2 * teacher["elements"])
    compute_ms = operations / machine[f"matmul_{case.precision}_gflops"] / 1e6
    memory_ms = transported / machine["copy_gb_per_s"] / 1e6
    return {
        "gflop": operations / 1e9,
        "gbyte": transported / 1e9,
        "compute_ms": compute_ms,
        "memory_ms": memory_ms,
        "bound_ms": max(compute_ms, memory_ms),
    }


def engine_config(pairs: list[str], compiled: bool) -> EngineConfig:
    """The configuration of the engine, of `KEY=VALUE` arguments; no checkpoint is written meanwhile."""
    given = {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}
    return EngineConfig.model_validate({"compile": compiled, "checkpoint_minutes": 1e6} | given)


def set_keys(engine: EngineConfig) -> dict[str, Any]:
    """What of it differs from the defaults."""
    return engine.model_dump(exclude_defaults=True, exclude={"checkpoint_minutes"})


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", nargs="+", default=["cifar-resnet18"], choices=[*CONFIGS, "all"])
    parser.add_argument("--backward", nargs="+", default=["bptt"], choices=["bptt", "rate"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"], help="of our step")
    parser.add_argument("--compile", action="store_true", help="as engine.compile, in our step")
    parser.add_argument("--engine", nargs="+", default=[], metavar="KEY=VALUE", help="further keys of `engine:`, for our step")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--short", action="store_true", help="little of everything: shows that it runs, not how fast")
    parser.add_argument("--batch-size", type=int, help="default: 128 on a GPU, what takes a second or so on a CPU")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--block", type=int, default=20, help="steps of a turn on a GPU, at least 2")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="CPU threads")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.short:
        options.config, options.repeats, options.warmup = ["digits-resnet8"], 1, 1
    names = list(CONFIGS) if "all" in options.config else options.config
    engine = engine_config(options.engine, options.compile)
    prepare_device(options.device)
    machine = measure_rates(options.device, options.threads, options.precision)
    report: dict[str, Any] = {
        "command": "python benchmarks/train_step.py " + " ".join(sys.argv[1:]),
        **describe(options.device, options.threads),
        "rates": machine,
        "cases": [],
    }
    for name in names:
        for backward in options.backward:
            batch = options.batch_size or BATCH[options.device].get(name, 128)
            case = Case(
                name,
                backward,
                batch,
                options.device,
                options.precision,
                engine,
                options.repeats,
                options.warmup,
                options.threads,
                options.block if options.device == "cuda" else 1,
            )
            print(f"{name}, {backward}, T {case.config.steps}, batch {batch}, {case.precision}, {set_keys(engine)}", flush=True)
            result = {"config": name, "backward": backward, "batch_size": batch, "precision": case.precision}
            result |= {"engine": set_keys(engine)} | compare(case)
            result["roofline"] = roofline(case, machine)
            report["cases"].append(result)
            for who in ("ours", "reference"):
                row = result[who]
                digits = 0 if options.device == "cpu" else 2
                parts = ", ".join(f"{part} {ms:.{digits}f}" for part, ms in row["parts_ms"].items())
                rate, peak = row["samples_per_s"], row["peak_mib"]
                print(f"  {who:>9}: {row['step_ms']:.{digits}f} ms ({parts}), {rate:.1f} images/s, {peak:.0f} MiB")
            in_cpu_time = f"{result['speedup_in_cpu_time']:.2f} in processor time"
            print(*(f"  {note}\n" for note in result["ours"].get("notes", [])), sep="", end="")
            bound = f"roofline {result['roofline']['bound_ms']:.{digits}f} ms"
            print(f"  {result['speedup']:.2f} times as fast, {in_cpu_time}; {bound}", flush=True)
            if options.out:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
