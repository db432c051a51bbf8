"""Conversion of the student's batch to what a teacher takes."""

import pytest
import torch
from torch.nn import functional

from spikedistill.models import Teacher, build_teacher
from spikedistill.models.imported.inputs import Conversion, InputAdapter

GREY = ((0.3,), (0.4,))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def normalised(pixels, statistics):
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in statistics)
    return (pixels - mean) / std


def test_equal_inputs_are_no_conversion_and_no_adapter_is_built():
    assert Conversion(given=GREY, wanted=GREY).is_identity
    assert Conversion(given=GREY).is_identity
    assert build_teacher("resnet8", num_classes=2, in_channels=1, conversion=Conversion(given=GREY, wanted=GREY)).adapter is None


def test_the_students_normalisation_is_undone_and_the_teachers_applied():
    pixels = torch.rand(4, 1, 8, 8)
    adapter = InputAdapter(Conversion(given=GREY, wanted=IMAGENET, channels=3))
    expected = normalised(pixels.expand(-1, 3, -1, -1), IMAGENET)
    torch.testing.assert_close(adapter(normalised(pixels, GREY)), expected, rtol=1e-5, atol=1e-5)


def test_images_are_resized_with_antialiasing_before_the_teachers_normalisation():
    pixels = torch.rand(2, 3, 20, 12)
    adapter = InputAdapter(Conversion(given=IMAGENET, wanted=((0.5,) * 3, (0.5,) * 3), size=8))
    expected = functional.interpolate(pixels, (8, 8), mode="bilinear", antialias=True) * 2 - 1
    torch.testing.assert_close(adapter(normalised(pixels, IMAGENET)), expected, rtol=1e-5, atol=1e-5)


def test_an_image_of_the_right_size_is_not_resampled():
    images = torch.rand(2, 3, 8, 8)
    assert InputAdapter(Conversion(given=IMAGENET, size=8))(images) is images


def test_event_frames_become_grey_images_with_a_maximum_of_one():
    frames = torch.rand(4, 3, 2, 6, 6) * 9
    frames[:, 1] = 0  # no events at all
    grey = InputAdapter(Conversion(grey_events=True))(frames)
    mean = frames.mean((0, 2))
    assert grey.shape == (3, 1, 6, 6)
    torch.testing.assert_close(grey[0, 0], mean[0] / mean[0].max())
    assert grey[0].max() == 1
    assert torch.equal(grey[1], torch.zeros(1, 6, 6))


def test_event_frames_without_another_word_are_averaged_over_time():
    frames = torch.rand(4, 3, 2, 6, 6)
    torch.testing.assert_close(InputAdapter(Conversion(size=6))(frames), frames.mean(0))


def test_the_adapter_is_no_part_of_the_weights():
    conversion = Conversion(given=GREY, wanted=IMAGENET, channels=3, size=16)
    teacher = build_teacher("resnet8", num_classes=2, in_channels=3, conversion=conversion)
    assert teacher.adapter is not None
    assert teacher.state_dict().keys() == build_teacher("resnet8", num_classes=2, in_channels=3).state_dict().keys()
    assert teacher(torch.rand(2, 1, 8, 8)).features.shape[-1] == 4


def test_a_class_of_several_outputs_adds_up_their_probabilities():
    network = build_teacher("resnet8", num_classes=5, in_channels=1).network
    plain, grouped = Teacher(network).eval(), Teacher(network, groups=[2, 1, 2]).eval()
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        probabilities, joined = plain(images).logits.softmax(1), grouped(images).logits.softmax(1)
    expected = torch.stack([probabilities[:, :2].sum(1), probabilities[:, 2], probabilities[:, 3:].sum(1)], dim=1)
    torch.testing.assert_close(joined, expected)
    assert grouped.class_weight is None
    assert torch.equal(Teacher(network, groups=[1] * 5).class_weight, network.class_weight)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_it_runs_under_autocast(precision):
    conversion = Conversion(given=GREY, wanted=IMAGENET, channels=3, size=16)
    teacher = build_teacher("resnet8", num_classes=2, in_channels=3, conversion=conversion).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        assert teacher(torch.rand(2, 1, 8, 8)).logits.isfinite().all()
