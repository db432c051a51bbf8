"""Count the operations of every network, and time training steps here: the input of src/spikedistill/plan/estimate.py.

    python benchmarks/costs.py --write       count; without --write print, with it write src/spikedistill/plan/costs.json
    python benchmarks/costs.py --measure     time training steps, fit the two rates of the model, print both and the error

Steps are timed on the CPU, even where there is a GPU: `gpu_constants.py` fits the rates of GPUs.

Counts are per sample and time step, forward, at the side given in the table; all but the classifier grow with the pixels.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikedistill import components
from spikedistill.models import build_student, build_teacher
from spikedistill.neurons.settings import NeuronConfig

TABLE = Path(__file__).parents[1] / "src" / "spikedistill" / "plan" / "costs.json"
CLASSES = 10
# architecture, time steps, batch, side of the image
CASES = [
    ("resnet8", 4, 64, 8),
    ("resnet8", 4, 64, 32),
    ("resnet8_dvs", 4, 64, 34),
    ("resnet20_ckd", 4, 32, 32),
    ("resnet18", 1, 16, 32),
    ("resnet18", 4, 8, 32),
    ("resnet19", 2, 8, 32),
    ("preact_resnet18", 4, 8, 32),
]


def side_of(name: str) -> int:
    """Side in pixels of the image for which a network's operations are counted."""
    return 224 if name.endswith("_imagenet") else 128 if name.endswith("_dvs") else 32


def count(name: str) -> dict[str, Any]:
    """Multiply-accumulates, elements of layer outputs, neurons and parameters of a network, per sample and step."""
    side, channels = side_of(name), 2 if name.endswith("_dvs") else 3
    totals = {"macs": 0, "elements": 0, "layers": 0}

    def measure(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            totals["macs"] += output.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            totals["macs"] += output.numel() * module.in_features
        totals["elements"] += output.numel()
        totals["layers"] += 1

    network = build_teacher(name, num_classes=CLASSES, in_channels=channels).eval()
    for module in network.modules():
        if not list(module.children()) and not isinstance(module, nn.Identity):
            module.register_forward_hook(measure)
    with torch.inference_mode():
        network(torch.zeros(1, channels, side, side))
    return {"side": side, **totals, "parameters": sum(p.numel() for p in network.parameters())}


def measure_step(name: str, steps: int, batch: int, side: int) -> float:
    """Seconds of one training step on the CPU, forward and backward: the fastest of some after warm-up."""
    channels = 2 if name.endswith("_dvs") else 3
    network = build_student(name, num_classes=CLASSES, in_channels=channels, time_steps=steps, neuron=NeuronConfig())
    network = network.to(memory_format=torch.channels_last)
    images = torch.rand(batch, channels, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) % CLASSES
    times = []
    for _ in range(5):
        start = time.perf_counter()
        nn.functional.cross_entropy(network(images).logits.mean(0), labels).backward()
        times.append(time.perf_counter() - start)
    return min(times)


def calibrate() -> None:
    """Fit seconds = macs / rate + elements / bandwidth to the cases, in relative error."""
    table = json.loads(TABLE.read_text())
    rows = []
    for name, steps, batch, side in CASES:
        scale = (side / table[name]["side"]) ** 2 * steps * batch
        rows.append((table[name]["macs"] * scale, table[name]["elements"] * scale, measure_step(name, steps, batch, side)))
    data = np.array(rows)
    weighted = data[:, :2] / data[:, 2:]
    solution = np.clip(np.linalg.lstsq(weighted, np.ones(len(rows)), rcond=None)[0], 1e-15, None)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads of the CPU")
    print(f"macs per second {1 / solution[0]:.3g}, elements per second {1 / solution[1]:.3g}")
    for case, row in zip(CASES, data, strict=True):
        print(
            f"{case!s:40} measured {row[2]:8.3f} s   model {row[:2] @ solution:8.3f} s   ratio {row[:2] @ solution / row[2]:.2f}"
        )
    print(f"peak resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"count and write {TABLE.name}")
    parser.add_argument("--arch", nargs="+", default=sorted(components.architectures()), help="count these (default: all)")
    parser.add_argument("--measure", action="store_true", help="time training steps here and fit the model")
    options = parser.parse_args()
    if not options.measure:
        known = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
        counts = {**known, **{name: count(name) for name in options.arch}}
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(counts[name])}" for name in sorted(counts))
        text = f"{{\n{lines}\n}}\n"
        if options.write:
            TABLE.write_text(text, encoding="utf-8")
        else:
            print(text, end="")
    if options.measure:
        calibrate()


if __name__ == "__main__":
    main()
