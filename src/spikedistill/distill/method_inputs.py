"""What one forward pass offers to a method's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spikedistill.lazy import torch

Need = Literal["teacher", "steps", "exits", "features", "noise"]
"""What a method's loss may ask for, beside the student's logits and the labels.

A method that needs "exits" has a parameter `pooling`, which says how the side branches are built (`models.exits`).
"""


@dataclass(frozen=True)
class MethodInputs:
    """One batch after the forward passes; everything in float32 or float64, nothing of the teacher carries gradient.

    Letters: T step, B batch, C class, D channel, E exit.

    Attributes:
        logits: of the student [T, B, C]; [1, B, C], the mean over time, with rate-based backpropagation, which a method that
            needs "steps" cannot work with.
        labels: class numbers [B].
        teacher_logits: [B, C]; for methods that need "teacher".
        exits: logits [E, B, C] of the side branches, then of the student; for methods that need "exits".
        features: maps [T, B, D, h, w] after the student's last stage; for methods that need "features".
        teacher_features: maps [B, D, h, w] after the teacher's last stage; for methods that need both "features" and "teacher".
        teacher_weight: weight [C, D] of the teacher's classifier; likewise.
        noise: standard normal [B, C], a function of seed, epoch, step and place in the global batch; for methods that
            need "noise".
        steps_per_row: time steps that a row of `logits` and `features` is the mean of: T with rate-based backpropagation, else 1.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    teacher_logits: torch.Tensor | None = None
    exits: torch.Tensor | None = None
    features: torch.Tensor | None = None
    teacher_features: torch.Tensor | None = None
    teacher_weight: torch.Tensor | None = None
    noise: torch.Tensor | None = None
    steps_per_row: int = 1

    @property
    def teacher(self) -> torch.Tensor:
        """The teacher's logits, for methods that need "teacher"."""
        assert self.teacher_logits is not None, "the engine gives what a method needs"
        return self.teacher_logits
