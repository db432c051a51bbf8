"""Networks by name: `build_student` makes an SNN, `build_teacher` the ANN of the same definition."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

from spikedistill import components
from spikedistill.errors import ConfigError
from spikedistill.models.wrappers import Student, Teacher
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig


def build_student(name: str, *, num_classes: int, in_channels: int, time_steps: int, neuron: NeuronConfig) -> Student:
    """A spiking network that maps images [B, C, H, W] or frames [T, B, C, H, W] to logits [T, B, num_classes].

    Raises:
        ConfigError: if there is no architecture of that name.
    """
    network = _build(name, num_classes, in_channels, lambda: LIF(neuron, time_steps))
    return Student(network, time_steps)


def build_teacher(name: str, *, num_classes: int, in_channels: int) -> Teacher:
    """A ReLU network that maps images [B, C, H, W], or the mean of frames [T, B, C, H, W], to logits [B, num_classes].

    Convolutions start from He's normal distribution over the fan-out, as in the teachers of SeAl-KD and TDD.

    Raises:
        ConfigError: if there is no architecture of that name.
    """
    teacher = Teacher(_build(name, num_classes, in_channels, lambda: nn.ReLU(inplace=True)))
    for module in teacher.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return teacher


def _build(name: str, num_classes: int, in_channels: int, activation: Callable[[], nn.Module]) -> Any:
    try:
        module, entry = components.architectures()[name]
    except KeyError:
        raise ConfigError(components.unknown("architecture", name, components.architectures())) from None
    family = importlib.import_module(f"spikedistill.models.{module}")
    return family.build(entry, num_classes=num_classes, in_channels=in_channels, activation=activation)
