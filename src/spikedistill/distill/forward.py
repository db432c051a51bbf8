"""What one forward pass offers to a method's loss."""

from __future__ import annotations

from dataclasses import dataclass

from spikedistill.lazy import torch


@dataclass(frozen=True)
class Forward:
    """One batch after the forward passes.

    Attributes:
        logits: of the student [T, B, C], float32 or float64.
        labels: class numbers [B].
        teacher_logits: [B, C] without gradient; None when the method needs no teacher.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    teacher_logits: torch.Tensor | None = None

    @property
    def teacher(self) -> torch.Tensor:
        """The teacher's logits, for methods that declare NEEDS_TEACHER."""
        assert self.teacher_logits is not None, "the engine runs the teacher for methods that declare NEEDS_TEACHER"
        return self.teacher_logits
