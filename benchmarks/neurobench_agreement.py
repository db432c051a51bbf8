"""Our figures compared with NeuroBench's, on the same trained network and the same test split.

NeuroBench depends on a package under the GPL, so it is not a dependency here and needs an environment of its own:

    python3 -m venv .venv-neurobench
    .venv-neurobench/bin/pip install -c envs/constraints.txt . neurobench==2.3.0
    .venv-neurobench/bin/python benchmarks/neurobench_agreement.py digits-resnet8-kd-seed0

Ends with status 1 if a figure differs by more than rounding. NeuroBench rounds the connection sparsity to four decimals. It
counts membrane updates of snnTorch's neurons alone, so they replace the student's for that figure (LIF neurons with a hard
reset). It has no notion of sums of spikes: the effective operations of a layer with an input of 2 are MACs there and ACs here, so
SEW networks agree in the sum of both, and in each only where no input is above 1. `--prune` first sets the smallest weights to
zero, since a trained network has no zero weights.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import snntorch
import torch
from neurobench.benchmarks import Benchmark
from neurobench.metrics.static import ConnectionSparsity, Footprint
from neurobench.metrics.workload import ActivationSparsity, ClassificationAccuracy, MembraneUpdates, SynapticOperations
from neurobench.models import NeuroBenchModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from spikedistill.data.loading.loader import Loader
from spikedistill.data.store import open_store
from spikedistill.evaluate.batches import batch_size
from spikedistill.evaluate.measure import measure
from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.models import Student, Teacher
from spikedistill.neurons.lif import LIF
from spikedistill.stages.network_io import load_network, read_model_spec
from spikedistill.store.artifacts import Store
from spikedistill.train.distributed import World


class Wrapped(NeuroBenchModel):
    """A student or teacher as NeuroBench wants it: samples first, classes out."""

    def __init__(self, network: Student | Teacher) -> None:
        super().__init__()
        self._network = network
        for kind in (LIF, snntorch.SpikingNeuron, nn.ReLU):
            self.add_activation_module(kind)

    def __call__(self, batch: Tensor) -> Tensor:
        """The classes of a batch [B, C, H, W] or [B, T, C, H, W]."""
        inputs = batch.transpose(0, 1) if batch.dim() == 5 else batch
        with torch.no_grad():
            return self._network(inputs).prediction.argmax(-1)

    def __net__(self) -> nn.Module:
        return self._network


class Stepwise(nn.Module):
    """A neuron of snnTorch that is called once per step, with the equations of a `LIF`."""

    def __init__(self, lif: LIF) -> None:
        super().__init__()
        assert lif.neuron.reset == "hard", "snnTorch resets twice where a potential stays above the threshold"
        threshold = torch.tensor(lif.neuron.threshold)
        if lif.neuron.spike_at_threshold:  # snnTorch fires above it alone
            threshold = torch.nextafter(threshold, torch.zeros(()))
        self.time_steps = lif.time_steps
        self.leaky = snntorch.Leaky(
            lif.neuron.decay, threshold=threshold, reset_mechanism="zero", reset_delay=False, init_hidden=True
        )

    def forward(self, x: Tensor) -> Tensor:
        """The spikes of the currents [T * B, ...]."""
        self.leaky.reset_mem()
        return torch.cat([self.leaky(step) for step in x.unflatten(0, (self.time_steps, -1))])


def with_neurons_of_snntorch(network: Student | Teacher) -> Student | Teacher:
    replaced = copy.deepcopy(network)
    for path, layer in list(replaced.named_modules()):
        if isinstance(layer, LIF):
            parent, _, name = path.rpartition(".")
            setattr(replaced.get_submodule(parent), name, Stepwise(layer))
    return replaced


def prune(network: nn.Module, share: float) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weight = layer.weight.data
            weight[weight.abs() <= weight.abs().flatten().quantile(share)] = 0


def theirs(network: Student | Teacher, batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    samples = torch.cat([x.transpose(0, 1) if x.dim() == 5 else x for x, _ in batches])
    data = DataLoader(TensorDataset(samples, torch.cat([y for _, y in batches])), batch_size=len(batches[0][1]))
    metrics = [[Footprint, ConnectionSparsity], [ActivationSparsity, ClassificationAccuracy, SynapticOperations]]
    found = Benchmark(Wrapped(network), data, [], [], metrics).run(quiet=True)
    replaced = Wrapped(with_neurons_of_snntorch(network))
    updates = Benchmark(replaced, data, [], [], [[], [ClassificationAccuracy, MembraneUpdates]]).run(quiet=True)
    assert updates["ClassificationAccuracy"] == found["ClassificationAccuracy"], "the neurons have other equations"
    return {
        "footprint": found["Footprint"],
        "connection_sparsity": found["ConnectionSparsity"],
        "activation_sparsity": found["ActivationSparsity"],
        "accuracy": found["ClassificationAccuracy"],
        "membrane_updates": updates["MembraneUpdates"],
        "effective_macs": found["SynapticOperations"]["Effective_MACs"],
        "effective_acs": found["SynapticOperations"]["Effective_ACs"],
        "dense": found["SynapticOperations"]["Dense"],
    }


def ours(network: Student | Teacher, loader: Loader, num_classes: int) -> dict[str, float]:
    found = measure(network, loader, World(), num_classes=num_classes, energy=EnergyConfig()).metrics
    names = ("footprint", "connection_sparsity", "activation_sparsity", "accuracy", "membrane_updates")
    operations = ("effective_macs", "effective_acs", "dense")
    return {name: found[name] for name in names} | {name: found["operations"][name] for name in operations}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="teachers or students in the store")
    parser.add_argument("--store", default="store")
    parser.add_argument("--prune", type=float, default=0.3, help="share of the weights of each layer that is set to zero")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    options = parser.parse_args()
    store = Store(options.store)
    results: list[dict[str, Any]] = []
    worst = 0.0
    for name in options.names:
        ref = store.find(name)
        spec = read_model_spec(store.open(ref))
        data = open_store(store.open(spec.data))
        network = load_network(spec, data, store.path(ref))
        prune(network, options.prune)
        loader = Loader(data, "test", batch_size=batch_size(len(data.split("test"))))
        own, other = ours(network, loader, data.num_classes), theirs(network, list(loader.epoch(0)))
        for key, value in own.items():
            tolerance = 1e-4 if key == "connection_sparsity" else 1e-6 * max(abs(value), 1e-9)
            worst = max(worst, abs(value - other[key]) / tolerance)
            print(f"{ref}  {key:20} {value:16.6f} {other[key]:16.6f}")
        results.append({"network": ref, "pruned": options.prune, "ours": own, "neurobench": other})
    if options.out is not None:
        versions = {
            package: importlib.metadata.version(package) for package in ("neurobench", "snntorch", "torch", "spikingjelly")
        }
        options.out.write_text(json.dumps({"versions": versions, "results": results}, indent=1) + "\n", encoding="utf-8")
    print("agree" if worst <= 1 else "DISAGREE")
    return 0 if worst <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
