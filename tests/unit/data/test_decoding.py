"""Images are decoded by what is fastest to the bits that Pillow gives, whatever kind of file they are."""

import io
import itertools
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from PIL import Image
from torchvision.transforms import functional as tv

from spikedistill.data.formats.decoding import jpeg_header, parts, pillow, resample, turbo
from spikedistill.data.formats.decoding.encoded import EncodedImage
from spikedistill.errors import DataError

SIZES = [(61, 45), (64, 48), (33, 120), (1, 1), (7, 9), (16, 16), (17, 17)]
KINDS = {
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:2:0": {"subsampling": "4:2:0"},
    "progressive 4:2:0": {"subsampling": "4:2:0", "progressive": True},
    "progressive 4:4:4": {"subsampling": "4:4:4", "progressive": True},
    "optimized codes": {"optimize": True},
    "restart markers": {"restart_marker_rows": 1},
    "restart markers within rows": {"restart_marker_blocks": 3, "subsampling": "4:4:4"},
    "stored as RGB": {"keep_rgb": True, "subsampling": "4:4:4"},
    "poor": {"quality": 5},
    "best": {"quality": 100, "subsampling": "4:4:4"},
    "turned by Exif": {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
}
OTHERS = ("grey", "progressive grey", "CMYK", "4:4:0", "4:1:1", "bytes after the end", "PNG", "grey PNG", "PNG with alpha")


def picture(width, height, seed=0):
    """Edges, gradients and noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    smooth = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    values = np.asarray(Image.blend(coarse, smooth, 0.5)) + rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def saved(image, form="JPEG", **settings):
    stream = io.BytesIO()
    image.save(stream, form, **settings)
    return stream.getvalue()


def file_of(kind, size):
    """A file of some kind."""
    image = picture(*size)
    if kind in KINDS:
        return saved(image, **KINDS[kind])
    match kind:
        case "grey" | "progressive grey":
            return saved(image.convert("L"), progressive=kind != "grey")
        case "CMYK":
            return saved(image.convert("CMYK"))
        case "4:4:0" | "4:1:1":
            return simplejpeg.encode_jpeg(np.asarray(image), 90, colorsubsampling=kind.replace(":", ""))
        case "bytes after the end":
            return saved(image) + b"\0\0and so on"
        case "PNG":
            return saved(image, "PNG")
        case "grey PNG":
            return saved(image.convert("L"), "PNG")
        case _:
            return saved(image.convert("RGBA"), "PNG")


def boxes(width, height):
    """Some boxes (top, left, height, width), at the edges and within, down to one pixel."""
    rng = np.random.default_rng(width * height)
    yield 0, 0, height, width
    yield height - 1, width - 1, 1, 1
    yield 0, 0, 1, width
    for _ in range(12):
        top, left = rng.integers(0, height), rng.integers(0, width)
        yield int(top), int(left), int(rng.integers(1, height - top + 1)), int(rng.integers(1, width - left + 1))


def theirs(content):
    return Image.open(io.BytesIO(content)).convert("RGB")


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_crops_of_every_kind_of_file_are_those_of_torchvision(kind):
    for size in SIZES:
        content = file_of(kind, size)
        expected = theirs(content)
        for box, side in itertools.product(boxes(*size), (5, 28)):
            found = EncodedImage("a", content).resized_box(box, side)
            np.testing.assert_array_equal(found, tv.pil_to_tensor(tv.resized_crop(expected, *box, [side, side])))


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_middle_squares_of_every_kind_of_file_are_those_of_torchvision(kind):
    for size, side in itertools.product(SIZES, (4, 28, 45)):
        content = file_of(kind, size)
        expected = tv.center_crop(tv.resize(theirs(content), side), side)
        np.testing.assert_array_equal(EncodedImage("a", content).middle_square(side), tv.pil_to_tensor(expected))


def test_the_usual_kinds_are_decoded_by_libjpeg_turbo():
    assert turbo.same_as_pillow() == {"grey", "444", "422", "420"}
    usual = [kind for kind in (*KINDS, *OTHERS) if "PNG" not in kind and kind not in ("CMYK", "4:4:0", "4:1:1")]
    for kind in usual:
        content = file_of(kind, (61, 45))
        assert turbo.is_usable(jpeg_header.read_header(content)), kind


@pytest.mark.parametrize("kind", ["4:4:4", "4:2:2", "4:2:0", "grey", "restart markers", "stored as RGB"])
def test_no_more_rows_are_decoded_than_a_crop_needs_and_their_bits_are_those_of_the_whole(kind):
    content = file_of(kind, (61, 90))
    header = jpeg_header.read_header(content)
    whole = np.asarray(theirs(content))
    decoded = []
    for rows in range(1, 91):
        decoded.append(parts.around(content, header, slice(0, rows), slice(0, 61)).height)
        found = turbo.decode(content, header, slice(0, rows), slice(0, 61))
        np.testing.assert_array_equal(found[..., :3], whole[:rows])
    assert decoded[0] == header.unit_rows and decoded[-1] == 90 and len(set(decoded)) == -(-90 // header.unit_rows)


def test_the_rows_of_a_progressive_file_cannot_be_cut_off():
    content = file_of("progressive 4:2:0", (61, 90))
    header = jpeg_header.read_header(content)
    assert parts.around(content, header, slice(0, 1), slice(0, 61)) == parts.Part(content, 0, 0, 90, 61)


@pytest.mark.parametrize("kind", ["4:2:0", "grey", "progressive 4:4:4", "restart markers"])
@pytest.mark.parametrize("fast", [False, True])
def test_a_truncated_file_is_named_and_never_half_grey(kind, fast):
    content = file_of(kind, (61, 45))
    for length in (0, 1, 2, 20, len(content) // 3, len(content) * 2 // 3, len(content) * 9 // 10, len(content) - 3):
        with pytest.raises(DataError, match=r"^some/name: not an image that can be decoded"):
            EncodedImage("some/name", content[:length], fast=fast).resized_box((0, 0, 2, 2), 4)


@pytest.mark.parametrize("kind", ["4:4:4", "4:2:0", "grey", "restart markers", "progressive 4:2:0"])
@pytest.mark.parametrize("rows", [20, 45])
def test_what_damaged_bytes_give_is_what_pillow_makes_of_them(kind, rows):
    rng = np.random.default_rng(rows)
    content = file_of(kind, (61, 45))
    for _ in range(200):
        damaged = bytearray(content)
        for at in rng.integers(2, len(content), rng.integers(1, 4)):
            damaged[at] = rng.integers(0, 256)
        expected, found = (outcome(crop, bytes(damaged), rows) for crop in (crop_by_pillow, crop_by_us))
        assert found == expected, damaged.hex()


def outcome(crop, content, rows):
    try:
        return crop(content, rows).tobytes()
    except DataError as err:
        return str(err)


def crop_by_pillow(content, rows):
    image = pillow.read_image("a", content)
    part = image.crop((0, 0, image.width, min(rows, image.height)))
    return pillow.middle_of_resized(part, 20, 20, 20)


def crop_by_us(content, rows):
    image = EncodedImage("a", content)
    return image.resized_box((0, 0, min(rows, image.height), image.width), 20)


@pytest.mark.parametrize("kind", ["4:2:0", "grey", "CMYK", "PNG"])
@pytest.mark.parametrize("package", ["simplejpeg", "numba"])
def test_without_a_package_all_is_the_same(kind, package, monkeypatch):
    content = file_of(kind, (161, 145))

    def crops():
        images = [EncodedImage("a", content, fast=fast) for fast in (False, True)]
        return [image.resized_box(box, 16) for image in images for box in boxes(161, 145)] + [
            image.middle_square(32) for image in images
        ]

    expected = crops()
    if package == "simplejpeg":
        monkeypatch.setattr(turbo, "decode_jpeg", None)
        monkeypatch.setattr(turbo, "same_as_pillow", turbo.same_as_pillow.__wrapped__)
    else:
        monkeypatch.setitem(sys.modules, "numba", None)
        monkeypatch.setattr(resample, "compiled", resample.compiled.__wrapped__)
    assert all(np.array_equal(one, other) for one, other in zip(crops(), expected, strict=True))


def test_a_decoder_that_differs_from_pillow_is_not_used(monkeypatch):
    def other(content, **settings):
        found = simplejpeg.decode_jpeg(content, **settings)
        found[..., 1] ^= 1
        return found

    content = file_of("4:2:0", (61, 45))
    monkeypatch.setattr(turbo, "decode_jpeg", other)
    monkeypatch.setattr(turbo, "same_as_pillow", turbo.same_as_pillow.__wrapped__)
    assert not turbo.same_as_pillow()
    np.testing.assert_array_equal(EncodedImage("a", content).middle_square(28), crop_by_pillow_of(content, 28))


def test_arithmetic_that_differs_from_pillow_is_not_used(monkeypatch):
    monkeypatch.setattr(resample, "_HALF", resample._HALF - 1)
    assert resample.compiled.__wrapped__() is None


def test_resizing_gives_the_bits_of_pillow_for_any_sizes():
    assert resample.compiled() is not None
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width, new_height, new_width = rng.integers(1, 150, 4).tolist()
        side = int(rng.integers(1, min(new_height, new_width) + 1))
        large = rng.integers(0, 256, (height + 3, width + 5, 4), dtype=np.uint8)
        part = large[1 : 1 + height, 2 : 2 + width]
        expected = pillow.middle_of_resized(Image.fromarray(part[..., :3].copy()), new_width, new_height, side)
        found = np.empty_like(expected)
        assert resample.write_middle_square(part, new_height, new_width, found)
        np.testing.assert_array_equal(found, expected)


def crop_by_pillow_of(content, side):
    return pillow.middle_square(theirs(content), side)


def test_threads_do_not_write_into_each_others_pixels():
    files = [file_of("4:2:0", (200 + number, 150)) for number in range(32)]
    expected = [EncodedImage("a", content).middle_square(64).copy() for content in files]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda content: EncodedImage("a", content).middle_square(64).copy(), files * 4))
    assert all(np.array_equal(one, other) for one, other in zip(found, expected * 4, strict=True))


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="61 x 45 pixels, more than 1000 in all"):
        EncodedImage("a", file_of("4:2:0", (61, 45)))


def smooth(width, height):
    return picture(6, 5).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("length", "divisor"), [(223, 1), (447, 1), (448, 2), (896, 4), (1800, 8)])
def test_fast_decodes_to_a_fraction_that_leaves_enough_for_the_crop(length, divisor):
    content = saved(smooth(length, length), quality=90)
    reduced = pillow.read_image("a", content, divisor=divisor)
    assert reduced.width == -(-length // divisor)
    expected = tv.pil_to_tensor(tv.resize(reduced, [224, 224]))
    np.testing.assert_array_equal(EncodedImage("a", content, fast=True).resized_box((0, 0, length, length), 224), expected)
    np.testing.assert_array_equal(EncodedImage("a", content, fast=True).middle_square(224), expected)


@pytest.mark.parametrize("size", [(100, 80), (500, 375), (1000, 760)])
def test_fast_is_near_exact(size):
    content = saved(smooth(*size), quality=90)
    width, height = size
    for box in ((0, 0, height, width), (height // 3, width // 4, height // 2, width // 2), (1, 3, height - 2, width - 5)):
        exact = EncodedImage("a", content).resized_box(box, 48).astype(int)
        fast = EncodedImage("a", content, fast=True).resized_box(box, 48).astype(int)
        assert psnr(exact, fast) > 35
    exact, fast = (EncodedImage("a", content, fast=fast).middle_square(64).astype(int) for fast in (False, True))
    assert exact.shape == fast.shape == (3, 64, 64) and psnr(exact, fast) > 35


def psnr(one, other):
    return 10 * np.log10(255**2 / max(((one - other) ** 2).mean(), 1e-9))


def test_what_is_not_a_jpeg_is_the_same_in_both_ways():
    for kind in ("PNG", "CMYK"):
        content = file_of(kind, (61, 45))
        exact, fast = (EncodedImage("a", content, fast=fast).middle_square(28) for fast in (False, True))
        np.testing.assert_array_equal(exact, fast)
