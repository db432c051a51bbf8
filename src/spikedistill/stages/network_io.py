"""A trained network in an artifact: how it is written, how it is read back."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_model, save_model
from torch import nn

from spikedistill.data.store import SampleStore
from spikedistill.errors import ConfigError
from spikedistill.models import Student, Teacher, build_student, build_teacher
from spikedistill.plan.stages import NetworkSpec, TeacherSpec, parse_spec
from spikedistill.store.artifacts import MANIFEST

WEIGHTS = "weights.safetensors"


def build_network(spec: NetworkSpec, data: SampleStore) -> Student | Teacher:
    """The network of a spec with fresh weights, for the classes and channels of `data`."""
    if isinstance(spec, TeacherSpec):
        return build_teacher(spec.arch, num_classes=data.num_classes, in_channels=data.channels, entry=spec.network)
    return build_student(
        spec.arch,
        num_classes=data.num_classes,
        in_channels=data.channels,
        time_steps=spec.time_steps,
        neuron=spec.neuron,
        backward=spec.backward,
        scale_grad_by_steps=spec.scale_grad_by_steps,
        entry=spec.network,
    )


def save_network(network: nn.Module, folder: Path) -> None:
    """Write the weights as safetensors; side branches serve training alone and are left out."""
    if isinstance(network, Student):
        network.exits = None
    save_model(network, str(folder / WEIGHTS))


def load_network(spec: NetworkSpec, data: SampleStore, folder: Path) -> Student | Teacher:
    """The trained network of an artifact, in evaluation mode and without gradients."""
    network = build_network(spec, data)
    load_model(network, str(folder / WEIGHTS))
    return network.requires_grad_(False).eval()


def read_model_spec(folder: Path) -> NetworkSpec:
    """The spec of a trained network, from the manifest in the folder of its artifact.

    Raises:
        ConfigError: if the artifact is no network, or one of another version.
    """
    spec = parse_spec(json.dumps(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["spec"]))
    if not isinstance(spec, NetworkSpec):
        raise ConfigError(f"{folder} holds no network, but the result of stage {spec.stage}")
    return spec
