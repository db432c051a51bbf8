"""Strides, pooling, shortcuts and activations of every architecture: its maps are those of a straight line of functions."""

import pytest
import torch
from torch import nn

from spikedistill import components
from spikedistill.models import build_student, build_teacher
from spikedistill.models.exits import Exits
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig
from tests.unit.models.straight_line import (
    Weights,
    branch,
    plain,
    pooled_post_activation,
    post_activation,
    pre_activation,
    residual,
    spike_element_wise,
)

HALVING = (1, 2, 2, 2)
RESIDUAL = {
    "resnet8": (post_activation, (1, 2, 2), "small"),
    "resnet8_dvs": (post_activation, (2, 2, 2), "strided"),
    **{
        f"{name}{suffix}": (block, HALVING, stem)
        for name, block in (
            ("resnet18", post_activation),
            ("preact_resnet18", pre_activation),
            ("preact_resnet34", pre_activation),
            ("sew_resnet18", spike_element_wise),
            ("sew_resnet34", spike_element_wise),
        )
        for suffix, stem in (("", "small"), ("_dvs", "strided"), ("_imagenet", "imagenet"))
    },
    "resnet34": (post_activation, HALVING, "small"),
    "resnet34_imagenet": (post_activation, HALVING, "imagenet"),
    "resnet19": (post_activation, (1, 2, 2), "small"),
    "resnet19_dvs": (post_activation, (1, 2, 2), "strided"),
    "resnet19_imagenet": (post_activation, (1, 2, 2), "imagenet"),
    "resnet19_ckd": (pooled_post_activation, (1, 2, 2), "small"),
    "resnet19_ckd_dvs": (pooled_post_activation, (1, 2, 2), "strided"),
    "resnet19_ckd_teacher": (pooled_post_activation, (1, 2, 2), "small"),
    "resnet20_ckd": (pooled_post_activation, (1, 2, 2), "small"),
    "resnet20_ckd_teacher": (pooled_post_activation, (1, 2, 2), "small"),
}
"""Block, stride of the first block of each stage, and stem of every residual network of this package."""
PLAIN = {"vggsnn": ((2, 2, 2, 2), True), "vgg13": ((2, 2, 2, 2, 2), False)}
"""Number of convolutions of each stage, and whether a pooling follows the last one."""
SIDE = 42  # odd after the first halving: 42, 21, 11, 6, 3


def narrow(name):
    """Hyperparameters of an architecture with few channels."""
    entry = dict(components.architecture(name).entry)
    if "widths" in entry:
        entry["widths"] = tuple(3 + stage for stage in range(len(entry["widths"])))
    else:
        entry["stages"] = tuple(tuple(3 + stage for _ in widths) for stage, widths in enumerate(entry["stages"]))
    return entry | ({"hidden": 5} if "hidden" in entry else {})


def drawn(module):
    """Give a network random weights and statistics, all different."""
    generator = torch.Generator().manual_seed(0)
    module = module.double().eval().requires_grad_(False)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            numbers = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.copy_(0.5 + numbers.abs() if name.endswith("running_var") else numbers / max(1, tensor[0].numel()) ** 0.5)
    return module


