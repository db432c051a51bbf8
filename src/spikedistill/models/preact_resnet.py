"""Pre-activation residual networks (He et al. 2016, "Identity mappings"), which SeAl-KD, TDD and ESD use on ImageNet.

The residual stream is real-valued: a block applies its first activation to the input, and the shortcut passes the raw input on,
through a 1x1 convolution with normalisation where the shape changes. The stem and the sum have no activation.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spikedistill.models.network import Activation, Network, build_residual, conv3x3

ARCHITECTURES = {
    "preact_resnet18": {"blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512), "residual_exits": True},
    "preact_resnet18_dvs": {"blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512), "residual_exits": True, "stem": "strided"},
    "preact_resnet18_imagenet": {
        "blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512), "residual_exits": True, "stem": "imagenet"
    },
    "preact_resnet34": {"blocks": (3, 4, 6, 3), "widths": (64, 128, 256, 512), "residual_exits": True},
    "preact_resnet34_dvs": {"blocks": (3, 4, 6, 3), "widths": (64, 128, 256, 512), "residual_exits": True, "stem": "strided"},
    "preact_resnet34_imagenet": {
        "blocks": (3, 4, 6, 3), "widths": (64, 128, 256, 512), "residual_exits": True, "stem": "imagenet"
    },
}  # fmt: skip


def build(entry: Mapping[str, Any], *, num_classes: int, in_channels: int, activation: Activation) -> Network:
    """Build one entry of `ARCHITECTURES`."""
    block = functools.partial(PreActBlock, activation=activation)
    return build_residual(entry, num_classes=num_classes, in_channels=in_channels, block=block, activations=[])


class PreActBlock(nn.Module):
    """activation - conv - norm - activation - conv - norm, plus the raw input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: Activation) -> None:
        """Create a block; the shortcut is a projection of the raw input where the shape changes."""
        super().__init__()
        self.body = nn.Sequential(
            activation(),
            conv3x3(in_channels, out_channels, stride, bias=True),
            nn.BatchNorm2d(out_channels),
            activation(),
            conv3x3(out_channels, out_channels, bias=True),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride=stride)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, D, H / stride, W / stride]."""
        return self.body(x) + self.shortcut(x)
