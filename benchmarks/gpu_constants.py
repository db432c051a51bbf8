"""Constants of this machine's GPU for src/spikedistill/plan/costs: rates of convolutions and copies, time of a launch.

    python benchmarks/gpu_constants.py --out results/constants.json

Convolutions are those of a ResNet-18 on 32x32, forward and backward, in channels_last. The time of a launch is that of a whole
training step with so few images that the GPU waits for the host, divided by the number of operations in the step.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from measuring.cases import CONFIGS, Case
from measuring.cuda_timing import AT_LEAST_S, time_calls
from measuring.machine import describe, measure_copy, prepare_device
from measuring.turns import ours, worker
from spikedistill.plan.costs import roofline
from spikedistill.plan.costs.gpus import key_of
from spikedistill.plan.costs.work import network_counts
from spikedistill.train.settings import EngineConfig

STAGES = [(64, 32), (128, 16), (256, 8), (512, 4)]  # channels and side of the maps
IMAGES = 512  # 128 images of 4 steps
FEW = 4  # images per step, for which the GPU waits for the host
TURNS = 4


def convolution_rate(dtype: torch.dtype, images: int, at_least_s: float) -> float:
    """Floating-point operations per second, forward and backward."""
    operations, seconds = 0.0, 0.0
    for channels, side in STAGES:
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device="cuda", dtype=dtype)
        layer = layer.to(memory_format=torch.channels_last)
        x = torch.randn(images, channels, side, side, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
        upstream = torch.randn_like(x)

        def both(layer: nn.Conv2d = layer, x: torch.Tensor = x, upstream: torch.Tensor = upstream) -> None:
            inputs, weight = x.detach().requires_grad_(), layer.weight.detach().requires_grad_()
            outputs = nn.functional.conv2d(inputs, weight, padding=1)
            torch.autograd.grad(outputs, (inputs, weight), upstream)

        operations += 3 * 2 * images * side**2 * channels**2 * 9
        seconds += time_calls(both, at_least_s=at_least_s).seconds
    return operations / seconds


def launch_seconds(block: int) -> float:
    """Seconds of one operation of a step, launched one by one."""
    name = "cifar-resnet18"
    engine = EngineConfig(checkpoint_minutes=1e6)
    case = Case(name, "bptt", FEW, "cuda", "bf16", engine, repeats=TURNS, warmup=1, threads=1, block=block)
    times = []
    with worker(ours, case) as (line, _):
        for _ in range(TURNS + 1):
            line.send(block)
            times.append(line.recv()["step"])
    student, teacher = (network_counts()[arch]["layers"] for arch in (CONFIGS[name].arch, CONFIGS[name].teacher))
    return min(times[1:]) / (roofline.MARGIN * roofline.LAUNCHES_PER_LAYER * (student + teacher / 3))


def measure(short: bool) -> dict[str, Any]:
    """The entry of this GPU in a file that `plan.costs.gpus` reads."""
    torch.backends.cudnn.benchmark = True
    at_least_s, images = (0.0, 2) if short else (AT_LEAST_S, IMAGES)
    rates = {
        name: convolution_rate(dtype, images, at_least_s) / 1e12
        for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16))
    }
    return {
        "label": re.sub(r"[^\w .()/+-]", " ", torch.cuda.get_device_name()).removeprefix("NVIDIA "),
        "memory_gb": torch.cuda.get_device_properties(0).total_memory / 1e9,
        "tflops": rates,
        "bandwidth_gb_s": measure_copy("cuda") / 1e9,
        "launch_us": 1e6 * launch_seconds(2 if short else 20),
        "measured_on": datetime.now(UTC).date().isoformat(),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="little of everything: shows that it runs, not how fast")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    prepare_device("cuda")
    entry = measure(options.short)
    print(json.dumps(entry, indent=1))
    if options.out:
        command = "python benchmarks/gpu_constants.py " + " ".join(sys.argv[1:])
        report = {"command": command, **describe("cuda", 1), "gpus": {key_of(torch.cuda.get_device_name()): entry}}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
