"""Twenty steps of training with every method on real digits, in float64: the losses that a refactoring must not change.

    python -m tests.golden_training        # adds what tests/golden/training.json does not have; nothing in it is replaced

Initial weights come from NumPy's counter-based generator, not from torch's, whose draws may differ between versions.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from sklearn.datasets import load_digits

from spikedistill import components
from spikedistill.contract.training import BACKWARDS, networks_of, spec_of
from spikedistill.stages.distill import Distillation
from spikedistill.train.engine import Batch
from spikedistill.train.optim import build_optimizer
from tests.reference_checkpoints import drawn

FILE = Path(__file__).parent / "golden" / "training.json"
STEPS, BATCH = 20, 16


def cases():
    """Every method at its defaults with every way to compute gradients that it works with."""
    for name in components.names("distill"):
        method = components.load("distill", name)
        for backward in BACKWARDS:
            if backward == "bptt" or "steps" not in method.needs(method.Params()):
                yield f"{name}-{backward}"


def losses(case: str) -> list[float]:
    """The loss of each step of a case."""
    name, _, backward = case.rpartition("-")
    spec = spec_of(name, {}, dataset="digits", backward=backward)
    student, teacher = networks_of(spec)
    drawn(student.double(), 1).train()
    if teacher is not None:
        drawn(teacher.double(), 2)
    objective, optimizer = Distillation(spec, teacher, student), build_optimizer(student, spec.train)
    digits = load_digits()
    images = torch.from_numpy(digits.images[:, None]) / 16
    labels = torch.from_numpy(digits.target)
    found = []
    for step in range(STEPS):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        batch = Batch(images[rows], labels[rows].long(), epoch=0, step=step, first=0, global_size=BATCH)
        optimizer.zero_grad()
        loss = torch.stack(list(objective(student(batch.inputs), batch).values())).sum()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def golden() -> dict[str, list[float]]:
    """The losses on record."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


def main() -> None:
    """Add the cases that are not on record."""
    known = golden()
    found = {case: losses(case) for case in cases() if case not in known}
    lines = [f"{json.dumps(case)}: {json.dumps(values)}" for case, values in sorted({**known, **found}.items())]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"added: {', '.join(found) or 'nothing'}")


if __name__ == "__main__":
    main()
