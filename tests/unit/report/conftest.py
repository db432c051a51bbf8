from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from spikedistill.report.findings import Findings
from spikedistill.report.published import PublishedResult
from spikedistill.report.records import Comparison, RunRecord, StageCost
from spikedistill.report.writer import write_report


def student(
    method, seed, accuracy, *, experiment="digits", at_step=None, rate=0.125, rates=(0.25, 0.0625), energy_uj=1.5, metrics=()
):
    evaluation = {
        "role": "student",
        "accuracy": accuracy,
        "class_names": ["zero", "one"],
        "confusion": [[3, 1], [0, 4]],
        "operations": {"macs": 2e6, "synops": 3e6, "energy_pj": 1e6 * energy_uj},
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
        manifest={
            "spikedistill": {"version": "0.1.0", "commit": "abc1234", "dirty": True},
            "packages": {"torch": "2.15.0"},
            "device": "cpu",
        },
        examples=examples(frames=experiment.endswith("dvs")),
        is_baseline=method == "tet",
    )


def examples(*, frames):
    shape = (2, 3, 2, 6, 6) if frames else (2, 1, 6, 6)
    samples = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    return {"samples": samples, "labels": np.array([0, 1]), "predictions": np.array([0, 0]), "maps": np.ones((2, 2, 2))}


def missing_student(method, seed):
    known = student(method, seed, 0.5)
    missing = {"evaluation": None, "metrics": [], "manifest": {}, "examples": None, "problem": "distill x failed: no memory"}
    return RunRecord(**(known.__dict__ | missing))


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
        evaluation={
            "role": "teacher",
            "accuracy": accuracy,
            "class_names": ["zero", "one"],
            "confusion": [[4, 0], [0, 4]],
            "operations": {"macs": 5e6, "synops": 0, "energy_pj": 23e6},
        },
        metrics=list(metrics),
        manifest={},
        examples=examples(frames=False),
    )


@pytest.fixture
def make():
    """Functions that make records with known numbers."""
    return SimpleNamespace(student=student, teacher=teacher, missing_student=missing_student, comparison=comparison)


def comparison(records, **more):
    return Comparison(records=records, **more)


@pytest.fixture
def records():
    return all_records()


def all_records():
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


@pytest.fixture
def compared(records):
    """A comparison with everything that a report can show."""
    return compared_of(records)


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The folder of a report on `compared`, to look at."""
    out = tmp_path_factory.mktemp("written")
    write_report(Findings.of(compared_of(all_records())), out)
    return out


def compared_of(records):
    return Comparison(
        records=records,
        costs=[
            StageCost("teacher", "digits-resnet18-seed0-9876543210", "done", 61.5, 0.0171, 512.0, 900.5, 2, "a GPU"),
            StageCost("distill", "digits-resnet_small-kd-seed1-0123456789", "interrupted", starts=1),
        ],
        published={"digits": [PublishedResult("kd", "digits", "ResNet-19", 4, 97.5, "unconfirmed: notes")]},
        config={"seeds": [0, 1], "store": "store"},
    )
