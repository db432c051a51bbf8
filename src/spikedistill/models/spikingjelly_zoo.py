"""Students from SpikingJelly: `spikingjelly/sew_resnet50`, `spikingjelly/spikformer_cifar10`. Imports torch when one is built."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spikedistill.errors import ConfigError
from spikedistill.models.imported import spikingjelly_names

if TYPE_CHECKING:
    from spikedistill.models.imported.multi_step import MultiStepNetwork, SpikingLayer

ZOO = "spikingjelly"


def names() -> tuple[str, ...]:
    """Return the names of SpikingJelly's models that can be students, of the installed version."""
    return tuple(spikingjelly_names.models())


def entry(name: str) -> dict[str, Any]:
    """Return the entry of a model: its name, its own arguments, and what it needs.

    Raises:
        KeyError: if SpikingJelly has no model of that name.
        ConfigError: if it has one that cannot be a student.
    """
    if name.startswith("ottt_"):
        raise ConfigError(f"{name!r} learns online, one time step at a time, and methods need the logits of all: choose another")
    family = spikingjelly_names.models()[name]
    needs = spikingjelly_names.NEEDS.get(name, spikingjelly_names.NEEDS.get(family, {}))
    return {"model": name, "multi_step": True, "features": True, **spikingjelly_names.ARGUMENTS.get(family, {}), **needs}


def build_multi_step(
    entry: Mapping[str, Any], *, num_classes: int, in_channels: int, time_steps: int, neuron: SpikingLayer
) -> MultiStepNetwork:
    """Build a model with SpikingJelly's initial weights and the configured neurons in all places.

    A model for images of 3 channels gets a first convolution for `in_channels`.

    Raises:
        ConfigError: if the model is for another number of classes.
    """
    from spikedistill.models.imported.multi_step import MultiStepNetwork
    from spikedistill.models.imported.spikingjelly_parts import FAMILIES, with_channels

    if num_classes != (fixed := entry.get("classes", num_classes)):
        raise ConfigError(f"spikingjelly/{entry['model']} is for {fixed} classes; found {num_classes}")
    name = entry["model"]
    family = FAMILIES[spikingjelly_names.models()[name]]
    builder = _builder(name)
    offered = {"T": time_steps, "num_classes": num_classes, "in_channels": in_channels, "cnf": entry.get("cnf")}
    taken = inspect.signature(builder).parameters
    # num_classes reaches the ResNets and VGGs through **kwargs, which the networks of fixed classes pass to their neurons
    given = {key: value for key, value in offered.items() if key in taken or (key == "num_classes" and "classes" not in entry)}
    model = builder(spiking_neuron=lambda **layer: neuron(), **given)
    return MultiStepNetwork(
        with_channels(model, in_channels, family.init),
        time_steps,
        features=family.features,
        head=family.head,
    )


def _builder(name: str) -> Any:
    family = spikingjelly_names.models()[name]
    file = "masnn" if family == "att_ms_resnet" else family
    return getattr(importlib.import_module(f"spikingjelly.activation_based.model.{file}"), name)
