"""Spike-element-wise residual networks (Fang et al. 2021, SEW-ResNet) with the ADD connection.

A neuron follows every convolution and normalisation, also in the shortcut. Spikes of body and shortcut are added, so the
tensors between blocks hold small integers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spikedistill.models.network import Activation, Network, build_residual, conv3x3

ARCHITECTURES = {
    "sew_resnet18": {"blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512)},
    "sew_resnet18_dvs": {"blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512), "stem": "strided"},
    "sew_resnet18_imagenet": {"blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512), "stem": "imagenet"},
    "sew_resnet34": {"blocks": (3, 4, 6, 3), "widths": (64, 128, 256, 512)},
    "sew_resnet34_dvs": {"blocks": (3, 4, 6, 3), "widths": (64, 128, 256, 512), "stem": "strided"},
    "sew_resnet34_imagenet": {"blocks": (3, 4, 6, 3), "widths": (64, 128, 256, 512), "stem": "imagenet"},
}


def build(entry: Mapping[str, Any], *, num_classes: int, in_channels: int, activation: Activation) -> Network:
    """Build one entry of `ARCHITECTURES`."""
    block = functools.partial(SewBlock, activation=activation)
    return build_residual(entry, num_classes=num_classes, in_channels=in_channels, block=block, activations=[activation()])


def _layer(convolution: nn.Conv2d, activation: Activation) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), activation())


class SewBlock(nn.Module):
    """Two layers of conv - norm - activation, plus the shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: Activation) -> None:
        """Create a block; the shortcut is a spiking projection where the shape changes."""
        super().__init__()
        self.body = nn.Sequential(
            _layer(conv3x3(in_channels, out_channels, stride, bias=True), activation),
            _layer(conv3x3(out_channels, out_channels, bias=True), activation),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = _layer(nn.Conv2d(in_channels, out_channels, 1, stride=stride), activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, D, H / stride, W / stride]."""
        return self.body(x) + self.shortcut(x)
