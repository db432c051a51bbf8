"""Which buffers the ranks of a training run share."""

import torch
from torch import nn

from spikedistill.models import build_student
from spikedistill.neurons.settings import NeuronConfig
from spikedistill.train.network.preparation import has_running_statistics_alone


def student(**options):
    return build_student("resnet8", num_classes=3, in_channels=3, time_steps=2, neuron=NeuronConfig(), **options)


def test_running_statistics_of_batch_norms_are_each_ranks_own():
    assert has_running_statistics_alone(student())
    assert has_running_statistics_alone(student(backward="rate"))


def test_a_buffer_that_training_may_read_is_shared():
    model = student()
    model.register_buffer("prototypes", torch.zeros(3))
    assert not has_running_statistics_alone(model)


def test_a_plugins_own_batch_norm_may_read_its_statistics_in_training():
    class Renorm(nn.BatchNorm2d):
        pass

    assert not has_running_statistics_alone(nn.Sequential(nn.BatchNorm2d(3), Renorm(3)))