def teacher_and_maps(name):
    teacher = drawn(build_teacher(name, num_classes=3, in_channels=2, entry=narrow(name)))
    x = torch.randn(2, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return teacher, Weights(teacher.network.state_dict()), x, teacher(x, returns_stages=True)


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_every_architecture_of_the_package_is_here():
    assert {name for name in components.architectures() if "/" not in name} == RESIDUAL.keys() | PLAIN.keys()


@pytest.mark.parametrize("name", RESIDUAL)
def test_maps_and_logits_of_residual_networks(name):
    block, strides, stem = RESIDUAL[name]
    _, w, x, outputs = teacher_and_maps(name)
    expected = residual(w, block, strides, stem, x)
    assert len(expected) == len(outputs.stages)
    for found, wanted in zip(outputs.stages, expected, strict=True):
        same(found, wanted)
    pooled = expected[-1].mean((2, 3))
    if not w.has("classifier.0"):
        same(outputs.logits, w.linear("classifier", pooled))
    else:
        hidden = w.linear("classifier.0", pooled)
        same(outputs.logits, w.linear("classifier.2", hidden if "ckd" in name else hidden.relu()))


@pytest.mark.parametrize("name", PLAIN)
def test_maps_and_logits_of_plain_networks(name):
    stages, last_pool = PLAIN[name]
    teacher, w, x, outputs = teacher_and_maps(name)
    expected = plain(w, stages, x, last_pool=last_pool)
    for found, wanted in zip(outputs.stages, expected, strict=True):
        same(found, wanted)
    pooled = nn.functional.adaptive_avg_pool2d(expected[-1], 3 if name == "vggsnn" else 1)
    same(outputs.logits, w.linear("classifier", pooled.flatten(1)))
    assert (teacher.class_weight is None) == (name == "vggsnn")


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("pooling", ["global", "corner"])
def test_logits_of_side_branches(with_residual, pooling):
    exits = drawn(Exits((3, 4, 5), 2, pooling=pooling, residual=with_residual))
    generator = torch.Generator().manual_seed(2)
    rates = [torch.rand(2, 3, 25, 25, generator=generator).double(), torch.rand(2, 4, 13, 13, generator=generator).double()]
    w, found = Weights(exits.state_dict()), exits(rates)
    for number, rate in enumerate(rates):
        y = branch(w, f"branches.{number}", rate, with_residual=with_residual)
        assert y.shape[2:] == (7, 7)
        y = y[..., :4, :4] if pooling == "corner" else y
        same(found[number], w.linear(f"classifiers.{number}", y.mean((2, 3))))


def spiking(name):
    student = build_student(name, num_classes=3, in_channels=2, time_steps=2, neuron=NeuronConfig(), entry=narrow(name))
    return student.network


NORM, POOL = nn.BatchNorm2d, nn.MaxPool2d


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("resnet18_imagenet", [NORM, LIF, POOL]),
        ("preact_resnet18_imagenet", [NORM, POOL]),
        ("sew_resnet18_imagenet", [NORM, LIF, POOL]),
        ("resnet18", [NORM, LIF, nn.Identity]),
        ("preact_resnet18", [NORM, nn.Identity]),
        ("sew_resnet18", [NORM, LIF, nn.Identity]),
    ],
)
def test_neurons_of_the_stem_fire_before_pooling_and_those_of_preactivation_in_the_blocks(name, kinds):
    assert [type(layer) for layer in spiking(name).after_stem] == kinds


def test_only_the_last_block_of_ckdsnn_ends_in_a_relu():
    blocks = [block for stage in spiking("resnet20_ckd").stages for block in stage]
    assert [type(block.activation) for block in blocks] == [LIF] * 8 + [nn.ReLU]
    assert not any(isinstance(layer, nn.ReLU) for layer in spiking("resnet18").modules())


def test_the_classifier_of_resnet19_fires_between_its_layers_and_that_of_ckdsnn_does_not():
    assert [type(layer) for layer in spiking("resnet19").classifier] == [nn.Linear, LIF, nn.Linear]
    assert [type(layer) for layer in spiking("resnet19_ckd").classifier] == [nn.Linear, nn.Identity, nn.Linear]


@pytest.mark.parametrize("name", ["preact_resnet18", "sew_resnet18"])
def test_students_of_these_families_start_from_the_fan_out_with_biases_of_zero(name):
    torch.manual_seed(0)
    student = build_student(name, num_classes=3, in_channels=2, time_steps=2, neuron=NeuronConfig())
    convolutions = [layer for layer in student.modules() if isinstance(layer, nn.Conv2d)]
    first = next(layer for layer in convolutions if layer.weight.shape == (128, 64, 3, 3))
    assert float(first.weight.detach().std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert not any(layer.bias.any() for layer in convolutions)
