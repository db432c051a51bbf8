"""What every architecture promises, as a student and as a teacher."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spikedistill import components
from spikedistill.contract.findings import require, require_single_use
from spikedistill.errors import ConfigError
from spikedistill.models import Student, add_exits, build_student, build_teacher
from spikedistill.neurons.rate import spike_pass
from spikedistill.neurons.settings import NeuronConfig

TIME_STEPS, CLASSES, CHANNELS = 2, 3, 2


def least_side(arch: str) -> int:
    """Return the side of the smallest input that an architecture is tried on: 32, or more where it says so."""
    return max(32, components.architecture(arch).entry.get("min_side", 1))


def learns_in_both_roles(arch: str) -> None:
    """Logits and features have their shapes, and every parameter gets a finite gradient."""
    x, labels = torch.rand(3, CHANNELS, least_side(arch), least_side(arch)), torch.tensor([0, 1, 2])
    teacher = build_teacher(arch, num_classes=CLASSES, in_channels=CHANNELS)
    for network, shape in ((_student(arch), (TIME_STEPS, 3, CLASSES)), (teacher, (3, CLASSES))):
        role = type(network).__name__.lower()
        outputs = network(x)
        require(outputs.logits.shape == shape, f"{role}: logits of shape {shape}; found {tuple(outputs.logits.shape)}")
        found = tuple(outputs.features.shape)
        expected = (*shape[:-1], network.network.widths[-1])
        require(found[:-2] == expected, f"{role}: features of shape {expected} and two sides; found {found}")
        functional.cross_entropy(outputs.prediction, labels).backward()
        for name, parameter in network.named_parameters():
            require(parameter.grad is not None and parameter.grad.isfinite().all(), f"{role}: {name} gets a finite gradient")
        first = next(network.parameters()).grad
        require(isinstance(first, Tensor) and first.abs().sum() > 0, f"{role}: a gradient reaches the first convolution")


def teacher_and_student_share_parameters(arch: str) -> None:
    """The ANN and the SNN of a definition have the same parameters by name and shape, up to those of the neurons."""
    student, teacher = _student(arch), build_teacher(arch, num_classes=CLASSES, in_channels=CHANNELS)
    shapes = [{key: tuple(value.shape) for key, value in each.named_parameters()} for each in (student, teacher)]
    differing = sorted(set(shapes[0].items()) ^ set(shapes[1].items()))
    require(not differing, f"the activation is passed in and nothing else differs; found {differing[:4]}")


def samples_and_time_do_not_mix(arch: str) -> None:
    """In evaluation, a sample changes its own logits alone, and a frame none of the time steps before it."""
    torch.manual_seed(0)
    student, side = _student(arch).eval(), least_side(arch)
    frames = torch.rand(TIME_STEPS, 2, CHANNELS, side, side)
    other, later = frames.clone(), frames.clone()
    other[:, 0] += 1.0
    later[-1] += 1.0
    with torch.no_grad():
        logits, of_other, of_later = (student(each).logits for each in (frames, other, later))
    require(torch.allclose(logits[:, 1], of_other[:, 1]), "a sample changes the logits of another one")
    require(torch.allclose(logits[:-1], of_later[:-1]), "a later frame changes earlier logits")


def uses_each_layer_once(arch: str) -> None:
    """Every neuron runs once in a pass, as its figures and rate-based backpropagation need; `last_features` are the last maps."""
    torch.manual_seed(0)
    student, side = _student(arch).eval(), least_side(arch)
    frames = torch.rand(TIME_STEPS, 2, CHANNELS, side, side)
    require_single_use(student, frames)
    network, teacher = student.network, build_teacher(arch, num_classes=CLASSES, in_channels=CHANNELS).eval().network
    with torch.no_grad():
        for each in (network, teacher):
            y = each.encode(frames.flatten(0, 1))
            same = torch.equal(each.features(y)[-1], each.last_features(y))
            require(same, "features(y)[-1] and last_features(y) differ: both are the output of the last stage")


def trains_by_rates_if_it_can(arch: str) -> None:
    """With rate-based backpropagation, logits in training are the mean of those of the spikes; unless `rate` is False."""
    if not components.architecture(arch).entry.get("rate", True):
        return
    torch.manual_seed(0)
    try:
        student = _student(arch, backward="rate")
    except ConfigError:
        return  # the layer and the reason are told to whoever sets `backward: rate`
    side = least_side(arch)
    frames = torch.rand(TIME_STEPS, 3, CHANNELS, side, side)
    with spike_pass(student.network):
        y = student.network.encode(frames.flatten(0, 1))
        spikes = student.network.classify(student.network.last_features(y)).unflatten(0, (TIME_STEPS, -1)).mean(0)
    rates = student(frames).logits[0]
    require(
        torch.allclose(spikes, rates, rtol=1e-3, atol=1e-4),
        "with student.backward: rate the logits of the rate pass differ from the mean of the spikes': a layer does not commute "
        "with the mean over time; make it a spikedistill.neurons.rate.RateModule, or write 'rate': False into the entry",
    )


def carries_side_branches(arch: str) -> None:
    """A student takes the side branches of self-distillation, one after each stage but the last."""
    with torch.device("meta"):
        student = _student(arch)
        add_exits(student, arch, num_classes=CLASSES, pooling="global")
        outputs = student(torch.empty(TIME_STEPS, 3, CHANNELS, least_side(arch), least_side(arch)))
    expected = (len(student.network.widths), 3, CLASSES)
    require(
        outputs.exits is not None and outputs.exits.shape == expected, f"exits of shape {expected}: `widths` names every stage"
    )


def is_smallest_where_it_says(arch: str) -> None:
    """`min_side` is the side of the smallest input of which a map is left; without that key, one pixel is enough."""
    least = components.architecture(arch).entry.get("min_side", 1)
    with torch.device("meta"):
        teacher = build_teacher(arch, num_classes=CLASSES, in_channels=1)
        try:
            teacher(torch.empty(2, 1, least, least))
        except RuntimeError as err:
            require(False, f"inputs of {least}x{least} are too small ({err}): say so with `min_side` in its entry")


CHECKS = (
    learns_in_both_roles,
    teacher_and_student_share_parameters,
    samples_and_time_do_not_mix,
    uses_each_layer_once,
    trains_by_rates_if_it_can,
    carries_side_branches,
    is_smallest_where_it_says,
)
"""Checks of an architecture."""


def _student(arch: str, **options: Any) -> Student:
    neuron = NeuronConfig(threshold=0.05)
    return build_student(arch, num_classes=CLASSES, in_channels=CHANNELS, time_steps=TIME_STEPS, neuron=neuron, **options)
