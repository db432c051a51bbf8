"""Networks: one file per architecture family, and builders by name. Torch is imported on first use."""

from typing import TYPE_CHECKING

from spikedistill.lazy import exports

if TYPE_CHECKING:
    from spikedistill.models.build import add_exits, build_student, build_teacher
    from spikedistill.models.wrappers import ModelOutput, Student, Teacher

__all__ = ["ModelOutput", "Student", "Teacher", "add_exits", "build_student", "build_teacher"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "ModelOutput": "wrappers",
        "Student": "wrappers",
        "Teacher": "wrappers",
        "add_exits": "build",
        "build_student": "build",
        "build_teacher": "build",
    },
)
