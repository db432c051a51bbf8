"""How a network meets time: one definition of layers serves the ANN teacher and the SNN student.

Letters: T step, B batch, C channel, K class.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Network(Protocol):
    """What an architecture family builds: layers on a plain batch, the first convolution apart."""

    def encode(self, x: Tensor) -> Tensor:
        """The first convolution: [N, C, H, W] -> [N, D, h, w], without normalisation or activation."""

    def classify(self, y: Tensor) -> Tensor:
        """Everything after it: [N, D, h, w] -> logits [N, K]."""


class Student(nn.Module):
    """A spiking network over T steps; inside, time is folded into the batch, row t * B + b."""

    def __init__(self, network: Network, time_steps: int) -> None:
        """Wrap a network whose activations are spiking neurons of the same number of steps."""
        super().__init__()
        self.network = network
        self.time_steps = time_steps

    def forward(self, x: Tensor) -> Tensor:
        """Logits [T, B, K] of images [B, C, H, W] (the same at every step) or frames [T, B, C, H, W].

        A static image is encoded once: its convolution is the same at every step.
        """
        if x.dim() == 4:
            y = self.network.encode(x).repeat(self.time_steps, 1, 1, 1)
        else:
            if len(x) != self.time_steps:
                raise ValueError(f"{len(x)} frames for a network of {self.time_steps} time steps")
            y = self.network.encode(x.flatten(0, 1))
        return self.network.classify(y).unflatten(0, (self.time_steps, -1))


class Teacher(nn.Module):
    """An ANN; of event frames it sees the mean over time."""

    def __init__(self, network: Network) -> None:
        """Wrap a network whose activations have no time."""
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] of images [B, C, H, W] or frames [T, B, C, H, W]."""
        return self.network.classify(self.network.encode(x.mean(0) if x.dim() == 5 else x))
