"""The inputs of a method's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spikedistill.lazy import torch

Need = Literal["teacher", "steps", "exits", "features", "noise", "last_stage", "stages", "uniform"]
"""Inputs that a method can ask for, besides the student's logits and the labels.

"steps" is logits and maps of every time step instead of their mean. A method that needs "exits" has a parameter `pooling`, with
which the side branches are built (`models.exits`). "stages" is the maps after every stage of both networks, "last_stage" those
after the last one alone, which costs less; "features" is the same with the weight of the teacher's classifier, which not every
teacher has.
"""


@dataclass(frozen=True)
class MethodInputs:
    """One batch after the forward passes; floats are float32 or float64, and the teacher's tensors carry no gradient.

    With rate-based backpropagation, the dimension T has size 1, the mean over time; methods that need "steps" are refused
    there. Letters: T step, B batch, C class, D channel, h and w sides of a map, E exit.

    Attributes:
        logits: [T, B, C] of the student.
        labels: class numbers [B].
        teacher_logits: [B, C]; for methods that need "teacher".
        exits: logits [E, B, C] of the side branches, then of the student; for methods that need "exits".
        features: maps [T, B, D, h, w] after the student's last stage; for methods that need "features".
        teacher_features: maps [B, D, h, w] after the teacher's last stage; for methods that need both "features" and "teacher".
        teacher_weight: weight [C, D] of the teacher's classifier; for methods that need both "features" and "teacher".
        noise: standard normal numbers [B, C], a function of seed, epoch, step and position in the global batch; for methods
            that need "noise".
        stages: maps [T, B, D, h, w] after each stage of the student, in order, for methods that need "stages"; for those that
            need "last_stage", only the last.
        teacher_stages: likewise [B, D, h, w] of the teacher, whose stages may be fewer or more: `shapes.paired`.
        uniform: numbers in [0, 1) [B, D], one for each channel of the teacher's last stage, drawn as `noise` is; for methods that
            need "uniform" and one of "stages" and "last_stage".
        parts: the trainable module that the method's `build` returned; None for methods without `build`.
        steps_per_row: number of time steps that `logits[i]` and the maps `[i]` are means of: T with rate-based backpropagation,
            otherwise 1.
        label_smoothing: share of the target that cross-entropy with the labels spreads over all classes; for methods that say
            `SMOOTHS_LABELS = True`.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    teacher_logits: torch.Tensor | None = None
    exits: torch.Tensor | None = None
    features: torch.Tensor | None = None
    teacher_features: torch.Tensor | None = None
    teacher_weight: torch.Tensor | None = None
    noise: torch.Tensor | None = None
    stages: tuple[torch.Tensor, ...] | None = None
    teacher_stages: tuple[torch.Tensor, ...] | None = None
    uniform: torch.Tensor | None = None
    parts: torch.nn.Module | None = None
    steps_per_row: int = 1
    label_smoothing: float = 0.0

    @property
    def teacher(self) -> torch.Tensor:
        """The teacher's logits [B, C], for methods that need "teacher"."""
        assert self.teacher_logits is not None, "the stage provides what a method needs"
        return self.teacher_logits
