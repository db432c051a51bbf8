"""The outputs of layers during forward passes, observed through hooks; the firing rates of a network's neurons."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from spikedistill.neurons.neuron import SpikingNeuron


@contextlib.contextmanager
def observed(layers: Mapping[str, nn.Module], see: Callable[[str, nn.Module, Tensor, Tensor], None]) -> Iterator[None]:
    """Within the block, report every forward pass of some layers.

    Args:
        layers: by name.
        see: called with the name, the layer, its first input and its output.
    """
    hooks = [
        layer.register_forward_hook(lambda module, inputs, out, name=name: see(name, module, inputs[0], out))
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def firing_rates(model: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Return the firing rate (spikes per neuron and step) of each layer of neurons on one batch, in evaluation mode.

    Args:
        model: any network; it is left in the mode it was in.
        inputs: what the network takes.

    Returns:
        "spike/rate", the mean over all neurons, and "spike/rate_NAME" for each layer; empty for a network without neurons.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, SpikingNeuron)}
    if not layers:
        return {}
    seen: dict[str, tuple[Tensor, int]] = {}  # rate, number of chances to fire

    def see(name: str, layer: nn.Module, x: Tensor, out: Tensor) -> None:
        seen[name] = out.float().abs().mean(), out.numel()

    training = model.training
    model.eval()
    with observed(layers, see), torch.compiler.set_stance("force_eager"):
        model(inputs)
    model.train(training)
    chances = sum(number for _, number in seen.values())
    mean = sum(float(rate) * number for rate, number in seen.values()) / chances
    return {"spike/rate": mean, **{f"spike/rate_{name}": float(rate) for name, (rate, _) in seen.items()}}
