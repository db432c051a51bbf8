"""What every architecture that runs all time steps at once promises, as a student."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spikedistill import components
from spikedistill.contract.findings import require, require_single_use
from spikedistill.models import Student, build_student
from spikedistill.neurons.settings import NeuronConfig

SAMPLES, CHANNELS = 3, 2


def learns_as_a_student(arch: str) -> None:
    """Logits have the shape [T, B, K], and every parameter gets a finite gradient."""
    student, frames = _student(arch)
    outputs = student(frames)
    shape = (student.time_steps, SAMPLES, _classes(arch))
    require(outputs.logits.shape == shape, f"logits of shape {shape}; found {tuple(outputs.logits.shape)}")
    functional.cross_entropy(outputs.prediction, torch.arange(SAMPLES)).backward()
    for name, parameter in student.named_parameters():
        require(parameter.grad is not None and parameter.grad.isfinite().all(), f"{name} gets a finite gradient")


def tells_its_maps_if_it_says_so(arch: str) -> None:
    """With `features: True` in its entry, `features` are maps [T, B, D, h, w]; without, it has no tap."""
    student, frames = _student(arch)
    said, has_tap = bool(components.architecture(arch).entry.get("features")), student.network.has_tap
    require(said == has_tap, f"`features` is {said} in the entry, and {has_tap} of what build_multi_step returns")
    found = tuple(student(frames).features.shape)
    require(len(found) == 5 and found[:2] == (student.time_steps, SAMPLES), f"features [T, B, D, h, w]; found the shape {found}")


def passes_and_samples_do_not_mix(arch: str) -> None:
    """In evaluation, a pass does not depend on the one before, and a sample changes its own logits alone."""
    student, frames = _student(arch)
    other = frames.clone()
    other[:, 0] += 1.0
    student.eval()
    with torch.no_grad():
        logits, of_other, again = (student(each).logits for each in (frames, other, frames))
    require(torch.equal(logits, again), "state is left from the pass before: neurons of SpikingJelly are reset, others are not")
    require(torch.allclose(logits[:, 1:], of_other[:, 1:], atol=1e-5), "a sample changes the logits of another one")


def uses_each_neuron_once(arch: str) -> None:
    """Every neuron of this package runs once in a pass, as its figures need."""
    student, frames = _student(arch)
    require_single_use(student.eval(), frames)


CHECKS = (learns_as_a_student, tells_its_maps_if_it_says_so, passes_and_samples_do_not_mix, uses_each_neuron_once)
"""Checks of an architecture whose entry has `multi_step: True`."""


def _classes(arch: str) -> int:
    return components.architecture(arch).entry.get("classes", SAMPLES)


def _student(arch: str) -> tuple[Student, Tensor]:
    """Return a student whose neurons fire easily, and frames of what its entry says that it takes."""
    entry = components.architecture(arch).entry
    torch.manual_seed(0)
    student = build_student(
        arch,
        num_classes=_classes(arch),
        in_channels=CHANNELS,
        time_steps=entry.get("min_time_steps", 2),
        neuron=NeuronConfig(threshold=0.05),
    )
    side = entry.get("size", max(32, entry.get("min_side", 1)))
    return student, torch.rand(student.time_steps, SAMPLES, CHANNELS, side, side)
