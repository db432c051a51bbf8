"""Short training runs for the tests: a configuration as users write it, networks as the stages build them, samples of noise.

case = Case("kd", train={"precision": "bf16"})
run = build_run(case, folder, device)
train(run)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikedistill import components
from spikedistill.config.check import parse_config
from spikedistill.data.loading.loader import Batch, Loader
from spikedistill.data.loading.mixing import Mixing
from spikedistill.data.store import SampleStore
from spikedistill.models import Student, Teacher
from spikedistill.plan.build import build_plan
from spikedistill.plan.stages import DistillSpec, TeacherSpec
from spikedistill.stages.distill import Distillation, build_student_of
from spikedistill.stages.imports import DataFacts
from spikedistill.stages.method_parts import add_parts, example_input
from spikedistill.stages.network_io import build_network
from spikedistill.train import engine
from spikedistill.train.checkpoint import CheckpointFolder
from spikedistill.train.distributed import World
from spikedistill.train.engine import Run
from spikedistill.train.network.preparation import prepare_teacher
from spikedistill.train.settings import EngineConfig
from spikedistill.train.step import graph
from spikedistill.train.tracking import Tracker
from tests.gpu.fake.counts import Counted

WIDTH = 0.125
"""Of the networks: what is launched does not depend on it, and small ones are built and computed faster."""


@dataclass(frozen=True)
class Case:
    """One way to train a student.

    Attributes:
        method: name of the method.
        params: its parameters.
        arch: architecture of the student.
        teacher: architecture of the teacher, for methods that have one.
        backward: "bptt" or "rate".
        time_steps: T.
        kind: "images" [3, 32, 32] or "frames" [T, 2, 48, 48].
        encoding: of images.
        batch_size: global.
        steps: in an epoch.
        train: further keys of the recipe.
        engine: configuration of the engine.
    """

    method: str = "kd"
    params: Mapping[str, Any] = field(default_factory=dict)
    arch: str = "resnet18"
    teacher: str = "resnet18"
    backward: str = "bptt"
    time_steps: int = 4
    kind: str = "images"
    encoding: str = "direct"
    batch_size: int = 8
    steps: int = 4
    train: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)

    def specs(self) -> tuple[DistillSpec, TeacherSpec]:
        """Return the specs of the student and of its teacher, from a configuration."""
        dataset: dict[str, Any] = {"name": "cifar10"}
        if self.kind == "frames":
            dataset = {"name": "cifar10-dvs", "params": {"num_frames": self.time_steps}}
        train = {"epochs": 1, "batch_size": self.batch_size, "lr": 0.01}
        neuron = {"decay": 0.2, "reset": "soft", "detach_reset": True} if self.backward == "rate" else {}
        experiment = {
            "dataset": {"root": "."} | dataset,
            "teacher": {"arch": self.teacher, "width": WIDTH, "train": train},
            "student": {
                "arch": self.arch,
                "width": WIDTH,
                "time_steps": self.time_steps,
                "backward": self.backward,
                "encoding": self.encoding,
                "neuron": {"threshold": 0.5} | neuron,
                "train": train | dict(self.train),
            },
            "methods": {self.method: {"params": dict(self.params)}},
        }
        stages = build_plan(parse_config({"experiments": {"one": experiment}})).stages.values()
        student = next(spec for spec in stages if isinstance(spec, DistillSpec))
        return student, next(spec for spec in stages if isinstance(spec, TeacherSpec))


def methods(backward: str) -> list[str]:
    """Return the names of the methods that can train with a backward mode, with their default parameters."""
    loaded = {name: components.load("distill", name) for name in components.names("distill")}
    return [name for name, method in loaded.items() if backward == "bptt" or "steps" not in method.needs(method.Params())]


def noise(case: Case) -> SampleStore:
    """Return a dataset of noise that gets brighter from class to class, of as many samples as an epoch takes."""
    num = case.batch_size * case.steps
    shape = (num, case.time_steps, 2, 48, 48) if case.kind == "frames" else (num, 3, 32, 32)
    labels = np.arange(num) % 10
    levels = np.random.default_rng(0).integers(0, 100, shape) + 15 * labels.reshape(-1, *[1] * (len(shape) - 1))
    samples = (levels if case.kind == "images" else levels // 60).astype(np.uint8)
    rows = np.arange(num)
    statistics = ((0.5,) * 3, (0.25,) * 3) if case.kind == "images" else (None, None)
    return SampleStore(case.kind, samples, labels, {"train": rows, "test": rows}, tuple("0123456789"), *statistics)


def build_networks(
    spec: DistillSpec, teacher_spec: TeacherSpec, data: SampleStore, device: torch.device
) -> tuple[Student, Teacher | None]:
    """Return the student with the parts of its method, and the teacher, None for a method without, as stage `distill` does."""
    torch.manual_seed(0)
    student = build_student_of(spec, DataFacts.of(data, spec.inputs))
    method, teacher = components.load("distill", spec.method), None
    if "teacher" in method.needs(method.Params(**spec.params)):
        built = build_network(teacher_spec, data)
        assert isinstance(built, Teacher)
        teacher = prepare_teacher(built, device)
    add_parts(student, teacher, spec, example_input(data, spec))
    return student.to(device), teacher


def build_run(case: Case, folder: Path, world: World, *, data: SampleStore | None = None) -> Run:
    """Return a run of one epoch, ready for `train`."""
    spec, teacher_spec = case.specs()
    assert spec.train is not None
    data = noise(case) if data is None else data
    student, teacher = build_networks(spec, teacher_spec, data, world.device)
    mixing = Mixing(spec.train.mixup, spec.train.cutmix, spec.train.mix_probability) if spec.train.mixes else None
    ranks = {"rank": world.rank, "world_size": world.world_size, "device": world.device}
    options = {"batch_size": case.batch_size, "inputs": spec.inputs, "augment": spec.train.augment, "mixing": mixing}
    loader = Loader(data, "train", seed=spec.seed, shuffle=True, **options, **ranks)
    return Run(
        model=student,
        objective=Distillation(spec, teacher, student),
        loader=loader,
        config=spec.train,
        seed=spec.seed,
        world=world,
        checkpoints=CheckpointFolder(folder / "checkpoints", "run"),
        tracker=Tracker(
            folder / "metrics.jsonl",
            folder / "tensorboard",
            num_epochs=spec.train.epochs,
            steps_per_epoch=loader.steps_per_epoch,
            active=world.is_main_process,
        ),
        engine=EngineConfig(**dict(case.engine)),
    )


class MeasuredLoader:
    """A loader whose batches are made before the epoch, so that what is counted between two of them is a training step.

    Waiting for the GPU within a step is an error, raised where it happens.

    Attributes:
        steps: what steps have launched and copied: not the first ones, which warm up, and not the last, which ends the epoch.
    """

    def __init__(self, loader: Loader, warm_up: int) -> None:
        self._loader = loader
        self._warm_up = warm_up
        self.steps: list[Counted] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        *batches, last = list(self._loader.epoch(epoch, start_step))
        torch.cuda.synchronize()
        yield from batches[: self._warm_up]
        for batch in batches[self._warm_up :]:
            torch.cuda.set_sync_debug_mode("error")
            try:
                with Counted() as counted:
                    yield batch
            finally:
                torch.cuda.set_sync_debug_mode("default")
            self.steps.append(counted)
        yield last


def measured(run: Run, *, warm_up: int = 1) -> tuple[Run, MeasuredLoader]:
    """Return the run with its loader replaced by one that measures."""
    loader = MeasuredLoader(run.loader, warm_up)
    return dataclasses.replace(run, loader=loader), loader


def graphed_steps(monkeypatch: pytest.MonkeyPatch) -> list[Counted]:
    """Count what each step launches; the list grows with them. All values are noise, so graphs are not compared with anything."""
    counted: list[Counted] = []
    step = engine._Training._step

    def counting(*arguments: Any) -> Any:
        with Counted() as during:
            metrics = step(*arguments)
        counted.append(during)
        return metrics

    monkeypatch.setattr(engine._Training, "_step", counting)
    for name in ("_metric_difference", "_state_difference"):
        monkeypatch.setattr(graph, name, lambda *_: None)
    return counted
