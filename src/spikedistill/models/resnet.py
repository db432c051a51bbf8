"""Residual networks with post-activation basic blocks (He et al. 2016), for images and event frames.

The activation is passed in: ReLU makes the ANN; LIF neurons make the SNN, in which blocks exchange spikes. The shortcut of a
block that changes the shape is a 1x1 convolution with batch normalisation and without a neuron.

The networks of CKDSNN (`_ckd`) differ: their shortcuts have average pooling before the convolution, the last block ends in a
ReLU even in the student, and the student's classifier is two linear layers in a row; the `_ckd_teacher` has a single one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from spikedistill.models.network import Activation, Network, build_stages, build_stem, conv3x3

ARCHITECTURES = {
    "resnet8": {"blocks": (1, 1, 1), "widths": (16, 32, 64), "strides": (1, 2, 2)},
    "resnet8_dvs": {"blocks": (1, 1, 1), "widths": (32, 64, 128), "strides": (2, 2, 2), "stem": "strided"},
    "resnet18": {"blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512), "strides": (1, 2, 2, 2)},
    "resnet18_dvs": {"blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512), "strides": (1, 2, 2, 2), "stem": "strided"},
    "resnet18_imagenet": {"blocks": (2, 2, 2, 2), "widths": (64, 128, 256, 512), "strides": (1, 2, 2, 2), "stem": "imagenet"},
    "resnet34": {"blocks": (3, 4, 6, 3), "widths": (64, 128, 256, 512), "strides": (1, 2, 2, 2)},
    "resnet34_imagenet": {"blocks": (3, 4, 6, 3), "widths": (64, 128, 256, 512), "strides": (1, 2, 2, 2), "stem": "imagenet"},
    "resnet19": {"blocks": (3, 3, 2), "widths": (128, 256, 512), "strides": (1, 2, 2), "hidden": 256},
    "resnet19_dvs": {"blocks": (3, 3, 2), "widths": (128, 256, 512), "strides": (1, 2, 2), "hidden": 256, "stem": "strided"},
    "resnet19_imagenet": {
        "blocks": (3, 3, 2), "widths": (128, 256, 512), "strides": (1, 2, 2), "hidden": 256, "stem": "imagenet"
    },
    "resnet19_ckd": {"blocks": (3, 3, 2), "widths": (128, 256, 512), "strides": (1, 2, 2), "hidden": 256, "ckd": True},
    "resnet19_ckd_dvs": {
        "blocks": (3, 3, 2), "widths": (128, 256, 512), "strides": (1, 2, 2), "hidden": 256, "ckd": True, "stem": "strided"
    },
    "resnet19_ckd_teacher": {"blocks": (3, 3, 2), "widths": (128, 256, 512), "strides": (1, 2, 2), "ckd": True},
    "resnet20_ckd": {"blocks": (3, 3, 3), "widths": (16, 32, 64), "strides": (1, 2, 2), "hidden": 256, "ckd": True},
    "resnet20_ckd_teacher": {"blocks": (3, 3, 3), "widths": (16, 32, 64), "strides": (1, 2, 2), "ckd": True},
}  # fmt: skip


def build(entry: Mapping[str, Any], *, num_classes: int, in_channels: int, activation: Activation) -> Network:
    """Build one entry of `ARCHITECTURES`: `blocks[i]` blocks of `widths[i]` channels, the first of stride `strides[i]`."""
    widths, ckd = entry["widths"], entry.get("ckd", False)
    stem, pool = build_stem(entry.get("stem", "small"), in_channels, widths[0])
    block = functools.partial(BasicBlock, activation=activation, pooled_shortcut=ckd)
    stages = build_stages(block, entry["blocks"], widths, entry["strides"])
    if ckd:
        stages[-1][-1].activation = nn.ReLU()
    return Network(
        stem=stem,
        after_stem=nn.Sequential(nn.BatchNorm2d(widths[0]), activation(), pool),
        stages=stages,
        widths=widths,
        classifier=_classifier(widths[-1], entry.get("hidden"), num_classes, nn.Identity if ckd else activation),
    )


def _classifier(channels: int, hidden: int | None, num_classes: int, activation: Activation) -> nn.Module:
    if hidden is None:
        return nn.Linear(channels, num_classes)
    return nn.Sequential(nn.Linear(channels, hidden), activation(), nn.Linear(hidden, num_classes))


class BasicBlock(nn.Module):
    """conv - norm - activation - conv - norm, plus shortcut, then activation."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, activation: Activation, *, pooled_shortcut: bool = False
    ) -> None:
        """Create a block; the shortcut is a projection where the shape changes, with `pooled_shortcut` after average pooling."""
        super().__init__()
        self.body = nn.Sequential(
            conv3x3(in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            activation(),
            conv3x3(out_channels, out_channels),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            pool = [nn.AvgPool2d(stride, ceil_mode=True)] if pooled_shortcut and stride != 1 else []
            convolution = nn.Conv2d(in_channels, out_channels, 1, stride=1 if pool else stride, bias=False)
            self.shortcut = nn.Sequential(*pool, convolution, nn.BatchNorm2d(out_channels))
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, D, H / stride, W / stride]."""
        return self.activation(self.body(x) + self.shortcut(x))
