"""Augmentation against torchvision, with the random words of the batch."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, InterpolationMode, v2
from torchvision.transforms import functional as tv
from torchvision.transforms.autoaugment import _apply_op

from spikedistill.data.formats.decoding.pillow import middle_square
from spikedistill.data.loading.augment import BOX_WORDS, Augment, Erasing, ResizedCrop, augment_batch, erase, resized_crop_boxes
from spikedistill.data.loading.auto_augment import Style, apply_steps, auto_augment
from spikedistill.data.loading.inputs import InputConfig, Resize, crop_images, encode_frames, normalize
from spikedistill.data.loading.policies import POLICIES, Steps, choose_steps, policy_of
from spikedistill.data.loading.resample import resized_crop
from spikedistill.data.loading.rng import SampleRng, Stream, below, uniform

FILL = Style().fill
OPERATIONS = {
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "color": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
}


def rng_of(count, epoch=0):
    return SampleRng(0, epoch, np.arange(count, dtype=np.int64))


def smooth_images(count, height, width, seed=0):
    """Images with structure, among them a flat one and one with few grey values."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 5, 5), generator=generator).float()
    fine = torch.randint(-20, 21, (count, 3, height, width), generator=generator)
    images = (torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic") + fine).clamp(0, 255).to(torch.uint8)
    images[0] = 77
    images[1] = images[1] // 100 * 100
    return images


def of_torchvision(image, name, strength, negative):
    """One operation as torchvision's AutoAugment does it; PIL image or tensor."""
    _, height, width = tv.get_dimensions(image)
    magnitudes, signed = AutoAugment()._augmentation_space(10, (height, width))[OPERATIONS[name]]
    magnitude = float(magnitudes[strength]) if magnitudes.ndim else 0.0
    fill = [float(FILL)] * 3 if isinstance(image, torch.Tensor) else (FILL,) * 3
    return _apply_op(image, OPERATIONS[name], -magnitude if signed and negative else magnitude, InterpolationMode.NEAREST, fill)


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_policies_are_those_of_torchvision(policy):
    theirs = AutoAugment(AutoAugmentPolicy(policy)).policies
    ours = [tuple((OPERATIONS[name], p, strength) for name, p, strength in pair) for pair in POLICIES[policy]]
    assert ours == [tuple((name, p, strength or 0) for name, p, strength in pair) for pair in theirs]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(32, 32), (21, 30)])
def test_every_operation_equals_torchvision_at_every_strength(name, shape):
    strength = np.repeat(np.arange(10), 4)
    negative = np.tile([False, True], 20)
    images = smooth_images(40, *shape)
    expected = torch.stack([of_torchvision(*row) for row in zip(images, [name] * 40, strength, negative, strict=True)])
    changed = images.clone()
    apply_steps(changed, Steps(np.array([name] * 40), strength, negative, np.ones(40, dtype=bool)))
    assert torch.equal(changed, expected)


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_auto_augment_equals_torchvision_for_the_same_random_words(policy):
    images = smooth_images(600, 32, 32)
    halves = choose_steps(policy_of(policy, "torchvision"), rng_of(600))
    expected = []
    for number, image in enumerate(images):
        for steps in halves:
            if steps.applied[number]:
                image = of_torchvision(image, steps.operation[number], steps.strength[number], steps.negative[number])
        expected.append(image)
    assert torch.equal(auto_augment(images, policy, rng_of(600)), torch.stack(expected))
    used = {str(name) for steps in halves for name in steps.operation[steps.applied]}
    assert used == {name for pair in POLICIES[policy] for name, p, _ in pair if p > 0}


def test_auto_augment_is_close_to_that_of_pillow_images():
    """Most recipes run on Pillow images, whose operations round otherwise: documented, not equal."""
    images = smooth_images(600, 32, 32)[2:]
    rng = SampleRng(0, 0, np.arange(2, 600))
    halves = choose_steps(POLICIES["cifar10"], rng)
    expected = []
    for number, image in enumerate(images):
        picture = tv.to_pil_image(image)
        for steps in halves:
            if steps.applied[number]:
                picture = of_torchvision(picture, steps.operation[number], steps.strength[number], steps.negative[number])
        expected.append(tv.pil_to_tensor(picture))
    difference = (auto_augment(images, "cifar10", rng).int() - torch.stack(expected).int()).abs()
    assert (difference > 2).float().mean() < 0.03
    assert difference.float().mean() < 0.6


