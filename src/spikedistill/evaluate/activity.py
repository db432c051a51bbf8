"""The activity of a network's neurons: firing rates, dead and saturated neurons, membrane updates.

Letters: T step, B batch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from spikedistill.evaluate.layers import LayerMeter
from spikedistill.neurons.neuron import SpikingNeuron
from spikedistill.train.distributed import World


class ActivityMeter(LayerMeter):
    """Counts the activity of every layer of spiking neurons and every ReLU layer."""

    def __init__(self, model: nn.Module) -> None:
        """Observe the layers of `model`."""
        super().__init__(model, "neuron", "relu")

    def count(self, layer: nn.Module, x: Tensor, out: Tensor) -> dict[str, Tensor | int]:
        """Count the non-zero outputs; for neurons also the spikes per neuron and per step, and the membrane updates."""
        active = out != 0
        values: dict[str, Tensor | int] = {"activations": out.numel(), "active": active.sum()}
        if isinstance(layer, SpikingNeuron):
            spikes = number_of_spikes(layer, out, active).unflatten(0, (layer.time_steps, -1))
            values["of_neuron"] = spikes.sum((0, 1))
            values["of_step"] = spikes.flatten(1).sum(1)
            values["updates"] = _membrane_updates(layer, x, out)
        return values

    def summary(self, world: World, num_samples: int) -> dict[str, Any]:
        """Return the activity over the batches of all ranks.

        Args:
            world: the ranks.
            num_samples: number of samples over all ranks.

        Returns:
            "activation_sparsity", the share of zero outputs over neurons and ReLU layers; "membrane_updates" per sample. For a
            spiking network also "firing_rate" (spikes per neuron and step): its "mean" over neurons and steps, and
            "layers", which holds for each layer its name, rate, rate per step, number of neurons, and how many of them are dead
            (never fired) or saturated (fired as often as they can at every step).
        """
        layers = []
        activations = active = updates = 0
        spikes_total = chances_total = 0
        for name, layer, counts in self.totals(world):
            activations += int(counts["activations"])
            active += int(counts["active"])
            if not isinstance(layer, SpikingNeuron):
                continue
            updates += int(counts["updates"])
            of_neuron, chances = counts["of_neuron"], num_samples * layer.time_steps
            per_step = counts["of_step"].tolist()
            neurons = of_neuron.numel()
            spikes_total += sum(per_step)
            chances_total += neurons * chances
            layers.append(
                {
                    "name": name,
                    "rate": sum(per_step) / (neurons * chances),
                    "rate_per_step": [spikes / (neurons * num_samples) for spikes in per_step],
                    "neurons": neurons,
                    "dead": int((of_neuron == 0).sum()),
                    "saturated": int((of_neuron == layer.most_spikes * chances).sum()),
                }
            )
        result: dict[str, Any] = {
            "activation_sparsity": 1 - active / activations if activations else 0.0,
            "membrane_updates": updates / num_samples,
        }
        if layers:
            result["firing_rate"] = {"mean": spikes_total / chances_total, "layers": layers}
        return result


def number_of_spikes(layer: SpikingNeuron, out: Tensor, active: Tensor) -> Tensor:
    """Return how many spikes each output stands for: itself, as an integer, where a neuron fires several in a step.

    Args:
        layer: the neurons.
        out: their output.
        active: where it is not 0.
    """
    return active if layer.most_spikes == 1 else out.abs().round().long()


def _membrane_updates(layer: SpikingNeuron, x: Tensor, out: Tensor) -> Tensor:
    """Count how often a potential after a step differs from the one before; the first step counts for every neuron.

    Reference: the definition of NeuroBench (Yik et al. 2025, https://doi.org/10.1038/s41467-025-56739-4).
    """
    currents, spikes = (each.unflatten(0, (layer.time_steps, -1)) for each in (x, out))
    potentials = layer.potentials(currents, spikes)
    if potentials is None:
        return torch.tensor(currents.numel(), device=x.device)
    updates = torch.tensor(currents[0].numel(), device=x.device)
    for before, after in pairwise(potentials):
        updates = updates + (after != before).sum()
    return updates
