"""The inputs of a method's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spikedistill.lazy import torch

Need = Literal["teacher", "steps", "exits", "features", "noise"]
"""Inputs that a method can ask for, besides the student's logits and the labels.

"steps" is the logits of every time step instead of their mean. A method that needs "exits" has a parameter `pooling`, by which
the side branches are built (`models.exits`).
"""


@dataclass(frozen=True)
class MethodInputs:
    """One batch after the forward passes; floats are float32 or float64, and the teacher's tensors carry no gradient.

    Letters: T step, B batch, C class, D channel, E exit.

    Attributes:
        logits: [T, B, C] of the student; with rate-based backpropagation [1, B, C], the mean over time, which is an error for
            methods that need "steps".
        labels: class numbers [B].
        teacher_logits: [B, C]; for methods that need "teacher".
        exits: logits [E, B, C] of the side branches, then of the student; for methods that need "exits".
        features: maps [T, B, D, h, w] after the student's last stage; for methods that need "features".
        teacher_features: maps [B, D, h, w] after the teacher's last stage; for methods that need both "features" and "teacher".
        teacher_weight: weight [C, D] of the teacher's classifier; for methods that need both "features" and "teacher".
        noise: standard normal numbers [B, C], a function of seed, epoch, step and position in the global batch; for methods
            that need "noise".
        steps_per_row: number of time steps that `logits[i]` and `features[i]` are means of: T with rate-based backpropagation,
            otherwise 1.
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
        """The teacher's logits [B, C], for methods that need "teacher"."""
        assert self.teacher_logits is not None, "the stage provides what a method needs"
        return self.teacher_logits
