"""A layer of SpikingJelly's neurons as a `SpikingNeuron`. Letters: T step, B batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor

from spikedistill.errors import ConfigError
from spikedistill.neurons.dynamics import to_float32
from spikedistill.neurons.neuron import SpikingNeuron
from spikedistill.neurons.settings import NeuronConfig


class SpikingJellyNeuron(SpikingNeuron):
    """Neurons of a class of SpikingJelly, in its multi-step mode."""

    def __init__(
        self,
        config: NeuronConfig,
        name: str,
        arguments: Mapping[str, Any],
        surrogate_function: Mapping[str, Any] | None,
        time_steps: int,
    ) -> None:
        """Create a layer.

        Args:
            config: the configuration.
            name: the class.
            arguments: those of its constructor that are plain values.
            surrogate_function: name and arguments of the surrogate gradient; None: the class's default.
            time_steps: T.

        Raises:
            ConfigError: if SpikingJelly refuses the arguments.
        """
        super().__init__(config, time_steps)
        given = dict(arguments)
        try:
            if surrogate_function is not None:
                options = dict(surrogate_function)
                given["surrogate_function"] = getattr(surrogate, options.pop("name"))(**options)
            self.node = getattr(neuron, name)(**given)
            if getattr(self.node, "step_mode", "m") != "m":
                self.node.step_mode = "m"
        except (AssertionError, TypeError, ValueError) as err:
            raise ConfigError(
                f"student.neuron.params: spikingjelly/{name} refuses {dict(arguments)}: {err or type(err).__name__}"
            ) from err
        self.label = name.removesuffix("Node").lower()
        self.signed = name.startswith("Ternary")
        self.most_spikes = int(getattr(getattr(self.node, "surrogate_function", None), "max_spike_count", 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes [T * B, ...] of the currents [T * B, ...]."""
        functional.reset_net(self.node)
        spikes = self.node(to_float32(x).unflatten(0, (self.time_steps, -1)))
        functional.reset_net(self.node)
        return spikes.flatten(0, 1).to(x.dtype)

    def potentials(self, x: Tensor, spikes: Tensor) -> Iterator[Tensor] | None:
        """Return the potentials after each step, where SpikingJelly records them; the spikes are computed again."""
        if not hasattr(self.node, "store_v_seq"):
            return None
        self.node.store_v_seq = True
        functional.reset_net(self.node)
        self.node(to_float32(x))
        recorded = self.node.v_seq
        self.node.store_v_seq = False
        functional.reset_net(self.node)
        return None if recorded is None else iter(recorded)
