"""Mixup and CutMix: torchvision's results for the same draws, the same on any number of ranks, the distribution of shares."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from spikedistill.data.loading.augment import Augment
from spikedistill.data.loading.loader import Loader
from spikedistill.data.loading.mixing import Mixing, Mixture, draw_mixture, mix
from spikedistill.data.loading.rng import batch_words, uniform
from tests.unit.train.rank import store

BOTH = Mixing(mixup=0.4, cutmix=1.0, probability=0.8)


def mixtures(mixing, count=400, height=8, width=8):
    return [draw_mixture(mixing, 3, epoch, step, height, width) for epoch in range(count // 20) for step in range(20)]


def loader(data="images", **options):
    return Loader(store(data), "train", batch_size=8, seed=3, augment=Augment(crop_padding=1), shuffle=True, **options)


@pytest.mark.parametrize("share", [0.25, 0.9])
def test_mixup_is_that_of_torchvision(share):
    images, labels = torch.rand(5, 3, 6, 7), torch.arange(5)
    mixed, (own, partners) = mix(images, labels, Mixture(share), led=False)
    reference = v2.MixUp(num_classes=5)
    expected = reference.transform(images, {"lam": share, "labels": labels, "batch_size": 5})
    targets = reference.transform(labels, {"lam": share, "labels": labels, "batch_size": 5})
    torch.testing.assert_close(mixed, expected)
    one_hot = torch.nn.functional.one_hot
    torch.testing.assert_close(share * one_hot(own, 5) + (1 - share) * one_hot(partners, 5), targets)


def test_cutmix_is_that_of_torchvision():
    images, labels = torch.rand(5, 3, 6, 7), torch.arange(5)
    top, left, bottom, right = box = (1, 2, 4, 7)
    mixed, _ = mix(images, labels, Mixture(0.5, box), led=False)
    params = {"box": (left, top, right, bottom), "labels": labels, "batch_size": 5}
    assert torch.equal(mixed, v2.CutMix(num_classes=5).transform(images, params))


def test_the_share_of_cutmix_is_that_of_the_area_that_is_left():
    for mixture in mixtures(Mixing(0.0, 1.0, 1.0), height=6, width=9):
        top, left, bottom, right = mixture.box
        assert 0 <= top <= bottom <= 6
        assert 0 <= left <= right <= 9
        assert mixture.share == pytest.approx(1 - (bottom - top) * (right - left) / 54)


def test_a_box_inside_the_image_has_the_area_of_the_rest_of_the_drawn_share():
    inside = 0
    for step in range(100):
        mixture = draw_mixture(Mixing(0.0, 1.0, 1.0), 3, 0, step, 1000, 2000)
        top, left, bottom, right = mixture.box
        if top > 0 and left > 0 and bottom < 1000 and right < 2000:
            inside += 1
            drawn = float(uniform(batch_words(3, 0, step)[2]))  # the share itself, for Beta(1, 1) is uniform
            assert (bottom - top) * (right - left) / 2e6 == pytest.approx(1 - drawn, abs=0.005)
    assert inside > 10


def test_shares_follow_the_beta_distribution():
    for alpha in (0.2, 1.0):
        shares = [mixture.share for mixture in mixtures(Mixing(alpha, 0.0, 1.0), 2000)]
        assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_batches_are_mixed_with_the_probability_and_both_kinds_alike():
    found = mixtures(BOTH, 2000)
    plain = [mixture for mixture in found if mixture == Mixture()]
    cut = [mixture for mixture in found if mixture.box is not None]
    assert len(plain) / len(found) == pytest.approx(0.2, abs=0.03)
    assert len(cut) / (len(found) - len(plain)) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("data", ["images", "frames"])
@pytest.mark.parametrize("num_ranks", [2, 4])
@pytest.mark.parametrize("resident", [True, False])
def test_a_batch_is_the_same_on_any_number_of_ranks(data, num_ranks, resident, monkeypatch):
    if not resident:
        monkeypatch.setattr(Loader, "_fits", lambda self: False)
    alone = list(loader(data, mixing=BOTH).epoch(1))
    ranks = [list(loader(data, mixing=BOTH, rank=r, world_size=num_ranks).epoch(1)) for r in range(num_ranks)]
    dim = 0 if data == "images" else 1
    for step, (inputs, labels) in enumerate(alone):
        assert torch.equal(inputs, torch.cat([rank[step][0] for rank in ranks], dim))
        assert torch.equal(labels, torch.cat([rank[step][1] for rank in ranks], 1))


def test_a_batch_does_not_depend_on_where_the_epoch_was_entered():
    whole = list(loader(mixing=BOTH).epoch(2))
    for ours, theirs in zip(loader(mixing=BOTH).epoch(2, 2), whole[2:], strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_all_frames_of_a_sample_are_mixed_alike():
    plain = list(loader("frames").epoch(0))
    mixing = Mixing(1.0, 0.0, 1.0)
    mixed = loader("frames", mixing=mixing)
    for step, (inputs, labels) in enumerate(mixed.epoch(0)):
        frames, own = plain[step]
        share = mixed.share(0, step)
        torch.testing.assert_close(inputs, share * frames + (1 - share) * frames.roll(1, 1))
        assert torch.equal(labels, torch.stack([own, own.roll(1)]))


def test_without_mixing_nothing_changes():
    assert loader().share(0, 0) == 1
    for inputs, labels in loader().epoch(0):
        assert inputs.shape == (8, 1, 8, 8)
        assert labels.shape == (8,)


def test_a_batch_of_one_is_mixed_with_itself():
    images = torch.rand(1, 3, 4, 4)
    mixed, labels = mix(images, torch.tensor([2]), Mixture(0.3), led=False)
    torch.testing.assert_close(mixed, images)
    assert np.array_equal(labels, [[2], [2]])
