"""Plain convolutional networks without pooling: every stage is one strided convolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from spikedistill.models.network import Activation, Network, conv3x3

ARCHITECTURES = {"NAME": {"widths": (16, 32, 64)}}  # read without running this file


def build(entry: Mapping[str, Any], *, num_classes: int, in_channels: int, activation: Activation) -> Network:
    """Build one entry of `ARCHITECTURES`: ReLU as the activation makes the teacher, spiking neurons make the student."""
    widths = entry["widths"]
    stages = []
    channels = widths[0]
    for width in widths:
        stages.append(nn.Sequential(conv3x3(channels, width, 2), nn.BatchNorm2d(width), activation()))
        channels = width
    return Network(
        stem=conv3x3(in_channels, widths[0]),
        after_stem=nn.Sequential(nn.BatchNorm2d(widths[0]), activation()),
        stages=stages,
        widths=widths,
        classifier=nn.Linear(channels, num_classes),
    )
