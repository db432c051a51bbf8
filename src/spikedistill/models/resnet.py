"""Residual networks with post-activation basic blocks (He et al. 2016), for images and event frames.

The activation is passed in: ReLU makes the ANN, LIF neurons make the SNN in which spikes flow between blocks. The
shortcut of a block that changes shape is a 1x1 convolution with batch normalisation and no neuron.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

ARCHITECTURES = {
    "resnet8": {"blocks": (1, 1, 1), "widths": (16, 32, 64), "strides": (1, 2, 2), "stem_stride": 1},
    "resnet8_dvs": {"blocks": (1, 1, 1), "widths": (32, 64, 128), "strides": (2, 2, 2), "stem_stride": 2},
    "resnet18": {"blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512), "strides": (1, 2, 2, 2), "stem_stride": 1},
    "resnet34": {"blocks": (3, 4, 6, 3), "widths": (64, 128, 256, 512), "strides": (1, 2, 2, 2), "stem_stride": 1},
}

Activation = Callable[[], nn.Module]


def build(entry: Mapping[str, Any], *, num_classes: int, in_channels: int, activation: Activation) -> ResNet:
    """Build one entry of `ARCHITECTURES`."""
    return ResNet(**entry, num_classes=num_classes, in_channels=in_channels, activation=activation)


def _conv3x3(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """conv - norm - activation - conv - norm, plus shortcut, then activation."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: Activation) -> None:
        """Create a block; the shortcut is a projection where the shape changes."""
        super().__init__()
        self.body = nn.Sequential(
            _conv3x3(in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            activation(),
            _conv3x3(out_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, D, H / stride, W / stride]."""
        return self.activation(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):
    """Stem of one 3x3 convolution without pooling, stages of basic blocks, global average pooling, a linear head."""

    def __init__(
        self,
        *,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        strides: tuple[int, ...],
        stem_stride: int,
        num_classes: int,
        in_channels: int,
        activation: Activation,
    ) -> None:
        """Create a network with `blocks[i]` blocks of `widths[i]` channels in stage i, whose first has `strides[i]`."""
        super().__init__()
        self.stem = _conv3x3(in_channels, widths[0], stem_stride)
        self.stem_activation = nn.Sequential(nn.BatchNorm2d(widths[0]), activation())
        stages = []
        channels = widths[0]
        for count, width, stride in zip(blocks, widths, strides, strict=True):
            first = BasicBlock(channels, width, stride, activation)
            stages.append(nn.Sequential(first, *(BasicBlock(width, width, 1, activation) for _ in range(count - 1))))
            channels = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, num_classes)

    def encode(self, x: Tensor) -> Tensor:
        """The stem's convolution: [N, C, H, W] -> [N, D, h, w]."""
        return self.stem(x)

    def classify(self, y: Tensor) -> Tensor:
        """Everything after it: [N, D, h, w] -> logits [N, K]."""
        return self.head(self.stages(self.stem_activation(y)).mean((2, 3)))
