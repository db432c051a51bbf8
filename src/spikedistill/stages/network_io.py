"""Builds the network of a spec; writes and reads the files of a trained network in an artifact."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_model, save_model
from torch import nn

from spikedistill.data.store import SampleStore
from spikedistill.errors import ConfigError
from spikedistill.models import Student, Teacher, build_student, build_teacher
from spikedistill.plan.stages import NetworkSpec, TeacherSpec, parse_spec
from spikedistill.stages.imports import DataFacts, flat_classes, teacher_inputs
from spikedistill.store.artifacts import MANIFEST

WEIGHTS = "weights.safetensors"


def build_network(spec: NetworkSpec, data: SampleStore | DataFacts) -> Student | Teacher:
    """Build the network of a spec with fresh weights, for the classes and channels of `data`."""
    if isinstance(data, SampleStore):
        data = DataFacts.of(data, spec.inputs)
    if isinstance(spec, TeacherSpec):
        rows, groups = flat_classes(spec)
        channels, conversion = teacher_inputs(spec, data)
        return build_teacher(
            spec.arch,
            num_classes=data.num_classes if rows is None else len(rows),
            in_channels=channels,
            entry=spec.network,
            conversion=conversion,
            groups=groups,
        )
    return build_student(
        spec.arch,
        num_classes=data.num_classes,
        in_channels=data.channels,
        time_steps=spec.time_steps,
        neuron=spec.neuron,
        backward=spec.backward,
        scale_grad_by_steps=spec.scale_grad_by_steps,
        entry=spec.network,
        encoding=spec.encoding,
        statistics=None if spec.encoding == "direct" else data.statistics,
    )


def save_network(network: nn.Module, folder: Path) -> None:
    """Write the weights as safetensors, without side branches and parts of the method, which are for training only."""
    if isinstance(network, Student):
        network.exits = network.parts = None
    save_model(network, str(folder / WEIGHTS))


def load_network(spec: NetworkSpec, data: SampleStore, folder: Path) -> Student | Teacher:
    """Load the trained network of an artifact, in evaluation mode and without gradients."""
    network = build_network(spec, data)
    load_model(network, str(folder / WEIGHTS))
    return network.requires_grad_(False).eval()


def read_model_spec(folder: Path) -> NetworkSpec:
    """Read the spec of a trained network from the manifest in the folder of its artifact.

    Raises:
        ConfigError: if the artifact is not a network, or its spec is of another version of spikedistill.
    """
    spec = parse_spec(json.dumps(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["spec"]))
    if not isinstance(spec, NetworkSpec):
        raise ConfigError(f"{folder} is not a network, but the result of stage {spec.stage}")
    return spec
