"""Losses of feature maps by hand: BKDSNN, FitNet, KDSNN; and how maps of other sides are compared."""

import math

import pytest
import torch
from torch import nn

from spikedistill.distill import bkdsnn, fitnet, kdsnn
from spikedistill.distill.adapters import resized
from spikedistill.distill.shapes import paired

PARTS = nn.ModuleDict({"align": nn.Identity(), "restore": nn.Identity()})
# two steps of one sample, two channels of one position: means 2 and 3
MAPS = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])[..., None, None]
TEACHER = torch.zeros(1, 2, 1, 1)


def test_a_channel_is_blanked_below_the_probability_and_kept_at_it():
    maps, teacher = torch.ones(1, 1, 3, 1, 1), torch.zeros(1, 3, 1, 1)
    uniform = torch.tensor([[0.125, 0.25, 0.5]])
    assert bkdsnn.blurred_feature_loss(maps, teacher, uniform, PARTS, blur=0.25).item() == 2.0


def test_blurred_features_are_means_over_time_whose_squares_are_added_over_channels():
    uniform = torch.ones(1, 2)
    assert bkdsnn.blurred_feature_loss(MAPS, TEACHER, uniform, PARTS, blur=0.0).item() == 2**2 + 3**2
    twice = [torch.cat([each, each], dim) for each, dim in ((MAPS, 1), (TEACHER, 0), (uniform, 0))]
    assert bkdsnn.blurred_feature_loss(*twice, PARTS, blur=0.0).item() == 2**2 + 3**2


def test_soft_labels_weigh_by_how_much_worse_the_student_is():
    student, teacher, labels = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([0])
    weight = 1 - math.exp(-math.log(2) / math.log(4 / 3))  # cross-entropies ln 2 and ln 4/3
    found = bkdsnn.weighted_soft_label_loss(student, teacher, labels, 2.0)
    assert found.item() == pytest.approx(4 * weight * math.log(2), rel=1e-5)


def test_hints_compare_every_step_and_rates_their_mean():
    assert fitnet.hint_loss(MAPS, TEACHER, nn.Identity()).item() == (1 + 4 + 9 + 16) / 4
    assert kdsnn.rate_distance(MAPS, TEACHER, nn.Identity()).item() == (2**2 + 3**2) / 2


def blurred(maps, teacher, parts):
    return bkdsnn.blurred_feature_loss(maps, teacher, torch.ones(1, 2), PARTS, blur=0.0)


@pytest.mark.parametrize("loss", [fitnet.hint_loss, kdsnn.rate_distance, blurred])
def test_the_teacher_s_maps_get_no_gradient(loss):
    maps, teacher = MAPS.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    loss(maps, teacher, nn.Identity()).backward()
    assert maps.grad.all()
    assert teacher.grad is None


def test_the_middle_of_an_even_number_of_stages_is_the_later_one():
    assert [fitnet.chosen(list("abcd"), hint) for hint in ("middle", "last", "each")] == [["c"], ["d"], list("abcd")]
    assert fitnet.chosen(list("abc"), "middle") == ["b"]


def test_the_last_stages_of_two_networks_belong_together():
    assert paired("abc", "xy") == [("b", "x"), ("c", "y")]
    assert paired("a", "xyz") == [("a", "z")]


def test_maps_shrink_by_their_means_and_grow_by_repetition():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert resized(maps, (1, 1)).item() == 3.0
    assert resized(maps, (2, 4))[0, 0, 0].tolist() == [1.0, 1.0, 2.0, 2.0]