def of_pillow(image, name, strength, negative, fill):
    """One geometric operation, or solarizing, as written for Pillow images before torchvision had AutoAugment."""
    width, height = image.size
    sign, grey = -1 if negative else 1, (fill,) * 3
    shear, translation = sign * np.linspace(0, 0.3, 10)[strength], sign * np.linspace(0, 150 / 331, 10)[strength]
    coefficients = {
        "shear_x": (1, shear, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, shear, 1, 0),
        "translate_x": (1, 0, translation * width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, translation * height),
    }
    if name == "rotate":
        turned = image.convert("RGBA").rotate(np.linspace(0, 30, 10)[strength])
        return Image.composite(turned, Image.new("RGBA", image.size, (*grey, fill)), turned).convert("RGB")
    if name == "solarize":
        return ImageOps.solarize(image, np.linspace(256, 0, 10)[strength])
    resampling = Image.Resampling.BICUBIC if name.startswith("shear") else Image.Resampling.NEAREST
    return image.transform(image.size, Image.Transform.AFFINE, coefficients[name], resampling, fillcolor=grey)


@pytest.mark.parametrize("shape", [(32, 32), (37, 52)])
@pytest.mark.parametrize("fill", [128, 0])
@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "translate_y", "rotate", "solarize"])
def test_operations_of_the_older_code_equal_pillow_at_every_strength(name, fill, shape):
    images = smooth_images(20, *shape)
    strength, negative = np.arange(20) // 2, np.arange(20) % 2 == 1
    expected = [
        of_pillow(Image.fromarray(image.permute(1, 2, 0).numpy()), name, *choice, fill)
        for image, *choice in zip(images, strength.tolist(), negative.tolist(), strict=True)
    ]
    apply_steps(images, Steps(np.full(20, name), strength, negative, np.ones(20, bool)), Style("sealkd", fill))
    found = images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(found, np.stack([np.asarray(image) for image in expected]))


def test_policies_of_the_older_code():
    (changed,) = [
        (a, b) for a, b in zip(policy_of("cifar10", "torchvision"), policy_of("cifar10", "sealkd"), strict=True) if a != b
    ]
    assert changed == ((("equalize", 0.2, 0), ("equalize", 0.6, 0)), (("equalize", 0.2, 0), ("equalize", 0.8, 0)))
    assert policy_of("imagenet", "sealkd") == policy_of("imagenet", "torchvision")[:24]


def test_the_fill_is_what_moves_in_from_outside():
    images = torch.full((2, 3, 16, 16), 200, dtype=torch.uint8)
    steps = Steps(np.full(2, "translate_x"), np.full(2, 9), np.zeros(2, bool), np.ones(2, bool))
    for variant in ("torchvision", "sealkd"):
        moved = images.clone()
        apply_steps(moved, steps, Style(variant, 0))
        assert sorted(moved.unique().tolist()) == [0, 200]


def test_a_variant_without_auto_augment_is_refused():
    with pytest.raises(ValueError, match="no effect without auto_augment"):
        Augment(auto_augment_fill=0)
    Augment(auto_augment="cifar10", auto_augment_fill=0, auto_augment_variant="sealkd")


def test_auto_augment_follows_the_probabilities_of_its_policy():
    first, second = choose_steps(POLICIES["cifar10"], rng_of(20000))
    both = (first.operation == "rotate") & (second.operation == "translate_x")
    assert abs(both.mean() - 1 / 25) < 0.005
    assert abs(first.applied[both].mean() - 0.7) < 0.06
    assert abs(second.applied[both].mean() - 0.3) < 0.06
    assert abs(first.negative.mean() - 0.5) < 0.02


def test_both_operations_of_a_sample_are_drawn_independently():
    halves = (("invert", 0.5, 0), ("contrast", 0.5, 6))
    first, second = choose_steps((halves,), rng_of(4000))
    assert abs((first.applied & second.applied).mean() - 0.25) < 0.03
    assert abs((first.negative & second.negative).mean() - 0.25) < 0.03


def test_cifar_recipe_equals_torchvision_for_the_same_random_words():
    """Crop, flip, Cutout, normalise: to the bit."""
    images = smooth_images(100, 32, 32)
    words = rng_of(100, epoch=3).words(Stream.GEOMETRY, 8)
    mean, std = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]
    expected = []
    for image, (crop_y, crop_x, flip, cut_y, cut_x, *_) in zip(images, words.tolist(), strict=True):
        image = tv.crop(tv.pad(image, [4]), crop_y % 9, crop_x % 9, 32, 32)
        image = tv.to_dtype(image, torch.float32, scale=True) if hasattr(tv, "to_dtype") else image.float() / 255
        image = tv.hflip(image) if flip % 2 else image
        top, left = cut_y % 32 - 8, cut_x % 32 - 8
        bottom, right = top + 16, left + 16
        top, left = max(top, 0), max(left, 0)
        image = tv.erase(image, top, left, bottom - top, right - left, torch.zeros(1, 1, 1))
        expected.append(tv.normalize(image, mean, std))
    changed = augment_batch(images, Augment(crop_padding=4, flip=True, cutout=16), rng_of(100, epoch=3))
    ours = normalize(changed, torch.tensor(mean).reshape(1, 3, 1, 1), torch.tensor(std).reshape(1, 3, 1, 1))
    assert torch.equal(ours, torch.stack(expected))


