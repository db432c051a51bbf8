"""Plain convolutional networks: the VGGSNN of event-camera papers (Deng et al. 2022, TET) and VGG-13.

Stages are separated by average pooling: a stage ends in spikes, and the next one starts with their local means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from spikedistill.models.network import Activation, Network, conv3x3

ARCHITECTURES = {
    "vggsnn": {"stages": ((64, 128), (256, 256), (512, 512), (512, 512)), "pooled_size": 3, "last_pool": True, "min_side": 16},
    "vgg13": {"stages": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)), "min_side": 16},
}


def build(entry: Mapping[str, Any], *, num_classes: int, in_channels: int, activation: Activation) -> Network:
    """Build one entry of `ARCHITECTURES`: `stages` lists the widths of the convolutions between two poolings."""
    first_width = entry["stages"][0][0]
    stem = conv3x3(in_channels, first_width, bias=True)
    stages = []
    channels = first_width
    for index, widths in enumerate(entry["stages"]):
        layers: list[nn.Module] = [] if index == 0 else [nn.AvgPool2d(2)]
        for width in widths[1:] if index == 0 else widths:
            layers += [conv3x3(channels, width, bias=True), nn.BatchNorm2d(width), activation()]
            channels = width
        stages.append(nn.Sequential(*layers))
    if entry.get("last_pool"):
        stages[-1].append(nn.AvgPool2d(2))
    size = entry.get("pooled_size", 1)
    return Network(
        stem=stem,
        after_stem=nn.Sequential(nn.BatchNorm2d(first_width), activation()),
        stages=stages,
        widths=[widths[-1] for widths in entry["stages"]],
        classifier=nn.Linear(channels * size * size, num_classes),
        pooled_size=size,
    )
