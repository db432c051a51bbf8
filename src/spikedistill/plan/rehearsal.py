"""Shrink a configuration for `rehearse: true`: the same stages, small enough to try before the real run. Imports no torch."""

from __future__ import annotations

from typing import TypeVar

from spikedistill.config.models import Config, ExperimentConfig, StudentConfig, TeacherConfig

WIDTH = 1 / 8
ONE_EPOCH = {"epochs": 1, "warmup_epochs": 0}
Section = TypeVar("Section", TeacherConfig, StudentConfig)


def rehearsal(config: Config) -> Config:
    """Return the configuration of the rehearsal: networks an eighth as wide, one epoch each, and a report of its own."""
    experiments = {label: _rehearsed(experiment) for label, experiment in config.experiments.items()}
    results = f"{config.results.rstrip('/')}-rehearsal"
    return config.model_copy(update={"rehearse": False, "experiments": experiments, "results": results})


def _rehearsed(experiment: ExperimentConfig) -> ExperimentConfig:
    imported = any(method.weights for method in experiment.methods.values())  # weights fit one width only
    teacher = experiment.teacher and _small(experiment.teacher, fixed_width=_is_fixed(experiment.teacher))
    methods = {
        label: method.model_copy(update={"train": {key: value for key, value in method.train.items() if key not in ONE_EPOCH}})
        for label, method in experiment.methods.items()
    }
    student = _small(experiment.student, fixed_width=imported)
    return experiment.model_copy(update={"teacher": teacher, "student": student, "methods": methods})


def _is_fixed(teacher: TeacherConfig) -> bool:
    """Return True for a teacher of one width: one that is imported, or a model of another library."""
    return teacher.weights is not None or "/" in teacher.arch


def _small(section: Section, *, fixed_width: bool) -> Section:
    train = section.train and section.train.model_copy(update=ONE_EPOCH)
    return section.model_copy(update={"width": section.width * (1 if fixed_width else WIDTH), "train": train})
