from __future__ import annotations

from types import SimpleNamespace

import pytest

from spikedistill.report.records import RunRecord


def student(method, seed, accuracy, *, experiment="digits", at_step=None, rate=0.125, rates=(0.25, 0.0625), metrics=()):
    evaluation = {
        "role": "student",
        "accuracy": accuracy,
        "accuracy_at_step": list(at_step or (accuracy - 0.25, accuracy)),
        "firing_rate": {
            "mean": rate,
            "layers": [{"name": f"stage{i}.lif", "rate": r, "rate_per_step": [r, r]} for i, r in enumerate(rates)],
        },
    }
    return RunRecord(
        experiment=experiment,
        dataset="digits",
        role="student",
        method=method,
        arch="resnet_small",
        time_steps=2,
        seed=seed,
        artifact=f"digits-resnet_small-{method}-seed{seed}-0123456789",
        evaluation=evaluation,
        metrics=list(metrics),
        manifest={"wall_s": 12.34},
    )


def missing_student(method, seed):
    known = student(method, seed, 0.5)
    return RunRecord(**(known.__dict__ | {"evaluation": None, "metrics": [], "manifest": {}}))


def teacher(accuracy, *, experiment="digits", metrics=()):
    return RunRecord(
        experiment=experiment,
        dataset="digits",
        role="teacher",
        method="teacher",
        arch="resnet18",
        time_steps=None,
        seed=0,
        artifact="digits-resnet18-seed0-9876543210",
        evaluation={"role": "teacher", "accuracy": accuracy},
        metrics=list(metrics),
        manifest={},
    )


@pytest.fixture
def make():
    """Makers of records with known numbers."""
    return SimpleNamespace(student=student, teacher=teacher, missing_student=missing_student)


@pytest.fixture
def records():
    curve = [
        {"epoch": e, "step": 10 * (e + 1), "train/loss": 2.0 / (e + 1), "train/accuracy(%)": 50.0 + 10 * e} for e in range(3)
    ]
    return [
        student("tet", 1, 0.94, metrics=curve),
        student("tet", 0, 0.90, metrics=curve),
        student("kd", 0, 0.96, rate=0.1, rates=(0.2, 0.05), metrics=curve),
        missing_student("kd", 1),
        teacher(0.98, metrics=curve),
        student("tet", 0, 0.88, experiment="digits-dvs", rate=0.3),
    ]
