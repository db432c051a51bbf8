"""What one forward pass offers to a method's loss."""

from __future__ import annotations

from dataclasses import dataclass

from spikedistill.lazy import torch


@dataclass(frozen=True)
class Forward:
    """One batch after the forward passes. What a method needs beyond logits and labels, it declares; the rest is None.

    Attributes:
        logits: of the student [T, B, C], float32 or float64.
        labels: class numbers [B].
        teacher_logits: [B, C] without gradient, for methods that declare NEEDS_TEACHER.
        exits: logits of the side branches and, last, of the network itself [K, B, C], averaged over time; for NEEDS "exits".
        features: the student's last feature maps [T, B, D, h, w]; for NEEDS "features".
        teacher_features: the teacher's last feature maps [B, D, h, w]; for NEEDS "features".
        teacher_weight: of the teacher's classifier [C, D]; for NEEDS "features".
        noise: standard normal [B, C], drawn anew for every step; for NEEDS "noise".
        progress: share of the training that is done, in [0, 1].
    """

    logits: torch.Tensor
    labels: torch.Tensor
    teacher_logits: torch.Tensor | None = None
    exits: torch.Tensor | None = None
    features: torch.Tensor | None = None
    teacher_features: torch.Tensor | None = None
    teacher_weight: torch.Tensor | None = None
    noise: torch.Tensor | None = None
    progress: float = 0.0

    @property
    def teacher(self) -> torch.Tensor:
        """The teacher's logits, for methods that declare NEEDS_TEACHER."""
        assert self.teacher_logits is not None, "the engine runs the teacher for methods that declare NEEDS_TEACHER"
        return self.teacher_logits
