"""How often neurons fire: the mean of the spikes of each LIF layer, by time step."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from spikedistill.neurons.lif import LIF
from spikedistill.train.distributed import World


class ActivityMeter:
    """Counts the spikes of every LIF layer of a model while the block runs."""

    def __init__(self, model: nn.Module) -> None:
        """Watch the LIF layers of `model`."""
        self._layers = {name: module for name, module in model.named_modules() if isinstance(module, LIF)}
        self._spikes: dict[str, Tensor] = {}
        self._neurons: dict[str, int] = dict.fromkeys(self._layers, 0)
        self._hooks: list[Any] = []

    def __enter__(self) -> ActivityMeter:
        for name, layer in self._layers.items():
            self._hooks.append(layer.register_forward_hook(lambda m, _, out, name=name: self._add(name, m, out)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()

    def _add(self, name: str, layer: LIF, spikes: Tensor) -> None:
        per_step = spikes.detach().reshape(layer.time_steps, -1).double().sum(1)
        self._spikes[name] = self._spikes.get(name, 0) + per_step
        self._neurons[name] += spikes.numel() // layer.time_steps

    def summary(self, world: World) -> dict[str, Any]:
        """Firing rates, spikes per neuron and step, over the batches of all ranks.

        Returns:
            "mean" over all neurons and steps (0 without neurons); "layers": name, rate, and rate per step of each layer.
        """
        layers = []
        spikes_total = neurons_total = 0.0
        for name, layer in self._layers.items():
            spikes = world.sum(self._spikes[name])
            neurons = float(world.sum(torch.tensor(float(self._neurons[name]), dtype=torch.float64, device=spikes.device)))
            rates = (spikes / neurons).tolist()
            layers.append({"name": name, "rate": sum(rates) / layer.time_steps, "rate_per_step": rates})
            spikes_total += float(spikes.sum())
            neurons_total += neurons * layer.time_steps
        return {"mean": spikes_total / max(neurons_total, 1.0), "layers": layers}
