"""Boxes of random crops and of erasing, for chosen random words; sizes of inputs."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as tv

from spikedistill.data.loading.augment import BOX_WORDS, Erasing, ResizedCrop, erase, resized_crop_boxes
from spikedistill.data.loading.inputs import InputConfig, Resize, crop_images, encode_frames
from spikedistill.data.loading.rng import SampleRng, Stream


class Chosen:
    """Random words of one sample that are the same for every use but the last, which is noted."""

    def __init__(self, **words):
        self.given, self.stream = {int(number[1:]): word for number, word in words.items()}, None

    def words(self, stream, count):
        self.stream = stream
        row = np.zeros((1, count), dtype=np.uint64)
        for number, word in self.given.items():
            row[0, number] = word
        return row


def box(config, side, **words):
    return resized_crop_boxes(config, Chosen(**words).words(Stream.RESIZED_CROP, BOX_WORDS), side, side)[0].tolist()


def test_the_ratio_of_a_crop_is_that_of_its_width_to_its_height():
    assert box(ResizedCrop(scale=(0.25, 0.25), ratio=(4, 4)), 100)[2:] == [25, 100]


def test_sides_are_rounded_to_the_nearest_pixel():
    assert box(ResizedCrop(scale=(0.59, 0.59), ratio=(1, 1)), 10)[2:] == [8, 8]  # the root of 59 is 7.68


def test_the_first_box_that_fits_is_taken():
    half = 1 << 63  # the middle of a range
    assert box(ResizedCrop(scale=(0.25, 1.0), ratio=(1, 1)), 8, w0=half)[2:] == [6, 6]  # the other nine attempts are 4 x 4
    # an area of 1/4, 16 times as wide as high, does not fit; 4 times as wide does, at the third attempt
    words = {f"w{attempt}": (1 << 64) - 1 for attempt in range(10, 20)} | {"w12": half}
    assert box(ResizedCrop(scale=(0.25, 0.25), ratio=(1, 16)), 8, **words)[2:] == [2, 8]


def test_a_crop_reaches_the_last_row_and_column():
    crop = ResizedCrop(scale=(0.25, 0.25), ratio=(1, 1))
    assert box(crop, 8, w20=4, w21=3) == [4, 3, 4, 4]
    assert box(crop, 8, w20=5, w21=4) == [0, 4, 4, 4]


def erased(config, side, rng):
    return erase(torch.ones(len(rng) if isinstance(rng, SampleRng) else 1, 1, side, side), config, rng) == 0


def test_the_ratio_of_an_erased_box_is_that_of_its_height_to_its_width():
    rng = Chosen()
    found = erased(Erasing(probability=1.0, scale=(0.0625, 0.0625), ratio=(4, 4)), 40, rng)[0, 0]
    assert (int(found.any(1).sum()), int(found.any(0).sum()), int(found.sum())) == (20, 5, 100)
    assert rng.stream == Stream.ERASING


def test_a_box_as_large_as_the_image_is_not_erased():
    assert not erased(Erasing(probability=1.0, scale=(1.0, 1.0), ratio=(1, 1)), 8, Chosen()).any()


def test_erasing_happens_with_its_probability():
    samples = erased(Erasing(probability=0.2), 20, SampleRng(0, 0, np.arange(2000))).flatten(1).any(1)
    assert samples.float().mean().item() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize(("side", "crop"), [(7, 4), (7, 2), (9, 4), (8, 4)])
def test_the_centre_is_that_of_torchvision(side, crop):
    images = torch.arange(side * side, dtype=torch.uint8).reshape(1, 1, side, side)
    assert torch.equal(crop_images(images, InputConfig(center_crop=crop)), tv.center_crop(images, [crop, crop]))


@pytest.mark.parametrize("antialias", [True, False])
def test_images_are_resized_with_antialiasing_on_request(antialias):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = crop_images(images, InputConfig(resize=Resize(size=12, antialias=antialias)))
    expected = tv.resize(images.float(), [12, 12], antialias=antialias).round().clamp(0, 255).to(torch.uint8)
    assert (found.int() - expected.int()).abs().max() <= 1
    assert (found == expected).float().mean() > 0.99


def test_counts_over_255_are_shares_of_it():
    frames = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 1, 3)
    found = encode_frames(frames, InputConfig(encoding="counts_255"))
    assert found.flatten().tolist() == pytest.approx([0.0, 0.2, 1.0])
