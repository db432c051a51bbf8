"""The cost of a network for one sample: operations at its synapses, their energy, its memory footprint.

Counted per convolution and linear layer from its actual inputs; products outside of them are in `evaluate.products`:

    macs         multiply-accumulates of a layer with real-valued input: at every output position, padding included, as FLOP
                 counters do
    synops       additions of a layer with spiking input: one for each spike and each weight that it reaches
    energy       pj_per_mac * macs + pj_per_ac * synops, in pJ

A whole number n is n spikes, and costs n additions per weight, if the neurons that ran before the layer can fire that many
together in one step: spikes of several neurons are added up where a SEW network joins its blocks, and some neurons fire several
at once. Negative spikes count as |n|. Before the first neurons, where images and event counts arrive, only 0 and 1 are spikes.
Each layer is judged by itself, over all inputs of the evaluation: a single other value makes its operations MACs.

A static image passes the stem once for all T steps, and is counted once. Averaged spikes are real-valued.

The estimate that papers use instead of counting synops is reported beside it: the layer's MACs over all T steps times the mean
of its input. It includes spikes that meet only the padding, so it is larger, most of all on small maps.

Dense and effective operations are those of NeuroBench (Yik et al. 2025, https://doi.org/10.1038/s41467-025-56739-4): dense
operations are all products of an input and a weight; effective operations are those of a non-zero input and a non-zero weight,
called ACs in layers with spiking input and MACs in the others. An input of 2 counts once, as there; NeuroBench counts those of
a layer with such an input as MACs.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from spikedistill.evaluate.layers import LayerMeter, find_layers
from spikedistill.evaluate.products import ProductMeter
from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.evaluate.synapses import Operations, SpikesSoFar, spikes_in
from spikedistill.neurons.neuron import SpikingNeuron
from spikedistill.train.distributed import World

OTHERS = "other products"
"""Name of the entry for all that an ANN multiplies outside its layers, such as the products of attention."""


class OperationMeter(LayerMeter):
    """Counts the operations of every convolution and linear layer.

    It counts, per layer and position of its input, how often the input was not zero, or how many spikes it held. The number of
    weights that a position reaches is a property of the layer; the product of both is the number of operations.
    """

    def __init__(self, model: nn.Module) -> None:
        """Observe the layers of `model`."""
        super().__init__(model, "conv", "linear")
        neurons = [module for module in model.modules() if isinstance(module, SpikingNeuron)]
        most = max((each.most_spikes for each in neurons), default=1)
        self._products = ProductMeter(model, most_spikes=most, signed=any(each.signed for each in neurons))
        self._so_far = SpikesSoFar(model)

    def __enter__(self) -> Self:
        self._products.__enter__()
        self._so_far.__enter__()
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        self._so_far.__exit__(kind, error, trace)
        self._products.__exit__(kind, error, trace)

    def count(self, layer: nn.Module, x: Tensor, out: Tensor) -> dict[str, Tensor | int]:
        """Count the spikes and the non-zero values at each position of the input, and the values that are no spikes."""
        nonzero = x != 0
        not_spikes, spikes = spikes_in(x, nonzero, most=self._so_far.most, signed=self._so_far.signed)
        counts: dict[str, Tensor | int] = {"calls": len(x), "outputs": out.numel(), "not_spikes": not_spikes}
        counts["nonzero"] = nonzero.sum(0)
        counts["spikes"] = counts["nonzero"] if spikes is nonzero else spikes.sum(0)
        return counts

    def summary(
        self, world: World, num_samples: int, energy: EnergyConfig, *, multiplications: int | None = None
    ) -> dict[str, Any]:
        """Return the operations per sample over the batches of all ranks.

        Args:
            world: the ranks.
            num_samples: number of samples over all ranks.
            energy: energy of one operation.
            multiplications: all multiply-accumulates of an ANN for one sample; those outside its layers are added as an entry.

        Returns:
            "macs", "synops", "energy_pj", "estimate" (synops and energy_pj as papers estimate them), "dense", "effective_macs",
            "effective_acs", and "layers", which holds the same for each layer and the share of its inputs that are not zero
            ("input_rate"; of spikes, their number per input).
        """
        found = [(name, _layer_operations(layer, counts, num_samples)) for name, layer, counts in self.totals(world)]
        found += self._products.layers(world, num_samples)
        if multiplications is not None and (others := multiplications - sum(each.macs for _, each in found)) > 0:
            found.append((OTHERS, Operations.of_real_values(others)))
        layers = [{"name": name, **operations.entry(energy)} for name, operations in found]
        keys = ("macs", "synops", "energy_pj", "dense", "effective_macs", "effective_acs")
        totals: dict[str, Any] = {key: sum(layer[key] for layer in layers) for key in keys}
        totals["estimate"] = {
            key: sum(layer["estimate"][key] for layer in layers if "estimate" in layer) for key in ("synops", "energy_pj")
        }
        totals["estimate"]["energy_pj"] += energy.pj_per_mac * totals["macs"]
        return totals | {"layers": layers}


def _layer_operations(layer: nn.Module, counts: dict[str, Tensor], num_samples: int) -> Operations:
    calls, spiking, nonzero = int(counts["calls"]), not int(counts["not_spikes"]), counts["nonzero"]
    inputs = counts["spikes"] if spiking else nonzero
    reached, reached_nonzero = _fan_out(layer, inputs, all_weights=True), _fan_out(layer, inputs, all_weights=False)
    weight: Tensor = layer.weight  # type: ignore[assignment]
    macs = int(counts["outputs"]) * (weight.numel() // len(weight)) / num_samples
    rate = int(inputs.sum()) / (calls * inputs.numel())
    return Operations(
        spiking=spiking,
        rate=rate,
        macs=macs,
        synops=int((inputs * reached).sum()) / num_samples,
        estimate=(macs, rate),
        dense=calls * int(reached.sum()) / num_samples,
        effective=int((nonzero * reached_nonzero).sum()) / num_samples,
    )


def _fan_out(layer: nn.Module, like: Tensor, *, all_weights: bool) -> Tensor:
    """Return how many weights, or non-zero weights, each position of a layer's input meets; int64, in the shape of `like`."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    counted = torch.ones_like(weight, dtype=torch.float64) if all_weights else (weight != 0).double()
    if isinstance(layer, nn.Linear):
        return counted.sum(0).long().expand_as(like)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    reached = counted.unflatten(0, (layer.groups, -1)).sum(1).flatten(0, 1)  # [C, *kernel], summed over output channels
    for axis in range(len(layer.kernel_size)):
        reached = torch.tensordot(reached, _taps(layer, axis, like).to(reached), dims=([1], [0]))  # [C, *other axes, positions]
    return reached.round().long()


