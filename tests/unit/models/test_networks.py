"""Students and teachers: sizes of the reference networks, and how they treat time."""

import json
from pathlib import Path

import pytest
import torch

from spikedistill import components
from spikedistill.contract import networks
from spikedistill.errors import ConfigError
from spikedistill.models import add_exits, build_student, build_teacher
from spikedistill.models.exits import Exits
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


def small_student(time_steps=3, threshold=1.0):
    torch.manual_seed(0)
    neuron = NeuronConfig(threshold=threshold)
    return build_student("resnet8", num_classes=5, in_channels=1, time_steps=time_steps, neuron=neuron)


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


def test_student_and_teacher_share_their_parameters_by_name():
    student, teacher = small_student(), build_teacher("resnet8", num_classes=5, in_channels=1)
    teacher.load_state_dict(student.state_dict())


def test_static_image_encoded_once_equals_repeated_frames():
    image = torch.rand(4, 1, 8, 8)
    once, repeated = small_student(), small_student()
    logits = once(image).logits
    torch.testing.assert_close(logits, repeated(image.expand(3, -1, -1, -1, -1)).logits)
    for (name, ours), theirs in zip(once.state_dict().items(), repeated.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_gradients_of_a_static_image_equal_those_of_repeated_frames():
    image = torch.rand(4, 1, 8, 8)
    once, repeated = small_student(), small_student()
    once(image).logits.square().sum().backward()
    repeated(image.expand(3, -1, -1, -1, -1)).logits.square().sum().backward()
    for (name, ours), theirs in zip(once.named_parameters(), repeated.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4, msg=name)


def test_stem_convolution_runs_once_per_static_image():
    student, seen = small_student(), []
    student.network.stem.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    student(torch.rand(4, 1, 8, 8))
    assert seen == [4]


def test_samples_of_a_batch_do_not_mix_over_time():
    student = small_student(threshold=0.05).eval()  # low, so that untrained layers fire
    image = torch.rand(4, 1, 8, 8)
    changed = image.clone()
    changed[0] += 1.0
    differs = (student(image).logits != student(changed).logits).any(dim=2)
    assert differs[:, 0].any()
    assert not differs[:, 1:].any()


def test_later_frames_do_not_change_earlier_logits():
    student = small_student(threshold=0.05).eval()  # low, so that untrained layers fire
    frames = torch.rand(3, 2, 1, 8, 8)
    changed = frames.clone()
    changed[2] += 1.0
    before, after = student(frames).logits, student(changed).logits
    torch.testing.assert_close(before[:2], after[:2])
    assert not torch.equal(before[2], after[2])


def test_one_time_step():
    assert small_student(time_steps=1)(torch.rand(2, 1, 8, 8)).logits.shape == (1, 2, 5)


def test_wrong_number_of_frames_is_refused():
    with pytest.raises(ValueError, match="4 frames for a network of 3 time steps"):
        small_student()(torch.rand(4, 2, 1, 8, 8))


def test_teacher_sees_the_mean_of_the_frames():
    teacher = build_teacher("resnet8", num_classes=5, in_channels=2).eval()
    frames = torch.rand(4, 3, 2, 8, 8)
    torch.testing.assert_close(teacher(frames).logits, teacher(frames.mean(0)).logits)


def test_teacher_starts_from_the_fan_out():
    torch.manual_seed(0)
    teacher = build_teacher("resnet18", num_classes=10, in_channels=3)
    weight = teacher.network.stages[0][0].body[0].weight
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_unknown_architecture_suggests_the_likeliest():
    with pytest.raises(ConfigError, match=r"unknown architecture 'resnet81'\. Did you mean 'resnet"):
        build_teacher("resnet81", num_classes=2, in_channels=1)


@pytest.mark.parametrize("name", ["resnet8", "preact_resnet18"])
@pytest.mark.parametrize("backward", ["bptt", "rate"])
@pytest.mark.parametrize("pooling", ["global", "corner"])
def test_exits_end_with_the_student_and_exist_in_training_only(name, backward, pooling):
    torch.manual_seed(0)
    student = build_student(
        name, num_classes=3, in_channels=2, time_steps=2, neuron=NeuronConfig(threshold=0.3), backward=backward
    )
    add_exits(student, name, num_classes=3, pooling=pooling)
    frames = torch.rand(2, 4, 2, 16, 16)
    outputs = student(frames)
    assert outputs.exits.shape == (len(student.network.widths), 4, 3)
    torch.testing.assert_close(outputs.exits[-1], outputs.prediction)
    outputs.exits.square().sum().backward()
    assert all(p.grad is not None for p in student.parameters())
    assert student.eval()(frames).exits is None


def test_corner_pooling_sees_the_corner():
    exits = Exits((4, 8), 3, pooling="corner", residual=False).eval()
    rates = torch.rand(2, 4, 16, 16)
    changed = rates.clone()
    changed[..., 12:, 12:] += 1  # reaches no more than rows and columns 5 to 7 of the halved map
    torch.testing.assert_close(exits([rates]), exits([changed]))
    exits.pooling = "global"
    assert not torch.equal(exits([rates]), exits([changed]))
