"""Side branches of enhanced self-distillation: small ANNs that classify the mean firing rates of the earlier stages.

They exist in training only (Enhanced Self-Distillation, arXiv 2510.06254; `methods.md` calls them DeepConv branches).
Letters: B batch, D channel, E exit, K class.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from spikedistill.models.network import conv3x3
from spikedistill.models.settings import Pooling

CORNER = 4  # side of the part of the last map that the authors' AvgPool2d(4, 4) averages


class Exits(nn.Module):
    """One branch for every stage but the last."""

    def __init__(self, widths: Sequence[int], num_classes: int, *, pooling: Pooling, residual: bool) -> None:
        """Create the branches.

        Args:
            widths: channels after each stage of the network; a branch goes through those that follow its stage.
            num_classes: K.
            pooling: "global" averages the whole last map, "corner" its top left 4x4, as the authors' code does.
            residual: whether a residual block follows every downsampling block, as in the authors' PreAct-ResNet-34.
        """
        super().__init__()
        self.pooling = pooling
        self.branches = nn.ModuleList(_branch(widths[i:], residual=residual) for i in range(len(widths) - 1))
        self.classifiers = nn.ModuleList(nn.Linear(widths[-1], num_classes) for _ in self.branches)

    def forward(self, rates: Sequence[Tensor]) -> Tensor:
        """Return logits [E, B, K] of the mean firing rates [B, D, h, w] of every stage but the last."""
        logits = []
        for branch, classifier, rate in zip(self.branches, self.classifiers, rates, strict=True):
            y = branch(rate)
            y = y[..., :CORNER, :CORNER] if self.pooling == "corner" else y
            logits.append(classifier(y.mean((2, 3))))
        return torch.stack(logits)


def _branch(widths: Sequence[int], *, residual: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for narrow, wide in pairwise(widths):
        layers.append(_DownsamplingBlock(narrow, wide))
        if residual:
            layers.append(_ResidualBlock(wide))
    return nn.Sequential(*layers)


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


def _pointwise(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


class _DownsamplingBlock(nn.Module):
    """Two depthwise-separable convolutions plus a strided 1x1 convolution as shortcut; halves the size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _depthwise(in_channels, 2),
            _pointwise(in_channels, in_channels),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            _depthwise(in_channels, 1),
            _pointwise(in_channels, out_channels),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
        self.shortcut = nn.Sequential(_pointwise(in_channels, out_channels, 2), nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.body(x) + self.shortcut(x))


class _ResidualBlock(nn.Module):
    """conv - norm - ReLU - conv - norm plus identity, then ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv3x3(channels, channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            conv3x3(channels, channels),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.body(x) + x)
