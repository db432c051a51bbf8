"""What a network computes for one sample: operations at its synapses, their energy, its memory footprint.

Counted per convolution and linear layer, from what really flows into it:

    macs         multiply-accumulates of a layer whose input is real-valued: every output position, the padding included, as every
                 FLOP counter has it
    synops       additions of a layer whose input is spikes (0 or 1): one for each spike and each weight that it reaches
    energy       pj_per_mac * macs + pj_per_ac * synops

A static image goes through the stem once, for all T steps, and is counted once. Averaged spikes are real-valued.

The estimate that papers use instead of the count of synops is kept beside it: the layer's MACs of all T steps times the mean
of its input. It counts spikes into the padding, too, so it is larger, most of all on small maps.

Dense and effective operations are NeuroBench's (Yik et al. 2025, https://doi.org/10.1038/s41467-025-56739-4): dense is every
product of an input and a weight; effective are those of a non-zero input and a non-zero weight, ACs of layers with spiking
input and MACs of the others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikedistill.evaluate.layers import LayerMeter, find_layers
from spikedistill.evaluate.settings import EnergyConfig
from spikedistill.train.distributed import World


class OperationMeter(LayerMeter):
    """Watches what flows into every convolution and linear layer.

    It keeps, per layer and position of its input, how often that was not zero. How many weights a position reaches is a
    property of the layer, and the product of both is the number of operations.
    """

    def __init__(self, model: nn.Module) -> None:
        """Watch the layers of `model`."""
        super().__init__(model, "conv", "linear")

    @staticmethod
    def counted(layer: nn.Module, x: Tensor, out: Tensor) -> dict[str, Tensor | int]:
        """How often each position of the input is not zero, and how many of its values are neither 0 nor 1."""
        nonzero = x != 0
        return {
            "calls": len(x),
            "outputs": out.numel(),
            "nonzero": nonzero.sum(0),
            "not_binary": (nonzero & (x != 1)).sum(),
        }

    def summary(self, world: World, num_samples: int, energy: EnergyConfig) -> dict[str, Any]:
        """What was counted over the batches of all ranks, per sample.

        Args:
            world: the ranks.
            num_samples: samples over all ranks.
            energy: of one operation.

        Returns:
            "macs", "synops", "energy_pj", their "estimate" (synops and energy_pj), "dense", "effective_macs", "effective_acs",
            and "layers" with the same of each layer and the share of its inputs that are not zero ("input_rate").
        """
        layers = [
            {"name": name, **_layer_operations(layer, counts, num_samples, energy)} for name, layer, counts in self.totals(world)
        ]
        keys = ("macs", "synops", "energy_pj", "dense", "effective_macs", "effective_acs")
        totals: dict[str, Any] = {key: sum(layer[key] for layer in layers) for key in keys}
        totals["estimate"] = {
            key: sum(layer["estimate"][key] for layer in layers if "estimate" in layer) for key in ("synops", "energy_pj")
        }
        totals["estimate"]["energy_pj"] += energy.pj_per_mac * totals["macs"]
        return totals | {"layers": layers}


def _layer_operations(layer: nn.Module, counts: dict[str, Tensor], num_samples: int, energy: EnergyConfig) -> dict[str, Any]:
    calls, nonzero = int(counts["calls"]), counts["nonzero"]
    spiking = not int(counts["not_binary"])
    reached, reached_nonzero = _fan_out(layer, nonzero, all_weights=True), _fan_out(layer, nonzero, all_weights=False)
    weight: Tensor = layer.weight  # type: ignore[assignment]
    dense_macs = int(counts["outputs"]) * (weight.numel() // len(weight)) / num_samples
    rate = int(nonzero.sum()) / (calls * nonzero.numel())
    synops = int((nonzero * reached).sum()) / num_samples
    effective = int((nonzero * reached_nonzero).sum()) / num_samples
    result: dict[str, Any] = {
        "spiking_input": spiking,
        "input_rate": rate,
        "macs": 0.0 if spiking else dense_macs,
        "synops": synops if spiking else 0.0,
        "dense": calls * int(reached.sum()) / num_samples,
        "effective_macs": 0.0 if spiking else effective,
        "effective_acs": effective if spiking else 0.0,
    }
    result["energy_pj"] = energy.pj_per_mac * result["macs"] + energy.pj_per_ac * result["synops"]
    if spiking:
        result["estimate"] = {"synops": dense_macs * rate, "energy_pj": energy.pj_per_ac * dense_macs * rate}
    return result


def _fan_out(layer: nn.Module, like: Tensor, *, all_weights: bool) -> Tensor:
    """How many weights, or non-zero weights, each position of a layer's input is multiplied with; int64, the shape of `like`."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    counted = torch.ones_like(weight, dtype=torch.float64) if all_weights else (weight != 0).double()
    if isinstance(layer, nn.Linear):
        return counted.sum(0).long().expand_as(like)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    reached = counted.unflatten(0, (layer.groups, -1)).sum(1).flatten(0, 1)  # [C, *kernel]: output channels do not matter
    for axis in range(len(layer.kernel_size)):
        reached = torch.tensordot(reached, _taps(layer, axis, like).to(reached), dims=([1], [0]))  # [C, *other axes, positions]
    return reached.round().long()


def _taps(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, axis: int, like: Tensor) -> Tensor:
    """[kernel, positions]: 1 where a tap of the kernel meets a position of the input along an axis, for some output."""
    kernel, stride, dilation = layer.kernel_size[axis], layer.stride[axis], layer.dilation[axis]
    before, after = layer._reversed_padding_repeated_twice[::-1][2 * axis : 2 * axis + 2][::-1]
    size = like.shape[1 + axis]
    outputs = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
    taps = torch.zeros(kernel, size, dtype=torch.float64)
    for tap in range(kernel):
        positions = torch.arange(outputs) * stride - before + tap * dilation
        taps[tap, positions[(positions >= 0) & (positions < size)]] = 1
    return taps


def footprint(model: nn.Module) -> dict[str, Any]:
    """The size of a network, whatever the data.

    Returns:
        "parameters"; "footprint", bytes of parameters and buffers; "connection_sparsity", the share of zero weights in
        convolution and linear layers.
    """
    stored = [*model.parameters(), *model.buffers()]
    weights: list[Tensor] = [layer.weight for layer in find_layers(model, "conv", "linear").values()]  # type: ignore[misc]
    total = sum(weight.numel() for weight in weights)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "footprint": sum(tensor.numel() * tensor.element_size() for tensor in stored),
        "connection_sparsity": sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0,
    }
