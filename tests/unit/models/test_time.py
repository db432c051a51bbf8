"""How students, teachers and side branches treat time."""

import pytest
import torch

from spikedistill.models import add_exits, build_student, build_teacher
from spikedistill.models.exits import Exits
from spikedistill.neurons.settings import NeuronConfig


def small_student(time_steps=3, threshold=1.0):
    torch.manual_seed(0)
    neuron = NeuronConfig(threshold=threshold)
    return build_student("resnet8", num_classes=5, in_channels=1, time_steps=time_steps, neuron=neuron)


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


def test_branches_see_the_mean_firing_rates_of_their_stages_and_the_last_exit_is_the_mean_over_time():
    torch.manual_seed(0)
    student = build_student("resnet8", num_classes=3, in_channels=2, time_steps=2, neuron=NeuronConfig(threshold=0.3))
    add_exits(student, "resnet8", num_classes=3, pooling="global")
    frames = torch.rand(2, 4, 2, 16, 16)
    frames[1] *= 3  # the steps differ
    stages = student.network.features(student.network.stem(torch.cat([frames[0], frames[1]])))
    rates = [(stage[:4] + stage[4:]) / 2 for stage in stages]
    logits = student.network.classify(stages[-1])
    outputs = student(frames)
    torch.testing.assert_close(outputs.logits, torch.stack([logits[:4], logits[4:]]))
    torch.testing.assert_close(outputs.exits[:-1], student.exits(rates[:-1]))
    torch.testing.assert_close(outputs.exits[-1], (logits[:4] + logits[4:]) / 2)


def test_side_branches_of_rate_based_training_teach_the_network():
    torch.manual_seed(0)
    student = build_student("resnet8", num_classes=3, in_channels=2, time_steps=2, neuron=NeuronConfig(), backward="rate")
    add_exits(student, "resnet8", num_classes=3, pooling="global")
    student(torch.rand(2, 4, 2, 16, 16)).exits[0].square().sum().backward()
    assert student.network.stem.weight.grad.any()


def test_the_features_of_rate_based_training_pass_back_the_gradient_divided_by_the_steps():
    gradients = []
    for divide in (True, False):
        torch.manual_seed(0)
        given = {"num_classes": 3, "in_channels": 2, "time_steps": 4, "neuron": NeuronConfig(threshold=0.3)}
        student = build_student("resnet8", **given, backward="rate", scale_grad_by_steps=divide)
        student(torch.rand(4, 2, 2, 8, 8)).features.square().sum().backward()
        gradients.append(student.network.stem.weight.grad)
    assert gradients[0].any()
    torch.testing.assert_close(4 * gradients[0], gradients[1])


def test_a_class_of_several_outputs_adds_up_their_probabilities():
    teacher = build_teacher("resnet8", num_classes=4, in_channels=1, groups=(1, 3)).eval()
    x = torch.rand(2, 1, 8, 8)
    alone = build_teacher("resnet8", num_classes=4, in_channels=1).eval()
    alone.load_state_dict(teacher.state_dict())
    several, one = (each(x).logits.softmax(1) for each in (teacher, alone))
    torch.testing.assert_close(several, torch.stack([one[:, 0], one[:, 1:].sum(1)], 1))
    assert teacher.class_weight is None and alone.class_weight is not None


def test_corner_pooling_sees_the_corner():
    exits = Exits((4, 8), 3, pooling="corner", residual=False).eval()
    rates = torch.rand(2, 4, 16, 16)
    changed = rates.clone()
    changed[..., 12:, 12:] += 1  # reaches no more than rows and columns 5 to 7 of the halved map
    torch.testing.assert_close(exits([rates]), exits([changed]))
    exits.pooling = "global"
    assert not torch.equal(exits([rates]), exits([changed]))
