"""Parts of JPEG files are decoded without the rest, by entry points, to the bits of the whole."""

import io
import itertools
import sys

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional as tv

from spikedistill.data.formats.decoding import entry_points, finding, jpeg_header, parts, turbo
from spikedistill.data.formats.decoding.encoded import EncodedImage
from spikedistill.errors import DataError
from tests.unit.data.test_decoding import boxes, file_of, picture, saved, theirs

KINDS = ("4:2:0", "4:2:2", "4:4:4", "grey", "optimized codes", "stored as RGB", "poor", "best", "bytes after the end")
WITHOUT = ("progressive 4:2:0", "progressive grey", "restart markers", "restart markers within rows", "CMYK", "4:1:1", "PNG")
SIZES = [(301, 211), (160, 160), (97, 250), (33, 16), (1, 1)]


def edges(width, height):
    """Boxes at every edge and corner and at none, and whole rows."""
    spans = [[(0, side), (0, side // 3), (side // 3, side // 2), (side - side // 3, side // 3)] for side in (height, width)]
    for (top, down), (left, across) in itertools.product(*spans):
        if down and across:
            yield top, left, down, across


def decoded(content, box):
    """The pixels of a box, and whether less was decoded than all rows down to its last."""
    top, left, height, width = box
    header = jpeg_header.read_header(content)
    rows, columns = slice(top, top + height), slice(left, left + width)
    part = parts.around(content, header, rows, columns)
    return turbo.decode(content, header, rows, columns)[..., :3].copy(), not part.has_surplus and part.content is not content


def parsed(content):
    header = jpeg_header.read_header(content)
    return entry_points.parsed(entry_points.inside(content, header), header)


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_of_any_box_are_those_of_the_whole(kind):
    less = 0
    for size in SIZES:
        content = file_of(kind, size)
        found = finding.added(content)
        assert len(found) > len(content)
        whole = np.asarray(theirs(content))
        for box in itertools.chain(edges(*size), boxes(*size)):
            pixels, is_less = decoded(found, box)
            less += is_less
            top, left, height, width = box
            np.testing.assert_array_equal(pixels, whole[top : top + height, left : left + width], err_msg=str((size, box)))
    assert less > 40


@pytest.mark.parametrize("kind", KINDS)
def test_crops_are_those_of_torchvision(kind):
    size = SIZES[0]
    content = file_of(kind, size)
    image = EncodedImage("a", finding.added(content))
    expected = theirs(content)
    for box in itertools.chain(edges(*size), boxes(*size)):
        found = image.resized_box(box, 28)
        np.testing.assert_array_equal(found, tv.pil_to_tensor(tv.resized_crop(expected, *box, [28, 28])))
    np.testing.assert_array_equal(image.middle_square(64), EncodedImage("a", content).middle_square(64))


@pytest.mark.parametrize("kind", ["4:2:0", "4:4:4", "4:2:2", "grey"])
def test_crops_of_the_divided_image_are_the_same_too(kind):
    content = file_of(kind, (601, 433))
    plain, found = (EncodedImage("a", each, fast=True) for each in (content, finding.added(content)))
    for box, side in itertools.product(edges(601, 433), (12, 24, 60)):
        np.testing.assert_array_equal(found.resized_box(box, side), plain.resized_box(box, side), err_msg=str(box))


def test_less_is_decoded_the_smaller_the_box_is():
    content = finding.added(file_of("4:2:0", (640, 480)))
    header = jpeg_header.read_header(content)
    small = parts.around(content, header, slice(200, 232), slice(320, 352))
    large = parts.around(content, header, slice(100, 400), slice(100, 500))
    assert small.height <= 64 and small.width <= 112
    assert len(small.content) < len(large.content) / 4 < len(content) / 4
    assert parts.around(content, header, slice(0, 480), slice(0, 640)).content is content


def test_entry_points_beside_the_file_do_as_well():
    content = file_of("4:2:0", (301, 211))
    points = finding.found(content)
    assert points == finding.found(finding.added(content))
    header, whole = jpeg_header.read_header(content), np.asarray(theirs(content))
    for top, left, height, width in edges(301, 211):
        rows, columns = slice(top, top + height), slice(left, left + width)
        np.testing.assert_array_equal(turbo.decode(content, header, rows, columns, points=points)[..., :3], whole[rows, columns])
    part = parts.around(content, header, slice(100, 120), slice(100, 120), points)
    assert part.height <= 64 and len(part.content) < len(content) / 3


def test_entry_points_of_a_file_that_was_replaced_are_not_used():
    points = finding.found(file_of("4:2:0", (301, 211)))
    other = saved(picture(301, 211, seed=1), quality=80)
    header, whole = jpeg_header.read_header(other), np.asarray(theirs(other))
    for top, left, height, width in edges(301, 211):
        rows, columns = slice(top, top + height), slice(left, left + width)
        np.testing.assert_array_equal(turbo.decode(other, header, rows, columns, points=points)[..., :3], whole[rows, columns])


def test_the_file_is_the_same_jpeg_with_one_more_segment():
    content = file_of("4:2:0", (301, 211))
    found = finding.added(content)
    header = jpeg_header.read_header(found)
    start, end = header.entry_points
    assert found[:start] + found[end:] == content
    np.testing.assert_array_equal(theirs(found), theirs(content))
    assert finding.added(found) == found


@pytest.mark.parametrize("kind", WITHOUT)
def test_files_that_can_have_none_stay_as_they_are(kind):
    content = file_of(kind, (120, 90))
    assert finding.added(content) == content


def test_damaged_files_stay_as_they_are_or_decode_as_before():
    content = file_of("4:2:0", (120, 90))
    for length in range(0, len(content), 7):
        assert finding.added(content[:length]) == content[:length]
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for at in rng.integers(2, len(content), rng.integers(1, 4)):
            damaged[at] = rng.integers(0, 256)
        found = finding.added(bytes(damaged))
        header = jpeg_header.read_header(found)
        if header is not None and header.entry_points is not None:
            start, end = header.entry_points
            assert found[:start] + found[end:] == damaged


def test_entry_points_that_do_not_fit_do_no_harm():
    content = finding.added(file_of("4:2:0", (301, 211)))
    start, end = jpeg_header.read_header(content).entry_points
    rng = np.random.default_rng(0)
    names = 4 + len(jpeg_header.ENTRY_POINTS)
    for number in range(400):
        damaged = bytearray(content)
        first = start + names if number % 2 else start + names + 2 + 3 * 13 * 4
        for at in rng.integers(first, end, rng.integers(1, 30)):
            damaged[at] = rng.integers(0, 256)
        for box in edges(301, 211):
            assert EncodedImage("a", bytes(damaged)).resized_box(box, 24).shape == (3, 24, 24)


def test_entry_points_of_another_version_or_size_are_left_alone():
    content = file_of("4:2:0", (301, 211))
    found = finding.added(content)
    start, _ = jpeg_header.read_header(found).entry_points
    version = start + 4 + len(jpeg_header.ENTRY_POINTS)
    for at, value in ((version, 2), (version + 1, 1), (version + 1, 0)):
        other = bytearray(found)
        other[at] = value
        assert parsed(bytes(other)) is None
        assert not decoded(bytes(other), (50, 60, 70, 80))[1]


def test_entry_points_at_another_place_in_the_file_are_left_alone():
    content = file_of("4:2:0", (301, 211))
    found = finding.added(content)
    start, end = jpeg_header.read_header(found).entry_points
    other = content[:2] + found[start:end] + content[2:]
    assert jpeg_header.read_header(other).entry_points is None
    np.testing.assert_array_equal(decoded(other, (50, 60, 70, 80))[0], np.asarray(theirs(content))[50:120, 60:140])


def test_the_entry_points_of_a_large_image_are_further_apart():
    step = {}
    for size in ((500, 375), (4000, 2000)):
        content = finding.added(saved(picture(20, 20).resize(size), quality=60))
        step[size] = parsed(content).step
        whole = np.asarray(theirs(content))
        pixels, is_less = decoded(content, (100, 150, 130, 170))
        np.testing.assert_array_equal(pixels, whole[100:230, 150:320])
        assert is_less
    assert step == {(500, 375): 2, (4000, 2000): 8}


def test_a_code_that_an_optimized_file_lacks_makes_no_part():
    values = np.zeros((128, 128), dtype=np.uint8)  # differences of 0 between blocks, but for a single large one
    values[:, 64:] = 255
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "JPEG", optimize=True)
    content = finding.added(stream.getvalue())
    codes = parsed(content).codes
    assert (codes == 0).any()
    for box in edges(128, 128):
        top, left, height, width = box
        np.testing.assert_array_equal(
            decoded(content, box)[0], np.asarray(theirs(content))[top : top + height, left : left + width]
        )


def test_without_numba_they_are_not_used(monkeypatch):
    content = finding.added(file_of("4:2:0", (301, 211)))
    expected = EncodedImage("a", content).resized_box((50, 60, 70, 80), 24)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "spikedistill.data.formats.decoding.entropy")
    monkeypatch.delattr("spikedistill.data.formats.decoding.entropy")
    monkeypatch.setattr(parts, "_entropy", parts._entropy.__wrapped__)
    assert not decoded(content, (50, 60, 70, 80))[1]
    np.testing.assert_array_equal(EncodedImage("a", content).resized_box((50, 60, 70, 80), 24), expected)


def test_a_truncated_file_with_entry_points_is_named():
    content = finding.added(file_of("4:2:0", (301, 211)))
    for length in (len(content) // 3, len(content) * 9 // 10, len(content) - 3):
        with pytest.raises(DataError, match=r"^some/name: not an image that can be decoded"):
            EncodedImage("some/name", content[:length]).resized_box((0, 0, 2, 2), 4)
