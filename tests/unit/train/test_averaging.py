"""The moving average of weights, step by step."""

import pytest
import torch
from torch import nn

from spikedistill.train.averaging import Average


def network(value, batches=0):
    """A layer with one weight, running statistics of the same value, and a counter."""
    layer = nn.BatchNorm1d(1)
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            tensor.fill_(value)
    layer.num_batches_tracked.fill_(batches)
    return layer


def values(average):
    layer = average.network
    return [tensor.item() for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var)]


def test_the_first_step_is_copied_and_later_ones_are_averaged_with_the_running_statistics():
    average = Average(network(100.0), 0.75)
    average.update(network(4.0))
    assert values(average) == [4.0] * 4
    average.update(network(8.0))
    assert values(average) == pytest.approx([5.0] * 4)  # 0.75 * 4 + 0.25 * 8
    average.update(network(1.0))
    assert values(average) == pytest.approx([4.0] * 4)


def test_counters_are_copied():
    average = Average(network(0.0), 0.75)
    for batches in (1, 2, 7):
        average.update(network(0.0, batches))
    assert average.network.num_batches_tracked.item() == 7


def test_a_restored_average_goes_on_where_it_was():
    before, after = Average(network(0.0), 0.75), Average(network(0.0), 0.75)
    before.update(network(4.0))
    after.load_state_dict(before.state_dict())
    after.update(network(8.0))
    assert values(after) == pytest.approx([5.0] * 4)


def test_it_asks_for_no_gradient_and_leaves_the_network_alone():
    given = network(2.0)
    average = Average(given, 0.5)
    average.update(given)
    average.update(network(4.0))
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert given.weight.item() == 2.0
    assert given.weight.requires_grad