def test_augmentation_equals_a_plain_loop_over_samples():
    samples = torch.arange(5 * 2 * 6 * 7).reshape(5, 2, 6, 7)
    rng = rng_of(5, epoch=1)
    words = rng.words(Stream.GEOMETRY, 8).tolist()
    pad, roll = 2, 3
    changed = augment_batch(samples, Augment(crop_padding=pad, flip=True, roll=roll), rng)
    for number, word in enumerate(words):
        padded = torch.nn.functional.pad(samples[number], (pad, pad, pad, pad))
        top, left = word[0] % (2 * pad + 1), word[1] % (2 * pad + 1)
        crop = padded[:, top : top + 6, left : left + 7]
        flipped = crop.flip(-1) if word[2] % 2 else crop
        shift = (word[5] % (2 * roll + 1) - roll, word[6] % (2 * roll + 1) - roll)
        assert torch.equal(changed[number], flipped.roll(shift, (-2, -1)))


def test_one_operation_per_event_sample_is_the_same_in_all_its_frames():
    frames = torch.randint(0, 9, (60, 4, 2, 12, 12), dtype=torch.uint8)
    augment = Augment(roll=5, rotate=30, cutout=6, one_of=True)
    rng = rng_of(60)
    event, words = rng.words(Stream.EVENTS, 4), rng.words(Stream.GEOMETRY, 8).tolist()
    changed = augment_batch(frames, augment, rng)
    for number in range(60):
        sample, word = frames[number], words[number]
        choice = int(event[number, 0] % np.uint64(3))
        if choice == 0:
            expected = sample.roll((word[5] % 11 - 5, word[6] % 11 - 5), (-2, -1))
        elif choice == 1:
            expected = tv.rotate(sample, float(uniform(event[number, 1:2], -30, 30)[0]), InterpolationMode.NEAREST)
        else:
            expected = sample.clone()
            top, left = word[3] % 12 - 3, word[4] % 12 - 3
            expected[..., max(top, 0) : top + 6, max(left, 0) : left + 6] = 0
        assert torch.equal(changed[number], expected), (number, choice)
    assert set((event[:, 0] % np.uint64(3)).tolist()) == {0, 1, 2}


def test_cutout_blanks_a_square_clipped_at_the_border():
    blanked = (augment_batch(torch.ones(64, 1, 8, 8), Augment(cutout=4), rng_of(64, epoch=1)) == 0).sum((1, 2, 3))
    assert set(blanked.tolist()) <= {a * b for a in (2, 3, 4) for b in (2, 3, 4)}
    assert 16 in blanked.tolist()


def test_random_resized_crops_follow_the_rule_of_torchvision():
    config = ResizedCrop()
    words = rng_of(4000).words(Stream.RESIZED_CROP, BOX_WORDS)
    boxes = resized_crop_boxes(config, words, 90, 120)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] >= 1).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 90).all() and (boxes[:, 1] + boxes[:, 3] <= 120).all()
    share = boxes[:, 2] * boxes[:, 3] / (90 * 120)
    torch.manual_seed(0)
    transform = v2.RandomResizedCrop(8)
    theirs = [transform.make_params([torch.zeros(3, 90, 120)]) for _ in range(4000)]
    their_share = np.array([p["height"] * p["width"] for p in theirs]) / (90 * 120)
    their_top = np.array([p["top"] for p in theirs])
    assert np.abs(np.quantile(share, [0.1, 0.5, 0.9]) - np.quantile(their_share, [0.1, 0.5, 0.9])).max() < 0.03
    assert abs(boxes[:, 0].mean() - their_top.mean()) < 1.5
    ratio = boxes[:, 3] / boxes[:, 2]
    assert ratio.min() > 0.7 and ratio.max() < 1.45


def test_a_box_that_never_fits_is_the_largest_one_in_the_middle():
    words = rng_of(3).words(Stream.RESIZED_CROP, BOX_WORDS)
    wide = resized_crop_boxes(ResizedCrop(scale=(1, 1)), words, 10, 100)
    tall = resized_crop_boxes(ResizedCrop(scale=(1, 1)), words, 100, 10)
    assert wide.tolist() == [[0, 43, 10, 13]] * 3
    assert tall.tolist() == [[43, 0, 13, 10]] * 3


