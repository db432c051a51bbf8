"""What one forward pass offers to a method's loss."""

from __future__ import annotations

from dataclasses import dataclass

from spikedistill.lazy import torch


@dataclass(frozen=True)
class Forward:
    """One batch after the forward passes; everything in float32 or float64, nothing of the teacher carries gradient.

    Letters: T step, B batch, C class, D channel, E exit.

    Attributes:
        logits: of the student [T, B, C]; [1, B, C], the mean over time, with rate-based backpropagation.
        labels: class numbers [B].
        teacher_logits: [B, C]; None when the method needs no teacher.
        exits: logits [E, B, C] of the side branches, then of the student; for methods with "exits" in NEEDS.
        features: maps [T, B, D, h, w] after the student's last stage; for methods with "features" in NEEDS.
        teacher_features: maps [B, D, h, w] after the teacher's last stage; likewise.
        teacher_weight: weight [C, D] of the teacher's classifier; likewise.
        noise: standard normal [B, C], a function of seed, epoch, step and place in the global batch; for methods with
            "noise" in NEEDS.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    teacher_logits: torch.Tensor | None = None
    exits: torch.Tensor | None = None
    features: torch.Tensor | None = None
    teacher_features: torch.Tensor | None = None
    teacher_weight: torch.Tensor | None = None
    noise: torch.Tensor | None = None

    @property
    def teacher(self) -> torch.Tensor:
        """The teacher's logits, for methods that declare NEEDS_TEACHER."""
        assert self.teacher_logits is not None, "the engine runs the teacher for methods that declare NEEDS_TEACHER"
        return self.teacher_logits
