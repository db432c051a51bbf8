"""A network of another library that runs all time steps at once, with the interface of `models.network.Network`.

Such a module maps frames [T, B, C, H, W] to logits [T, B, K]. Letters: T step, B batch, C input channel, D channel, K class.
"""

from __future__ import annotations

from collections.abc import Callable

from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from spikedistill.neurons.neuron import SpikingNeuron

SpikingLayer = Callable[[], nn.Module]
"""Makes one layer of the configured neurons, on currents [T, B, ...]."""


class MultiStepNeuron(nn.Module):
    """A layer of spiking neurons on [T, B, ...] instead of [T * B, ...]; it starts at rest in every call."""

    def __init__(self, folded: SpikingNeuron) -> None:
        """Wrap a layer on time-folded input."""
        super().__init__()
        self.neuron = folded

    def forward(self, x_seq: Tensor) -> Tensor:
        """Return the spikes [T, B, ...] of the currents [T, B, ...]."""
        return self.neuron(x_seq.flatten(0, 1)).unflatten(0, x_seq.shape[:2])


class MultiStepNetwork(nn.Module):
    """A multi-step module whose parameters keep the names that they have in their library, below `model.`.

    Attributes:
        runs_all_steps: True; tells it from a `Network`.
        has_tap: whether `features` are maps, and not the logits.
    """

    runs_all_steps = True

    def __init__(
        self,
        model: nn.Module,
        time_steps: int,
        *,
        features: Callable[[nn.Module, Tensor], Tensor] | None = None,
        head: Callable[[nn.Module, Tensor], Tensor] | None = None,
    ) -> None:
        """Wrap a module; neurons and layers of SpikingJelly in it are set to run all steps at once.

        Args:
            model: maps [T, B, C, H, W] to [T, B, K].
            time_steps: T.
            features: (model, frames [T, B, C, H, W]) -> maps after the last stage [T, B, D, h, w]; None if they are not known:
                then `features` returns the logits as maps of one pixel.
            head: (model, maps) -> logits [T, B, K]; belongs to `features`.
        """
        super().__init__()
        assert (features is None) == (head is None), "features and head take a module apart at one place"
        functional.set_step_mode(model, "m")
        self.model = model
        self.time_steps = time_steps
        self.has_tap = features is not None
        self._features = features or _logits_as_maps
        self._head = head or _maps_as_logits

    def encode(self, x: Tensor) -> Tensor:
        """Return the images themselves: the first convolution is part of `features`."""
        return x

    def features(self, y: Tensor) -> list[Tensor]:
        """Return the last features alone."""
        return [self.last_features(y)]

    def last_features(self, y: Tensor) -> Tensor:
        """Return the maps [T * B, D, h, w] of the frames [T * B, C, H, W]; any state of the module is reset first."""
        functional.reset_net(self.model)
        return self._features(self.model, y.unflatten(0, (self.time_steps, -1))).flatten(0, 1)

    def classify(self, features: Tensor) -> Tensor:
        """Return logits [T * B, K] of `last_features`."""
        return self._head(self.model, features.unflatten(0, (self.time_steps, -1))).flatten(0, 1)

    @property
    def class_weight(self) -> None:
        """None: methods use that of teachers."""
        return None

    @property
    def keeps_state(self) -> bool:
        """Whether it has neurons that keep their state until it is reset, so that no layer may run twice in a pass."""
        ours = {id(each) for module in self.modules() if isinstance(module, SpikingNeuron) for each in module.modules()}
        return any(isinstance(module, neuron.BaseNode) and id(module) not in ours for module in self.modules())


def as_network(built: nn.Module, time_steps: int) -> MultiStepNetwork:
    """Return the result of an architecture's `build_multi_step`, wrapped if it is a bare module without a tap."""
    return built if isinstance(built, MultiStepNetwork) else MultiStepNetwork(built, time_steps)


def _logits_as_maps(model: nn.Module, frames: Tensor) -> Tensor:
    return model(frames)[..., None, None]


def _maps_as_logits(model: nn.Module, maps: Tensor) -> Tensor:
    return maps.flatten(2)
