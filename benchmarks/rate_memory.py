"""Memory of one training step against the number of time steps: backpropagation through time compared with rate-based.

    python benchmarks/rate_memory.py --arch resnet18 --batch-size 8 --out benchmarks/results/rate_memory.json

`held` is what the graph keeps for the backward pass at the end of the forward pass; `peak` is the most that was allocated at
any moment of the step, weights and gradients not counted. On a CPU both come from PyTorch's allocation events, on a GPU from
its allocator.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from spikedistill.models import build_student
from spikedistill.neurons.settings import NeuronConfig

MIB = 2**20


def held_after_forward(student: torch.nn.Module, x: torch.Tensor) -> int:
    """Bytes of distinct storages that the graph saves, without parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in student.parameters()}
    storages: dict[int, int] = {}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        outputs = student(x)  # kept alive until all storages are counted
    del outputs
    return sum(storages.values())


def peak_of_step(student: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor) -> int:
    """Bytes allocated at the worst moment of forward and backward, above what was there before."""

    def step() -> None:
        torch.nn.functional.cross_entropy(student(x).prediction, labels).backward()

    student.zero_grad(set_to_none=False)  # gradients exist before the measurement
    step()
    if x.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    level = peak = 0
    for event in record.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return peak


def measure(arch: str, backward: str, time_steps: int, batch_size: int, side: int, device: str) -> dict[str, float]:
    """Both figures in MiB."""
    torch.manual_seed(0)
    neuron = NeuronConfig(decay=0.2, reset="soft", detach_reset=True)
    student = build_student(arch, num_classes=10, in_channels=3, time_steps=time_steps, neuron=neuron, backward=backward)  # type: ignore[arg-type]
    student.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.rand(batch_size, 3, side, side, device=device)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    held = held_after_forward(student, x)
    return {"held_mib": held / MIB, "peak_mib": peak_of_step(student, x, labels) / MIB}


def main() -> None:
    """Measure, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--time-steps", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"{'backward':>9} {'T':>3} {'held (MiB)':>12} {'peak (MiB)':>12}")
    for backward in ("bptt", "rate"):
        for steps in options.time_steps:
            figures = measure(options.arch, backward, steps, options.batch_size, options.side, options.device)
            rows.append({"backward": backward, "time_steps": steps, **figures})
            print(f"{backward:>9} {steps:>3} {figures['held_mib']:>12.1f} {figures['peak_mib']:>12.1f}")
    if options.out:
        shape = f"--arch {options.arch} --batch-size {options.batch_size} --side {options.side}"
        command = f"python benchmarks/rate_memory.py {shape}"
        machine = {"machine": platform.machine(), "device": options.device, "torch": torch.__version__}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"command": command, **machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
