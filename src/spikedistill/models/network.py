"""The common structure of all architectures: a first convolution, stages, and a classifier of the pooled last stage.

Letters: N images (T * B in a spiking network, time-major), C input channel, D channel, K class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


class Network(nn.Module):
    """Layers on a plain batch; the activations that they were built with make them an ANN or an SNN."""

    def __init__(
        self,
        *,
        stem: nn.Module,
        after_stem: nn.Sequential,
        stages: Sequence[nn.Sequential],
        widths: Sequence[int],
        classifier: nn.Module,
        pooled_size: int = 1,
    ) -> None:
        """Put the parts together.

        Args:
            stem: the first convolution alone, so that a static image needs it once instead of T times.
            after_stem: its normalisation, activation and pooling.
            stages: all further layers but the classifier; `features` returns the output of each stage.
            widths: number of channels after each stage.
            classifier: [N, D * pooled_size**2] -> logits [N, K].
            pooled_size: side of the map that the last stage is averaged to.
        """
        super().__init__()
        self.stem = stem
        self.after_stem = after_stem
        self.stages = nn.ModuleList(stages)
        self.widths = tuple(widths)
        self.classifier = classifier
        self.pooled_size = pooled_size

    def encode(self, x: Tensor) -> Tensor:
        """Apply the first convolution: [N, C, H, W] -> [N, D, h, w]."""
        return self.stem(x)

    def features(self, y: Tensor) -> list[Tensor]:
        """Return the output [N, D, h, w] of every stage, given that of `encode`."""
        y = self.after_stem(y)
        outputs = []
        for stage in self.stages:
            y = stage(y)
            outputs.append(y)
        return outputs

    def last_features(self, y: Tensor) -> Tensor:
        """Return the last of `features`; without an autograd graph, activations are freed as soon as the next layer is done."""
        for part in (self.after_stem, *self.stages):
            for layer in part if _is_plain_sequence(part) else [part]:  # layer by layer frees activations
                y = layer(y)
        return y

    def classify(self, features: Tensor) -> Tensor:
        """Return logits [N, K] of the output of the last stage."""
        if self.pooled_size == 1:
            return self.classifier(features.mean((2, 3)))
        pooled = nn.functional.adaptive_avg_pool2d(features, self.pooled_size)
        return self.classifier(pooled.flatten(1))

    @property
    def class_weight(self) -> Tensor | None:
        """Weight [K, D] of a classifier that is one linear layer on globally pooled features; None for other classifiers."""
        plain = self.pooled_size == 1 and isinstance(self.classifier, nn.Linear)
        return self.classifier.weight if plain else None  # type: ignore[return-value]


def _is_plain_sequence(part: nn.Module) -> TypeGuard[nn.Sequential]:
    """Return True if a part is its layers, one by one; one that is compiled or checkpointed is not, see `train.blocks`."""
    is_sequence = isinstance(part, nn.Sequential) and type(part).forward is nn.Sequential.forward
    return is_sequence and "forward" not in vars(part)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, *, bias: bool = False) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)


def build_stem(kind: str, in_channels: int, width: int, *, bias: bool = False) -> tuple[nn.Conv2d, nn.Module]:
    """Return the first convolution, and the pooling that goes with it.

    Args:
        kind: "small" keeps the size (CIFAR, event frames up to 48x48), "strided" halves it, "imagenet" quarters it.
        in_channels: C.
        width: D.
        bias: whether the convolution has a bias.
    """
    if kind == "imagenet":
        return nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=bias), nn.MaxPool2d(3, stride=2, padding=1)
    return conv3x3(in_channels, width, {"small": 1, "strided": 2}[kind], bias=bias), nn.Identity()


def build_stages(
    block: Callable[[int, int, int], nn.Module], counts: Sequence[int], widths: Sequence[int], strides: Sequence[int]
) -> list[nn.Sequential]:
    """Return stages of residual blocks.

    Args:
        block: builds a block from (input channels, output channels, stride).
        counts: number of blocks in each stage.
        widths: output channels of each stage; the first stage has as many input channels.
        strides: stride of the first block of each stage; the other blocks keep the size.
    """
    stages = []
    channels = widths[0]
    for count, width, stride in zip(counts, widths, strides, strict=True):
        stages.append(nn.Sequential(block(channels, width, stride), *(block(width, width, 1) for _ in range(count - 1))))
        channels = width
    return stages


def build_residual(
    entry: Mapping[str, Any],
    *,
    num_classes: int,
    in_channels: int,
    block: Callable[[int, int, int], nn.Module],
    activations: Sequence[nn.Module],
) -> Network:
    """Return a residual network whose convolutions have a bias; the first block of every stage but the first halves the size.

    Args:
        entry: `blocks` and `widths` of each stage, and the `stem`, see `build_stem`.
        num_classes: K.
        in_channels: C.
        block: builds a block from (input channels, output channels, stride).
        activations: layers between the normalisation and the pooling of the stem.
    """
    widths = entry["widths"]
    stem, pool = build_stem(entry.get("stem", "small"), in_channels, widths[0], bias=True)
    network = Network(
        stem=stem,
        after_stem=nn.Sequential(nn.BatchNorm2d(widths[0]), *activations, pool),
        stages=build_stages(block, entry["blocks"], widths, [1, *[2] * (len(widths) - 1)]),
        widths=widths,
        classifier=nn.Linear(widths[-1], num_classes),
    )
    init_fan_out(network)
    return network


def init_fan_out(module: nn.Module) -> None:
    """Initialise every convolution of `module` from He's normal distribution over the fan-out (He et al. 2015); zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                with torch.no_grad():
                    layer.bias.zero_()
