"""Synchronised batch normalisation is torch's own over the samples of all ranks: in a group of one, and of two."""

import copy

import pytest
import torch
import torch.distributed as dist
from spikingjelly.activation_based import layer as spikingjelly
from timm.layers import BatchNormAct2d
from torch import nn

from spikedistill.errors import ConfigError
from spikedistill.neurons.rate import RateBatchNorm2d, spike_pass
from spikedistill.train.network.batchnorm import SyncBatchNorm, SyncRateBatchNorm2d, over_ranks, synchronise


@pytest.fixture
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
    (y**3).sum().backward()
    return [y, x.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()]


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5, 2)])
@pytest.mark.usefixtures("group_of_one_rank")
def test_a_step_is_that_of_torch(shape):
    plain = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    theirs, ours = (drawn(kind(3, eps=0.3, momentum=0.2)) for kind in (plain, SyncBatchNorm))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for found, expected in zip(step(ours, x), step(theirs, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("group_of_one_rank")
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


def both_passes(layer, spikes):
    """Return what `step` does of the rate pass that follows a spike pass on [T * B, ...], T 2."""
    with spike_pass(nn.Sequential(layer)):
        layer(spikes)
    return step(layer, spikes.unflatten(0, (2, -1)).mean(0))


def images():
    return torch.randn(2, 8, 3, 5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)  # steps and samples


def one_of_two_ranks(rank, folder):
    """Save what a rank with half of the samples gets; runs in a process of its own."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    part = images()[:, 4 * rank : 4 * rank + 4]
    rate = SyncRateBatchNorm2d.from_batchnorm(drawn(nn.BatchNorm2d(3, eps=0.3, momentum=0.2)))
    results = step(drawn(SyncBatchNorm(3, eps=0.3, momentum=0.2)), part[0]), both_passes(rate, part.flatten(0, 1))
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_compute_what_one_does_with_all_samples(tmp_path):
    torch.multiprocessing.spawn(one_of_two_ranks, (tmp_path,), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    rate = RateBatchNorm2d.from_batchnorm(drawn(nn.BatchNorm2d(3, eps=0.3, momentum=0.2)))
    whole = step(drawn(nn.BatchNorm2d(3, eps=0.3, momentum=0.2)), images()[0]), both_passes(rate, images().flatten(0, 1))
    for number, (y, x_grad, weight_grad, bias_grad, *buffers) in enumerate(whole):
        first, second = (results[number] for results in ranks)
        for found, expected in (
            (torch.cat([first[0], second[0]]), y),
            (torch.cat([first[1], second[1]]), x_grad),
            (first[2] + second[2], weight_grad),
            (first[3] + second[3], bias_grad),
            *zip(first[4:], buffers, strict=True),
            *zip(second[4:], buffers, strict=True),
        ):
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


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.usefixtures("group_of_one_rank")
def test_a_layer_that_activates_too_still_does(training):
    plain = nn.Sequential(BatchNormAct2d(3, act_layer=nn.Hardswish, drop_layer=nn.Identity, inplace=False)).train(training)
    drawn(plain[0])
    synchronised = synchronise(copy.deepcopy(plain))
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(synchronised(x), plain(x))
    assert synchronised.state_dict().keys() == plain.state_dict().keys()


def test_a_layer_that_does_something_unknown_besides_is_refused():
    class Doubled(nn.BatchNorm2d):
        def forward(self, x):
            return 2 * super().forward(x)

    for norm in (Doubled(3), spikingjelly.TemporalEffectiveBatchNorm2d(4, 3)):
        with pytest.raises(ConfigError, match=r"train\.sync_batchnorm: .* has a forward pass of its own"):
            synchronise(nn.Sequential(norm))


@pytest.mark.parametrize(
    ("norm", "lacks"), [(nn.BatchNorm2d(3, affine=False), "no weight"), (nn.BatchNorm2d(3, momentum=None), "no momentum")]
)
def test_a_layer_without_weights_or_momentum_is_refused(norm, lacks):
    with pytest.raises(ConfigError, match=rf"train\.sync_batchnorm: a BatchNorm2d of 3 channels has {lacks}"):
        synchronise(nn.Sequential(norm))
