"""A model of another library with the interface of `models.network.Network`.

Letters: N images, C input channel, D channel, K class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from spikedistill.errors import ConfigError
from spikedistill.models.network import Activation


class ZooInputs(NamedTuple):
    """What the weights of a model were trained on.

    Attributes:
        size: side of the images in pixels.
        mean: per channel, of pixels in [0, 1].
        std: per channel.
        fixed_size: True if the model takes images of no other size.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fixed_size: bool


class ZooNetwork(nn.Module):
    """A model whose parameters keep the names that they have in their library, below `model.`."""

    def __init__(
        self,
        model: nn.Module,
        *,
        features: Callable[[nn.Module, Tensor], Tensor],
        head: Callable[[nn.Module, Tensor], Tensor],
        final_layers: Sequence[str],
        plain_classifier: bool,
        training_only: Sequence[str] = (),
    ) -> None:
        """Wrap a model.

        Args:
            model: the model.
            features: (model, images [N, C, H, W]) -> features: maps [N, D, h, w], or whatever else the head takes.
            head: (model, features) -> logits [N, K].
            final_layers: names in `model` of the layers whose outputs are logits.
            plain_classifier: whether the head is global average pooling and one linear layer, dropout apart.
            training_only: name prefixes of tensors that checkpoints of the model hold for training alone.
        """
        super().__init__()
        self.model = model
        self.final_layers = tuple(f"model.{name}" for name in final_layers)
        self.training_only = tuple(training_only)
        self._features, self._head = features, head
        self._plain_classifier = plain_classifier

    def encode(self, x: Tensor) -> Tensor:
        """Return the images themselves: the first convolution is part of `features`."""
        return x

    def features(self, y: Tensor) -> list[Tensor]:
        """Return the last features alone."""
        return [self.last_features(y)]

    def last_features(self, y: Tensor) -> Tensor:
        """Return what the head takes: mostly maps [N, D, h, w]."""
        return self._features(self.model, y)

    def classify(self, features: Tensor) -> Tensor:
        """Return logits [N, K] of `last_features`."""
        return self._head(self.model, features)

    @property
    def class_weight(self) -> Tensor | None:
        """Weight [K, D] of a classifier that is one linear layer on globally pooled features; None for other classifiers."""
        if not self._plain_classifier:
            return None
        weight = self.get_submodule(self.final_layers[0]).weight
        return weight.flatten(1)  # type: ignore[operator,return-value]  # of a 1x1 convolution, too

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of channels of the features, where that is known."""
        weight = self.class_weight
        return () if weight is None else (weight.shape[1],)


def refuse_spikes(name: str, activation: Activation) -> None:
    """Refuse to build a model of an ANN library with another activation than its own.

    Raises:
        ConfigError: if a student asks for it.
    """
    if activation is not nn.ReLU:
        raise ConfigError(f"{name} is an ANN, for teachers; choose a student.arch of `spikedistill list architectures`")


def with_channels(model: nn.Module, in_channels: int) -> nn.Module:
    """Give a model a new first convolution if `in_channels` is not 3; return the model."""
    name, first = next((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels != in_channels:
        fresh = nn.Conv2d(
            in_channels,
            first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            stride=first.stride,  # type: ignore[arg-type]
            padding=first.padding,  # type: ignore[arg-type]
            bias=first.bias is not None,
        )
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, fresh)
    return model