def _taps(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, axis: int, like: Tensor) -> Tensor:
    """Return [kernel, positions]: how often, along an axis, a tap of the kernel meets a position of the input.

    That is once for one of the outputs, or never; more often where the padding repeats inputs (`padding_mode`).
    """
    kernel, stride, dilation = layer.kernel_size[axis], layer.stride[axis], layer.dilation[axis]
    before, after = layer._reversed_padding_repeated_twice[::-1][2 * axis : 2 * axis + 2][::-1]
    places = torch.arange(1, like.shape[1 + axis] + 1, dtype=torch.float64)[None]  # [1, positions], from 1
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = nn.functional.pad(places, (before, after), mode=mode).long()[0]  # 0: a zero of the padding
    outputs = (len(padded) - dilation * (kernel - 1) - 1) // stride + 1
    taps = torch.zeros(kernel, len(places[0]) + 1, dtype=torch.float64)
    for tap in range(kernel):
        met = padded[torch.arange(outputs) * stride + tap * dilation]
        taps[tap].index_add_(0, met, torch.ones(outputs, dtype=torch.float64))
    return taps[:, 1:]


def footprint(model: nn.Module) -> dict[str, Any]:
    """Return the size of a network, which does not depend on data.

    Returns:
        "parameters", their number; "footprint", the bytes of parameters and buffers; "connection_sparsity", the share of zero
        weights in convolution and linear layers.
    """
    stored = [*model.parameters(), *model.buffers()]
    weights: list[Tensor] = [layer.weight for layer in find_layers(model, "conv", "linear").values()]  # type: ignore[misc]
    total = sum(weight.numel() for weight in weights)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "footprint": sum(tensor.numel() * tensor.element_size() for tensor in stored),
        "connection_sparsity": sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0,
    }
