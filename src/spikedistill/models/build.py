"""Builders of networks by name: `build_student` returns an SNN, `build_teacher` the ANN of the same definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from torch import nn

from spikedistill import components
from spikedistill.errors import ConfigError
from spikedistill.models.exits import Exits
from spikedistill.models.imported.inputs import Conversion, InputAdapter
from spikedistill.models.imported.zoo_network import ZooNetwork
from spikedistill.models.network import Activation, Network, init_fan_out
from spikedistill.models.settings import Backward, Pooling
from spikedistill.models.wrappers import Student, Teacher
from spikedistill.neurons.encoding import ENCODERS
from spikedistill.neurons.neuron import spiking_layers
from spikedistill.neurons.settings import Encoding, NeuronConfig


def build_student(  # noqa: PLR0913 - one for each key of a student
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    time_steps: int,
    neuron: NeuronConfig,
    backward: Backward = "bptt",
    scale_grad_by_steps: bool = True,
    entry: Mapping[str, Any] | None = None,
    encoding: Encoding = "direct",
    statistics: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Student:
    """Return a spiking network that maps images [B, C, H, W] or frames [T, B, C, H, W] to logits [T, B, num_classes].

    Args:
        name: name of the architecture.
        num_classes: number of classes.
        in_channels: C.
        time_steps: T.
        neuron: which neurons, and their parameters.
        backward: how gradients are computed, see `Student`.
        scale_grad_by_steps: see `Student`.
        entry: hyperparameters that replace those of the architecture's table.
        encoding: how images are presented to the first layer, see `neurons.encoding`.
        statistics: mean and standard deviation that images were normalised by, for an encoding other than "direct".

    Raises:
        ConfigError: if there is no architecture, or no neuron, of that name.
        ValueError: if a parameter of the neuron is unknown or out of range.
    """
    network = _build_spiking(name, num_classes, in_channels, time_steps, neuron, entry)
    student = Student(network, time_steps, backward=backward, scale_grad_by_steps=scale_grad_by_steps)
    if encoding != "direct":
        if statistics is None:
            raise ConfigError(f"student.encoding: {encoding} is for images; event frames have their own time: set it to direct")
        student.encoder = ENCODERS[encoding](time_steps, *statistics)
    return student


def add_exits(student: Student, name: str, *, num_classes: int, pooling: Pooling, entry: Mapping[str, Any] | None = None) -> None:
    """Add side branches for training to a student of architecture `name`, or of the hyperparameters `entry`; see `Exits`."""
    residual = bool((components.architecture(name).entry if entry is None else entry).get("residual_exits"))
    student.exits = Exits(student.network.widths, num_classes, pooling=pooling, residual=residual)


def build_teacher(
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    entry: Mapping[str, Any] | None = None,
    conversion: Conversion | None = None,
    groups: Sequence[int] = (),
) -> Teacher:
    """Return a ReLU network that maps images [B, C, H, W], or the mean of frames [T, B, C, H, W], to logits [B, num_classes].

    Convolutions are initialised from He's normal distribution over the fan-out, as in the teachers of SeAl-KD and TDD; a model of
    another library keeps its own initialisation.

    Args:
        name: name of the architecture.
        num_classes: number of outputs of the network; with `groups`, their sum.
        in_channels: channels that the network takes, after the conversion.
        entry: hyperparameters that replace those of the architecture's table.
        conversion: of the batch to what the network takes.
        groups: number of outputs that make each class, see `Teacher`.

    Raises:
        ConfigError: if there is no architecture of that name.
    """
    network = _build(name, num_classes, in_channels, nn.ReLU, entry)
    adapter = None if conversion is None or conversion.is_identity else InputAdapter(conversion)
    teacher = Teacher(network, adapter=adapter, groups=groups)
    if not isinstance(network, ZooNetwork):
        init_fan_out(teacher)
    return teacher


def _build_spiking(
    name: str, num_classes: int, in_channels: int, time_steps: int, neuron: NeuronConfig, entry: Mapping[str, Any] | None
) -> Network:
    """Build the network of a student, from a definition that serves both roles, or one that runs all steps at once."""
    family, chosen = _load(name, entry)
    make_layer = spiking_layers(neuron, time_steps)
    if not chosen.get("multi_step"):
        return family.build(chosen, num_classes=num_classes, in_channels=in_channels, activation=make_layer)
    from spikedistill.models.imported.multi_step import MultiStepNeuron, as_network  # imports SpikingJelly

    built = family.build_multi_step(
        chosen,
        num_classes=num_classes,
        in_channels=in_channels,
        time_steps=time_steps,
        neuron=lambda: MultiStepNeuron(make_layer()),
    )
    return as_network(built, time_steps)  # type: ignore[return-value]  # of the interface of `Network`


def _build(name: str, num_classes: int, in_channels: int, activation: Activation, entry: Mapping[str, Any] | None) -> Network:
    family, chosen = _load(name, entry)
    if chosen.get("multi_step"):
        raise ConfigError(f"{name!r} is an SNN that runs all time steps at once, for students; choose another teacher.arch")
    return family.build(chosen, num_classes=num_classes, in_channels=in_channels, activation=activation)


def _load(name: str, entry: Mapping[str, Any] | None) -> tuple[ModuleType, Mapping[str, Any]]:
    family, table_entry = components.load_architecture(name)
    return family, table_entry if entry is None else entry
