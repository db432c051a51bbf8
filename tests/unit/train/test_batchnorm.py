"""Synchronised batch normalisation in a group of one rank is torch's own; over several ranks, see test_engine.py."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from spikedistill.neurons.rate import RateBatchNorm2d, spike_pass
from spikedistill.train.network.batchnorm import SyncBatchNorm, SyncRateBatchNorm2d, over_ranks


@pytest.fixture(autouse=True)
def group_of_one_rank():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def drawn(layer):
    """Give a layer weights of its own, and settings that differ from torch's."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        layer.weight.copy_(0.5 + torch.rand(3, generator=generator))
        layer.bias.copy_(torch.randn(3, generator=generator))
    return layer.double()


def step(layer, x):
    """Return output, gradients and statistics of one training step."""
    x = x.clone().requires_grad_()
    y = layer(x)
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)).sum().backward()
    return [y, x.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()]


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5, 2)])
def test_a_step_is_that_of_torch(shape):
    plain = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    theirs, ours = (drawn(kind(3, eps=0.3, momentum=0.2)) for kind in (plain, SyncBatchNorm))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for found, expected in zip(step(ours, x), step(theirs, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_both_passes_of_rate_based_training_are_those_without_ranks():
    theirs = RateBatchNorm2d.from_batchnorm(drawn(nn.BatchNorm2d(3, eps=0.3, momentum=0.2)))
    ours = SyncRateBatchNorm2d.from_batchnorm(copy.deepcopy(theirs))
    spikes = torch.randn(2 * 4, 3, 5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for layer in (ours, theirs):
        with spike_pass(nn.Sequential(layer)):
            seen = layer(spikes)
        results.append([seen, *step(layer, spikes.unflatten(0, (2, 4)).mean(0))])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_statistics_over_ranks_are_those_of_all_samples_together(monkeypatch):
    parts = [
        torch.randn(count, 3, generator=torch.Generator().manual_seed(count), dtype=torch.float64) + count for count in (2, 5)
    ]
    own = [torch.stack([part.mean(0), part.var(0, correction=0), torch.full((3,), len(part)).double()]) for part in parts]
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather", lambda out, mine: [each.copy_(their) for each, their in zip(out, own, strict=True)])
    mean, var, count = over_ranks(own[0][0], own[0][1], 2)
    together = torch.cat(parts)
    torch.testing.assert_close(mean, together.mean(0))
    torch.testing.assert_close(var, together.var(0, correction=0))
    assert count.tolist() == [7, 7, 7]