def test_a_resized_crop_on_the_device_is_that_of_pillow():
    images = smooth_images(50, 64, 64)
    boxes = resized_crop_boxes(ResizedCrop(), rng_of(50).words(Stream.RESIZED_CROP, BOX_WORDS), 64, 64)
    boxes[0] = [0, 0, 64, 64]
    ours = resized_crop(images, boxes, 28)
    for image, box, mine in zip(images, boxes, ours, strict=True):
        picture = tv.to_pil_image(image)
        theirs = tv.pil_to_tensor(tv.resized_crop(picture, *box.tolist(), [28, 28]))
        assert (mine.int() - theirs.int()).abs().max() <= 1
        rows_first = tv.resized_crop(picture, *box.tolist(), [int(box[2]), 28])
        assert torch.equal(mine, tv.pil_to_tensor(tv.resize(rows_first, [28, 28])))


@pytest.mark.parametrize("size", [(70, 50), (33, 95), (40, 40)])
def test_images_in_files_are_cropped_as_torchvision_does(size):
    picture = tv.to_pil_image(smooth_images(2, *size)[1])
    expected = tv.pil_to_tensor(tv.center_crop(tv.resize(picture, 32), 28))
    square = torch.from_numpy(middle_square(picture, 32).copy())[None]
    assert torch.equal(crop_images(square, InputConfig(center_crop=28))[0], expected)


def test_erasing_follows_the_rule_of_torchvision():
    inputs = torch.ones(4000, 1, 20, 30)
    erased = erase(inputs, Erasing(probability=0.5), rng_of(4000)) == 0
    share = erased.float().mean((1, 2, 3)).numpy()
    assert abs((share > 0).mean() - 0.5) < 0.03
    assert share[share > 0].max() < 0.36
    torch.manual_seed(0)
    transform = v2.RandomErasing(p=1.0)
    theirs = (torch.stack([transform(inputs[0]) for _ in range(4000)]) == 0).float()
    assert abs(share[share > 0].mean() - theirs.mean().item()) < 0.01
    heights = erased.any(3).sum((1, 2)).numpy()[share > 0]
    assert abs(heights.mean() - theirs.any(3).sum((1, 2)).double().mean().item()) < 0.4


@pytest.mark.parametrize("antialias", [False, True])
def test_frames_are_resized_as_torchvision_does(antialias):
    frames = torch.randint(0, 20, (3, 4, 2, 128, 128), dtype=torch.uint8)
    ours = encode_frames(frames, InputConfig(resize=Resize(size=48, antialias=antialias)))
    torch.testing.assert_close(ours, v2.functional.resize(frames.float(), [48, 48], antialias=antialias), rtol=0, atol=1e-5)
    other = encode_frames(frames, InputConfig(resize=Resize(size=48, antialias=not antialias)))
    assert (ours - other).abs().mean() > 0.5


@pytest.mark.parametrize("size", [None, 24])
def test_frames_through_pillow_images_are_those_of_the_loaders_that_do_so(size):
    frames = torch.randint(0, 7, (4, 2, 2, 40, 40), dtype=torch.uint8)
    frames[0, 0, 1, :20] = 0
    resize = None if size is None else Resize(size=size, antialias=True)
    ours = encode_frames(frames, InputConfig(encoding="pil_wrap", resize=resize)).flatten(0, 1)
    for frame, mine in zip(frames.flatten(0, 1), ours, strict=True):
        picture = tv.to_pil_image(frame.float())
        assert picture.mode == "LA"
        theirs = tv.to_tensor(picture if size is None else tv.resize(picture, [size, size]))
        assert torch.equal(mine, theirs)


def test_the_random_words_of_a_sample_depend_on_its_position_alone():
    whole = SampleRng(3, 2, np.arange(100, dtype=np.int64))
    for stream, count in ((Stream.GEOMETRY, 8), (Stream.RESIZED_CROP, BOX_WORDS)):
        part = SampleRng(3, 2, np.array([90, 7, 31])).words(stream, count)
        np.testing.assert_array_equal(part, whole.words(stream, count)[[90, 7, 31]])
    assert math.isclose(float(uniform(whole.words(Stream.EVENTS, 4)).mean()), 0.5, abs_tol=0.05)


@pytest.mark.parametrize("shape", [(9, 3, 6, 5), (9, 4, 2, 6, 5)])
def test_samples_that_are_only_mirrored_are_those_of_a_gather(shape):
    samples = torch.randint(0, 256, shape, dtype=torch.uint8)
    before = samples.clone()
    mirrored = augment_batch(samples, Augment(flip=True), rng_of(9))
    chosen = below(rng_of(9).words(Stream.GEOMETRY, 8)[:, 2], 2) == 1
    assert 0 < chosen.sum() < 9
    for sample, found, flipped in zip(before, mirrored, chosen, strict=True):
        assert torch.equal(found, sample.flip(-1) if flipped else sample)
    assert torch.equal(samples, before)
