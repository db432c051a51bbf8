"""Wrappers that add time to a network: one definition of layers serves the ANN teacher and the SNN student.

Letters: T step, B batch, C input channel, D channel, E exit, K class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikedistill.models.exits import Exits
from spikedistill.models.imported.inputs import InputAdapter
from spikedistill.models.imported.zoo_network import ZooNetwork
from spikedistill.models.network import Network
from spikedistill.models.settings import Backward
from spikedistill.neurons.dynamics import to_float32
from spikedistill.neurons.encoding import Encoder
from spikedistill.neurons.rate import convert_to_rate, spike_pass


@dataclass(frozen=True)
class ModelOutput:
    """The result of a forward pass. Methods use only this, never the network.

    Attributes:
        logits: [T, B, K] of a student, [B, K] of a teacher; with rate-based backpropagation, [1, B, K] of a training student,
            the mean over time.
        features: maps after the last stage, [T, B, D, h, w] of a student, [B, D, h, w] of a teacher; likewise [1, B, D, h, w].
        exits: logits [E, B, K] of the side branches, then of the network itself; None without branches.
        stages: as `features`, after every stage, in order; None if they were not asked for.
    """

    logits: Tensor
    features: Tensor
    exits: Tensor | None = None
    stages: tuple[Tensor, ...] | None = None

    @property
    def prediction(self) -> Tensor:
        """Logits [B, K] that the predicted class comes from: the mean over time."""
        return self.logits.mean(0) if self.logits.dim() == 3 else self.logits

    def in_full_precision(self) -> ModelOutput:
        """Convert float16 and bfloat16 to float32, the lowest precision of losses."""
        return self.map(to_float32)

    def map(self, change: Callable[[Tensor], Tensor]) -> ModelOutput:
        """Apply a function to every tensor."""
        exits = None if self.exits is None else change(self.exits)
        stages = None if self.stages is None else tuple(change(stage) for stage in self.stages)
        return ModelOutput(change(self.logits), change(self.features), exits, stages)


class Student(nn.Module):
    """A spiking network over T time steps; inside, time is folded into the batch, row t * B + b.

    Attributes:
        encoder: turns images into spikes for the first layer; None: it gets the image itself at every step.
        exits: side branches, see `models.exits`; training only.
        parts: layers that the method trains along with the network; training only, and not run by `forward`. They are kept
            here so that they are optimised, synchronised and saved in checkpoints with the network.
        returns_stages: whether outputs have `stages`.
    """

    def __init__(
        self, network: Network, time_steps: int, *, backward: Backward = "bptt", scale_grad_by_steps: bool = True
    ) -> None:
        """Wrap a network whose activations are spiking neurons of the same number of steps.

        Args:
            network: the layers.
            time_steps: T.
            backward: backpropagation through time, or rate-based backpropagation (see `neurons.rate`).
            scale_grad_by_steps: whether rate-based backpropagation divides every gradient by T, as the authors' code does.
        """
        super().__init__()
        self.network = network
        self.time_steps = time_steps
        self.backward = backward
        self.scale_grad_by_steps = scale_grad_by_steps
        self.encoder: Encoder | None = None
        self.exits: Exits | None = None
        self.parts: nn.Module | None = None
        self.returns_stages = False
        if backward == "rate":
            convert_to_rate(network, time_steps)

    def forward(self, x: Tensor) -> ModelOutput:
        """Return the outputs for images [B, C, H, W], which are presented at every step, or frames [T, B, C, H, W].

        The first convolution of an image is computed once, because it is the same at every step, unless its input is spikes.

        Raises:
            ValueError: if the number of frames is not T.
        """
        if self.encoder is not None and x.dim() == 4:
            x = self.encoder(x)
        if self.backward == "rate" and self.training:
            return self._rate_forward(x)
        stages = self.network.features(self._fold(x))
        logits = self.network.classify(stages[-1]).unflatten(0, (self.time_steps, -1))
        over_time = [stage.unflatten(0, (self.time_steps, -1)) for stage in stages]
        kept = tuple(over_time) if self.returns_stages else None
        if self.exits is None or not self.training:
            return ModelOutput(logits, over_time[-1], stages=kept)
        exits = torch.cat([self.exits([stage.mean(0) for stage in over_time[:-1]]), logits.mean(0, keepdim=True)])
        return ModelOutput(logits, over_time[-1], exits, kept)

    def _fold(self, x: Tensor) -> Tensor:
        """Return the stem's output for every step [T * B, D, h, w]."""
        if x.dim() == 4:
            return self.network.encode(x).repeat(self.time_steps, 1, 1, 1)
        if len(x) != self.time_steps:
            raise ValueError(f"{len(x)} frames for a network of {self.time_steps} time steps")
        return self.network.encode(x.flatten(0, 1))

    def _rate_forward(self, x: Tensor) -> ModelOutput:
        with spike_pass(self.network):
            self.network.classify(self.network.last_features(self._fold(x)))
        stages = self.network.features(self.network.encode(x if x.dim() == 4 else x.mean(0)))
        logits = self.network.classify(stages[-1])[None]
        exits = None if self.exits is None else torch.cat([self.exits(stages[:-1]), logits])
        kept = tuple(stage[None] for stage in stages) if self.returns_stages else None
        outputs = ModelOutput(logits, stages[-1][None], exits, kept)
        return outputs.map(self._with_scaled_gradient) if self.scale_grad_by_steps else outputs

    def _with_scaled_gradient(self, x: Tensor) -> Tensor:
        return _ScaledGradient.apply(x, self.time_steps)


class _ScaledGradient(torch.autograd.Function):
    """The identity, whose backward divides the gradient by `divisor`."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, divisor: int) -> Tensor:
        ctx.divisor = divisor  # type: ignore[attr-defined]
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] / ctx.divisor, None  # type: ignore[attr-defined]


class Teacher(nn.Module):
    """An ANN; its input is an image, or the mean of event frames over time."""

    def __init__(self, network: Network | ZooNetwork, *, adapter: InputAdapter | None = None, groups: Sequence[int] = ()) -> None:
        """Wrap a network whose activations have no time.

        Args:
            network: the layers.
            adapter: converts the batch to what the network takes; None: it takes the batch as it is.
            groups: number of the network's outputs that make up each class, in order; empty: one each.
        """
        super().__init__()
        self.network = network
        self.adapter = adapter
        self.groups = tuple(groups) if any(size != 1 for size in groups) else ()

    def forward(self, x: Tensor, *, returns_stages: bool = False) -> ModelOutput:
        """Return the outputs for images [B, C, H, W] or frames [T, B, C, H, W], on request with the maps of every stage."""
        x = self.adapter(x) if self.adapter is not None else x.mean(0) if x.dim() == 5 else x
        y = self.network.encode(x)
        if not returns_stages:
            features = self.network.last_features(y)
            return ModelOutput(self.classify(features), features)
        stages = tuple(self.network.features(y))
        return ModelOutput(self.classify(stages[-1]), stages[-1], stages=stages)

    def classify(self, features: Tensor) -> Tensor:
        """Return logits [B, K] of the last features; for a class of several outputs, their probabilities are added up."""
        logits = self.network.classify(features)
        if not self.groups:
            return logits
        return torch.stack([outputs.logsumexp(1) for outputs in logits.split(self.groups, dim=1)], dim=1)

    @property
    def class_weight(self) -> Tensor | None:
        """Weight [K, D] of a classifier that is one linear layer on globally pooled features; None for other classifiers."""
        return None if self.groups else self.network.class_weight
