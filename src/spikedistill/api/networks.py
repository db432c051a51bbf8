"""Untrained networks by the name of their architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spikedistill.errors import ConfigError
from spikedistill.models import Student, Teacher, build_student, build_teacher
from spikedistill.neurons.settings import NeuronConfig


def create_student(
    arch: str, *, num_classes: int, in_channels: int, time_steps: int, neuron: NeuronConfig | Mapping[str, Any] | None = None
) -> Student:
    """Return a spiking network with fresh weights.

    Args:
        arch: name of the architecture, see `list_architectures`.
        num_classes: K.
        in_channels: C; 2 for event frames.
        time_steps: T.
        neuron: which neurons, and their parameters, as in the configuration: `{"name": "plif", "decay": 0.5}`; LIF by default.

    Returns:
        A module that maps images [B, C, H, W], or frames [T, B, C, H, W], to a `ModelOutput` with logits [T, B, K].

    Raises:
        ConfigError: if there is no architecture, or no neuron, of that name, or a number is below 1.
        ValueError: if a parameter of the neuron is unknown or out of range.
    """
    _check_counts(num_classes=num_classes, in_channels=in_channels, time_steps=time_steps)
    config = neuron if isinstance(neuron, NeuronConfig) else NeuronConfig.model_validate(neuron or {})
    return build_student(arch, num_classes=num_classes, in_channels=in_channels, time_steps=time_steps, neuron=config)


def create_teacher(arch: str, *, num_classes: int, in_channels: int) -> Teacher:
    """Return the ANN of the same definition with fresh weights.

    Args:
        arch: name of the architecture, see `list_architectures`.
        num_classes: K.
        in_channels: C; 2 for event frames.

    Returns:
        A module that maps images [B, C, H, W], or the mean over time of frames [T, B, C, H, W], to a `ModelOutput` with logits
        [B, K].

    Raises:
        ConfigError: if there is no architecture of that name, or a number is below 1.
    """
    _check_counts(num_classes=num_classes, in_channels=in_channels)
    return build_teacher(arch, num_classes=num_classes, in_channels=in_channels)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} must be 1 or more; found {count}")
