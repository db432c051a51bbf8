"""Build the plan of a configuration: its stages, each with a content id, and the rows of its report.

Imports no torch. Of files it reads the checkpoints to import, for their checksums.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from spikedistill import components
from spikedistill.config.models import Config, DatasetConfig, ExperimentConfig, TeacherConfig
from spikedistill.config.networks.imported import class_indices
from spikedistill.data.meta import DatasetMeta
from spikedistill.data.scan import filled_params
from spikedistill.errors import ConfigError
from spikedistill.models.imported.settings import NetworkInputs
from spikedistill.plan.code import code_of
from spikedistill.plan.rehearsal import rehearsal
from spikedistill.plan.stages import DistillSpec, EvaluateSpec, NetworkSpec, PreprocessSpec, Spec, TeacherSpec
from spikedistill.plan.weights import weights_digest

# On CPUs the gradient of a strided 1x1 convolution of fewer channels corrupts memory: oneDNN issue 6035.
LEAST_CHANNELS = 16
CHANNEL_KEYS = ("widths", "stages", "hidden")  # what `width` scales in the table of an architecture


AnySpec = TypeVar("AnySpec", PreprocessSpec, TeacherSpec, DistillSpec, EvaluateSpec)


@dataclass(frozen=True)
class Row:
    """One line of the comparison: a teacher or a student, and the artifact with its evaluation."""

    experiment: str
    method: str
    seed: int
    model: str
    evaluation: str


@dataclass(frozen=True)
class Plan:
    """Every stage that a configuration asks for, upstream first, and the rows of its report."""

    config: Config
    stages: dict[str, Spec]
    rows: tuple[Row, ...]
    raw: dict[str, str]
    weights: dict[str, str]
    """Checkpoints to import: reference -> file."""

    def find(self, name: str) -> Spec:
        """Return the stage that makes the artifact called `name`, with or without its folder; an unambiguous beginning will do.

        Raises:
            ConfigError: if there is none, or more than one.
        """
        found = components.matching(name, self.stages)
        if len(found) == 1:
            return self.stages[found[0]]
        if not found:
            raise ConfigError(components.unknown("stage", name, (ref.partition("/")[2] for ref in self.stages)))
        raise ConfigError(f"{name!r} fits {len(found)} stages: " + ", ".join(found))

    def select(self, names: Iterable[str]) -> list[Spec]:
        """Return the stages that some names mean, each once: as in `find`, or all that fit a pattern with *, ? or [.

        Raises:
            ConfigError: if a name means none or, without being a pattern, more than one.
        """
        chosen: dict[str, Spec] = {}
        for name in names:
            fitting = components.fitting(name, self.stages)
            if fitting is None:
                fitting = [self.find(name).ref]
            elif not fitting:
                raise ConfigError(f"no stage fits the pattern {name!r}; `spikedistill plan` lists them")
            chosen |= {ref: self.stages[ref] for ref in fitting}
        return list(chosen.values())

    def with_upstream(self, spec: Spec) -> list[Spec]:
        """Return a stage and everything that it needs, upstream first."""
        needed: dict[str, Spec] = {}
        for ref in spec.upstream.values():
            needed |= {s.ref: s for s in self.with_upstream(self.stages[ref])}
        return [*needed.values(), spec]


def build_plan(config: Config) -> Plan:
    """Expand a checked configuration into its stages."""
    config = rehearsal(config) if config.rehearse else config
    stages: dict[str, Spec] = {}
    rows: list[Row] = []
    raw: dict[str, str] = {}
    weights: dict[str, str] = {}
    for label, experiment in config.experiments.items():
        data = _with_code(_preprocess(experiment))
        if experiment.dataset.root is not None:
            raw[data.ref] = str(Path(experiment.dataset.root).expanduser())
        stages[data.ref] = data
        settings = config.evaluate.fitting(_meta(data).kind)
        for method, model, teacher in _models(experiment, data, config.seeds):
            if file := weights_file(experiment, method):
                weights[model.ref] = file
            evaluation = _with_code(EvaluateSpec(data=data.ref, model=model.ref, teacher=teacher, settings=settings))
            stages |= {model.ref: model, evaluation.ref: evaluation}
            rows.append(Row(label, method, model.seed, model.ref, evaluation.ref))
    return Plan(config, stages, tuple(rows), raw, weights)


def _with_code(spec: AnySpec) -> AnySpec:
    """Return a spec with the code that makes its artifact; without a copy in the usual case, where nothing was edited."""
    code = code_of(spec.modules)
    return spec.model_copy(update={"code": code}) if code else spec


def _preprocess(experiment: ExperimentConfig) -> PreprocessSpec:
    name = components.canonical(experiment.dataset.name)
    params = filled_params(components.load("data.datasets", name), experiment.dataset.params, experiment.dataset.root)
    return PreprocessSpec(dataset=name, params=params.model_dump(mode="json"))


def weights_file(experiment: ExperimentConfig, method: str) -> str | None:
    """Return the checkpoint that the network of a row is imported from, None if it is not; `method` is the label of the row."""
    section = experiment.teacher if method == "teacher" else experiment.methods[method]
    return None if section is None else section.weights


def _meta(data: PreprocessSpec) -> DatasetMeta:
    component = components.load("data.datasets", data.dataset)
    return component.describe(component.Params.model_validate(data.params))


def _teacher(teacher: TeacherConfig, data: PreprocessSpec, dataset: DatasetConfig, seed: int) -> TeacherSpec:
    return TeacherSpec(
        data=data.ref,
        dataset=data.dataset,
        validation=dataset.validation,
        train_samples=dataset.train_samples,
        inputs=dataset.inputs,
        arch=teacher.arch,
        network=network_of(teacher.arch, teacher.width, teacher.train.drop_path if teacher.train else 0.0),
        weights=weights_digest(teacher.weights) if teacher.weights else None,
        own_inputs=teacher.inputs if teacher.inputs != NetworkInputs() else None,
        classes=class_indices(teacher.classes, _meta(data).class_names) if teacher.classes else None,
        train=teacher.train,
        seed=seed if teacher.train else 0,  # nothing is drawn
    )


def _teachers(experiment: ExperimentConfig, data: PreprocessSpec, seeds: list[int]) -> dict[int, TeacherSpec]:
    """Return the teacher of the students of each seed; none if the experiment has no teacher."""
    teacher = experiment.teacher
    if teacher is None:
        return {}
    own = {seed: seed if teacher.seed == "student" else teacher.seed for seed in seeds}
    specs = {seed: _with_code(_teacher(teacher, data, experiment.dataset, seed)) for seed in set(own.values())}
    return {student: specs[seed] for student, seed in own.items()}


@functools.cache
def network_of(arch: str, width: float, drop_path: float = 0.0) -> dict[str, Any]:
    """Return the hyperparameters of an architecture at a width: they change the result, so they are part of the spec.

    Args:
        arch: name of the architecture.
        width: factor of its channels.
        drop_path: rate of stochastic depth; above 0 only for an architecture whose entry has `drop_path`.
    """
    entry = json.loads(json.dumps(components.architecture(arch).entry))
    scaled = {key: _scaled(value, width) if key in CHANNEL_KEYS else value for key, value in entry.items()}
    return {**scaled, "drop_path": drop_path} if drop_path else scaled


def _scaled(channels: Any, width: float) -> Any:
    return (
        [_scaled(each, width) for each in channels]
        if isinstance(channels, list)
        else max(min(channels, LEAST_CHANNELS), round(channels * width))
    )


def _models(
    experiment: ExperimentConfig, data: PreprocessSpec, seeds: list[int]
) -> Iterator[tuple[str, NetworkSpec, str | None]]:
    """Yield the label and network of every row, and the teacher that a student's predictions are compared with."""
    dataset = experiment.dataset
    teachers = _teachers(experiment, data, seeds)
    for each in {teacher.ref: teacher for teacher in teachers.values()}.values():
        yield "teacher", each, None
    student = experiment.student
    for label, method in experiment.methods.items():
        name = components.canonical(method.method or label)
        component = components.load("distill", name)
        checked = component.Params.model_validate(method.params)
        params, imported = checked.model_dump(mode="json"), method.weights is not None
        needs_teacher = "teacher" in component.needs(checked) and not imported
        train = None if imported else experiment.recipe_of(label)
        for seed in [0] if imported else seeds:
            teacher = teachers.get(seed) or next(iter(teachers.values()), None)
            yield (
                label,
                _with_code(
                    DistillSpec(
                        data=data.ref,
                        teacher=teacher.ref if teacher and needs_teacher else None,
                        dataset=data.dataset,
                        validation=dataset.validation,
                        train_samples=dataset.train_samples,
                        inputs=dataset.inputs,
                        arch=student.arch,
                        network=network_of(student.arch, student.width, train.drop_path if train else 0.0),
                        time_steps=student.time_steps,
                        neuron=student.neuron,
                        encoding=student.encoding,
                        backward=student.backward,
                        scale_grad_by_steps=student.scale_grad_by_steps or student.backward != "rate",
                        method=name,
                        params=params,
                        weights=weights_digest(method.weights) if method.weights else None,
                        train=train,
                        seed=seed,
                    )
                ),
                teacher.ref if teacher else None,
            )
