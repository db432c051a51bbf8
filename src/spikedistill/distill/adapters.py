"""Layers that methods train along with the student: they map its features to the space of the teacher's.

Imports torch; methods import it inside `build`. Letters: N rows (T * B or B), D channel of the student, D' of the teacher, h
and w height and width of a map.
"""

from __future__ import annotations

from torch import Tensor, nn

from spikedistill.distill.shapes import MapShape


class Regressor(nn.Module):
    """Adapts the student's maps to the shape of the teacher's: resized where needed, then a 1x1 convolution with bias."""

    def __init__(self, student: MapShape, teacher: MapShape) -> None:
        """Create the layers for one pair of stages."""
        super().__init__()
        self.side = (teacher.height, teacher.width)
        self.align = nn.Conv2d(student.channels, teacher.channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return [N, D', h', w'] of the student's maps [N, D, h, w]."""
        return self.align(resized(maps, self.side))


class Restorer(nn.Module):
    """Restores maps in which some channels are blanked out: 3x3 convolution, ReLU, 3x3 convolution, all of the same width."""

    def __init__(self, channels: int) -> None:
        """Create the layers for maps of D' = `channels`."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return the restored maps, of the same shape [N, D', h, w]."""
        return self.layers(maps)


def resized(maps: Tensor, side: tuple[int, int]) -> Tensor:
    """Return maps [N, D, h, w] resized to (h', w'): averaged where they shrink, repeated where they grow.

    This is adaptive average pooling: position i of h' is the mean of the rows from floor(i h / h') to ceil((i + 1) h / h') - 1.
    """
    return maps if tuple(maps.shape[2:]) == side else nn.functional.adaptive_avg_pool2d(maps, side)
