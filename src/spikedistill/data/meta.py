"""Kind, classes and shape of a dataset, which are known without reading its files. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DatasetMeta:
    """Kind, classes and shape of a dataset.

    Attributes:
        kind: "images" [N, C, H, W] or "frames" [N, T, 2, H, W] (integrated events).
        class_names: names of the classes, in the order of their labels.
        channels: C; 2 for event frames (OFF, ON).
        height: H in pixels.
        width: W in pixels.
        num_frames: T of event frames, None for images.
        in_files: whether samples stay in files and are decoded each time they are loaded.
    """

    kind: Literal["images", "frames"]
    class_names: tuple[str, ...]
    channels: int
    height: int
    width: int
    num_frames: int | None = None
    in_files: bool = False

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)
