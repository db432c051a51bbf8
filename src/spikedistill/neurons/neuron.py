"""What every layer of spiking neurons offers to the rest of the package, whatever its equations.

Energy, firing rates, rate-based backpropagation, compilation and NIR ask a `SpikingNeuron` what it can do; none of them knows the
kinds of neurons. `spiking_layers` makes the layers of a network from its configuration. Letters: T step, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from spikedistill.errors import ConfigError
from spikedistill.neurons.settings import NeuronConfig


class SpikingNeuron(nn.Module):
    """A layer of spiking neurons on time-folded input [T * B, ...], row t * B + b.

    `forward` returns spikes of the shape and dtype of its input. It starts at rest in every call and keeps no state after it;
    float16 and bfloat16 are integrated in float32.

    Attributes:
        neuron: the configuration that it was made from.
        time_steps: T.
        label: its part of layer names, such as `lif` in `stage1.block2.lif`.
        most_spikes: maximum number of spikes of a neuron in one step. The output is binary where it is 1; a larger value stands
            for that many spikes, each of which costs one addition at a synapse.
        signed: whether spikes can be negative.
        compiled: whether a CPU runs code made by torch.compile; without effect on neurons that have none.
    """

    label = "neuron"
    most_spikes = 1
    signed = False
    compiled = False

    def __init__(self, neuron: NeuronConfig, time_steps: int) -> None:
        """Create a layer that runs `time_steps` steps per forward."""
        super().__init__()
        self.neuron = neuron
        self.time_steps = time_steps

    def potentials(self, x: Tensor, spikes: Tensor) -> Iterator[Tensor] | None:
        """Return the membrane potentials after each step, for counting membrane updates.

        Args:
            x: input currents [T, B, ...].
            spikes: the spikes that they caused [T, B, ...].

        Returns:
            T potentials [B, ...]; None if they are not available: then every potential counts as updated at every step.
        """
        return None

    def rate_statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what rate-based backpropagation keeps, see `neurons.rate`; for neurons that support "rate".

        Args:
            x: input currents [T, B, ...].

        Returns:
            Spikes [T, B, ...]; mean firing rate and eligibility [B, ...].
        """
        raise ConfigError(f"neuron {self.neuron.name!r} has no rate-based backward pass; set student.backward to bptt")

    def equivalent_lif(self) -> NeuronConfig | None:
        """Return the LIF neuron that fires the same spikes, as NIR expresses it; None if there is none."""
        return None

    def extra_repr(self) -> str:
        """Return the text in the parentheses of `print(model)`."""
        return f"time_steps={self.time_steps}, {self.neuron}"


def spiking_layers(neuron: NeuronConfig, time_steps: int) -> Callable[[], SpikingNeuron]:
    """Return a function that makes one layer of the configured neurons at a time.

    Raises:
        ConfigError: if there is no neuron of that name, or it cannot be used.
        ValueError: if a parameter of the neuron is unknown or out of range.
    """
    component, params = neuron.component, neuron.checked_params
    return lambda: component.build(neuron, params, time_steps)
