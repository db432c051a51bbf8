"""Images as spikes: against SpikingJelly's encoders, known values of the generator, and what the draws depend on."""

import pytest
import torch
from spikingjelly.activation_based.encoding import LatencyEncoder

from spikedistill.neurons import encoding
from spikedistill.neurons.encoding import Latency, Poisson

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def images(count=5, side=6, seed=0):
    """8-bit images in [0, 1], and the same normalised."""
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randint(0, 256, (count, 3, side, side), generator=generator) / 255
    plain[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    shape = (1, 3, 1, 1)
    return plain, (plain - torch.tensor(MEAN).reshape(shape)) / torch.tensor(STD).reshape(shape)


@pytest.mark.parametrize("time_steps", [1, 2, 4, 7, 16])
def test_latency_is_that_of_spikingjelly(time_steps):
    plain, normalised = images()
    theirs = LatencyEncoder(time_steps, "linear")
    assert torch.equal(Latency(time_steps, MEAN, STD)(normalised), torch.stack([theirs(plain) for _ in range(time_steps)]))


def test_latency_gives_every_pixel_one_spike():
    spikes = Latency(4, MEAN, STD)(images()[1])
    assert torch.equal(spikes.sum(0), torch.ones_like(spikes[0]))
    assert spikes[0, 0, 0, 0, 1] == 1 and spikes[3, 0, 0, 0, 0] == 1  # white first, black last


def test_the_generator_has_the_published_values():
    # The first outputs of SplitMix64 with seeds 0 and 1234567, as the reference implementation prints them.
    words = encoding._mixed(torch.tensor([0, 1234567]) + encoding._STRIDE)
    assert [word % 2**64 for word in words.tolist()] == [16294208416658607535, 6457827717110365317]


def test_poisson_spikes_have_the_probability_of_the_intensity_and_are_independent():
    plain, normalised = images()
    spikes = Poisson(8000, MEAN, STD)(normalised)
    assert spikes[:, 0, 0, 0, 0].sum() == 0 and spikes[:, 0, 0, 0, 1].mean() == 1
    bound = 5 * (plain * (1 - plain) / 8000).sqrt() + 1e-6  # five standard deviations
    assert ((spikes.mean(0) - plain).abs() <= bound).all()
    together = (spikes[1:] * spikes[:-1]).mean(0)
    assert (together - plain**2).abs().max() < 0.04
    flat = spikes.flatten(1)[:, 1:40]
    correlation = torch.corrcoef(flat[:, flat.std(0) > 0].T).fill_diagonal_(0)
    assert correlation.abs().max() < 0.07


def test_black_never_fires_and_white_always_does():
    extremes = torch.tensor([0, encoding.LEVELS]).reshape(1, 2, 1, 1)
    spikes = Poisson(300_000, MEAN, STD).spikes(
        extremes, torch.tensor([1])
    )  # of so many draws, some are the smallest or the largest
    assert spikes.sum(0).flatten().tolist() == [0, 300_000]


def test_without_keys_an_image_gets_the_same_spikes_wherever_it_stands():
    _, normalised = images()
    encoder = Poisson(4, MEAN, STD)
    whole = encoder(normalised)
    assert torch.equal(encoder(normalised[2:4]), whole[:, 2:4])
    assert torch.equal(encoder(normalised.double()).float(), whole)
    brighter = normalised.clone()
    brighter[2] += 0.01
    assert not torch.equal(encoder(brighter)[:, 2], whole[:, 2])


def test_keys_say_the_draws_and_are_used_once():
    _, normalised = images()
    encoder = Poisson(4, MEAN, STD)
    without = encoder(normalised)
    encoder.keys = torch.tensor([1, 2, 3, 4, 5])
    first = encoder(normalised)
    assert torch.equal(encoder(normalised), without)
    encoder.keys = torch.tensor([3, 4])
    assert torch.equal(encoder(normalised[2:4]), first[:, 2:4])
    encoder.keys = torch.tensor([6, 7, 8, 9, 10])
    assert not torch.equal(encoder(normalised), first)


@pytest.mark.parametrize("encoder", [Poisson, Latency])
def test_pixels_outside_of_the_range_count_as_black_or_white(encoder):
    x = torch.full((1, 3, 2, 2), 9.0)
    x[0, 0] = -9.0
    limits = torch.ones(1, 3, 2, 2)
    limits[0, 0] = 0.0
    shape = (1, 3, 1, 1)
    at_limits = (limits - torch.tensor(MEAN).reshape(shape)) / torch.tensor(STD).reshape(shape)
    ours = encoder(3, MEAN, STD)
    ours.keys = torch.tensor([1])
    given = ours(x)
    ours.keys = torch.tensor([1])
    assert torch.equal(given, ours(at_limits))


def test_an_encoder_adds_nothing_to_the_weights_of_a_network():
    assert Poisson(2, MEAN, STD).state_dict() == {}
