"""Students and teachers: sizes of the reference networks, and what every architecture promises."""

import json
from pathlib import Path

import pytest
import torch

from spikedistill import components
from spikedistill.contract import networks
from spikedistill.errors import ConfigError
from spikedistill.models import add_exits, build_student, build_teacher
from spikedistill.neurons.lif import LIF
from spikedistill.neurons.settings import NeuronConfig

GOLDEN = Path(__file__).parents[2] / "golden"
SIZES = json.loads((GOLDEN / "model_params.json").read_text())
OTHER_NAMES = {
    ("resnet34", "ann", 1000): "resnet34_imagenet",
    ("resnet19(width8)", "snn"): "resnet19_ckd",
    ("resnet19(width8)", "ann"): "resnet19_ckd_teacher",
    ("resnet20(width1)", "snn"): "resnet20_ckd",
    ("resnet20(width1)", "ann"): "resnet20_ckd_teacher",
    ("vggsnn_cifar", "snn"): "vggsnn",
    ("vggsnn_dvs", "snn"): "vggsnn",
}
LEFT_OUT = {"resnet50", "vgg11"}  # no recipe uses them


def our_name(case):
    """The name of a reference network here."""
    net, kind, classes = case["net"], case["kind"], case["num_classes"]
    suffix = "_imagenet" if net.startswith(("preact", "sew")) else ""
    return OTHER_NAMES.get((net, kind, classes)) or OTHER_NAMES.get((net, kind)) or net + suffix


CASES = [case for case in SIZES["cases"] if case["net"] not in LEFT_OUT]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['net']}-{c['kind']}-{c['num_classes']}-{c['in_channels']}")
def test_size_of_reference_networks(case):
    sizes = {"num_classes": case["num_classes"], "in_channels": case["in_channels"]}
    with torch.device("meta"):
        if case["kind"] == "ann":
            network = build_teacher(our_name(case), **sizes)
        else:
            network = build_student(our_name(case), **sizes, time_steps=4, neuron=NeuronConfig())
    assert sum(p.numel() for p in network.parameters()) == case["params"]
    assert sum(isinstance(m, LIF) for m in network.modules()) == case["num_lif"]


@pytest.mark.parametrize(
    ("key", "name", "classes"),
    [
        ("resnet18_c10", "resnet18", 10),
        ("resnet18_c100", "resnet18", 100),
        ("resnet19_c10", "resnet19", 10),
        ("preact_resnet34_c1000", "preact_resnet34_imagenet", 1000),
    ],
)
def test_size_of_reference_branches(key, name, classes):
    expected = SIZES["esd_branches"][key]
    with torch.device("meta"):
        student = build_student(name, num_classes=classes, in_channels=3, time_steps=4, neuron=NeuronConfig())
        add_exits(student, name, num_classes=classes, pooling="global")
    sizes = [sum(p.numel() for p in branch.parameters()) for branch in student.exits.branches]
    assert sizes == [expected[f"scala{i + 1}"] for i in range(len(sizes))]
    assert [sum(p.numel() for p in c.parameters()) for c in student.exits.classifiers] == [expected["fc_each"]] * len(sizes)
    assert sum(p.numel() for p in student.parameters()) == expected["total_with_branches"]


ARCHITECTURES = [
    pytest.param(name, marks=[pytest.mark.slow] if "34" in name or name.endswith(("_dvs", "_imagenet")) else [])
    for name in sorted(components.architectures())
]
"""All; the largest, and those that differ from a sibling by their stem alone, are not for `make quick`."""


@pytest.mark.parametrize("check", networks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture(name, check):
    check(name)


def test_teacher_starts_from_the_fan_out():
    torch.manual_seed(0)
    teacher = build_teacher("resnet18", num_classes=10, in_channels=3)
    weight = teacher.network.stages[0][0].body[0].weight
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_unknown_architecture_suggests_the_likeliest():
    with pytest.raises(ConfigError, match=r"unknown architecture 'resnet81'\. Did you mean 'resnet"):
        build_teacher("resnet81", num_classes=2, in_channels=1)
