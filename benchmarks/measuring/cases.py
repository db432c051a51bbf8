"""What the benchmark of training steps trains: networks, generated samples, settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from spikedistill.data.store import SampleStore
from spikedistill.models import Teacher, build_student, build_teacher
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.settings import EngineConfig

SEED = 0
STORE_BYTES = 1 << 28  # of generated samples for a GPU; they are used again


@dataclass(frozen=True)
class Config:
    """What is trained."""

    arch: str
    teacher: str
    steps: int
    sample: tuple[int, ...]
    kind: str
    classes: int
    method: str


CONFIGS = {
    "digits-resnet8": Config("resnet8", "resnet8", 2, (1, 8, 8), "images", 10, "sealkd"),
    "cifar-resnet18": Config("resnet18", "resnet34", 4, (3, 32, 32), "images", 10, "sealkd"),
    "cifar-resnet19": Config("resnet19", "resnet19", 6, (3, 32, 32), "images", 100, "tdd"),
    "dvs-resnet18": Config("resnet18", "resnet19", 10, (2, 48, 48), "frames", 10, "sealkd"),
    "imagenet-preact34": Config("preact_resnet34_imagenet", "resnet34_imagenet", 4, (3, 224, 224), "images", 1000, "sealkd"),
}
BATCH = {
    "cpu": {"digits-resnet8": 32, "cifar-resnet18": 32, "cifar-resnet19": 16, "dvs-resnet18": 4, "imagenet-preact34": 4},
    "cuda": {},
}


@dataclass(frozen=True)
class Case:
    """One comparison."""

    name: str
    backward: str
    batch: int
    device: str
    precision: str
    engine: EngineConfig
    repeats: int
    warmup: int
    threads: int
    block: int = 1

    @property
    def config(self) -> Config:
        """What is trained."""
        return CONFIGS[self.name]

    @property
    def steps(self) -> int:
        """Steps of the whole run, warm-up included; on a GPU, of its blocks, and one more step in parts."""
        blocks = self.repeats + self.warmup
        return blocks if self.device == "cpu" else blocks * self.block + 1

    @property
    def method(self) -> tuple[str, dict[str, Any]]:
        """A method that the backward pass allows, with its parameters."""
        return (self.config.method, {}) if self.backward == "bptt" else ("kd", {"logits": "mean"})


def make_store(case: Case) -> SampleStore:
    """Samples for every step; on a GPU, for as many steps as fit."""
    config, generator = case.config, np.random.default_rng(SEED)
    shape = config.sample if config.kind == "images" else (config.steps, *config.sample)
    fitting = STORE_BYTES // (case.batch * int(np.prod(shape)))
    size = case.batch * (case.steps if case.device == "cpu" else max(2, min(case.steps, fitting)))
    samples = generator.integers(0, 256 if config.kind == "images" else 4, (size, *shape), dtype=np.uint8)
    channels = config.sample[0]
    mean, std = ((0.5,) * channels, (0.25,) * channels) if config.kind == "images" else (None, None)
    names = tuple(str(k) for k in range(config.classes))
    rows = np.arange(size)
    return SampleStore(config.kind, samples, rows % config.classes, {"train": rows}, names, mean, std)  # type: ignore[arg-type]


def make_teacher(case: Case) -> Teacher:
    """An ANN of random weights that does not train."""
    torch.manual_seed(SEED + 1)
    config = case.config
    teacher = build_teacher(config.teacher, num_classes=config.classes, in_channels=config.sample[0])
    return teacher.requires_grad_(False).eval().to(case.device)


def make_student(case: Case, backward: str) -> nn.Module:
    """The student, with the same weights whatever it runs on."""
    torch.manual_seed(SEED)
    config = case.config
    neuron = NeuronConfig(decay=0.2, reset="soft", detach_reset=True) if case.backward == "rate" else NeuronConfig()
    return build_student(
        config.arch,
        num_classes=config.classes,
        in_channels=config.sample[0],
        time_steps=config.steps,
        neuron=neuron,
        backward=backward,  # type: ignore[arg-type]
    ).to(case.device)
