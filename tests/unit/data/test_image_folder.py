"""`image-folder`: images of any usual format become one array; their shape is found, or asked for."""

import errno
import io
import logging

import numpy as np
import pytest
from PIL import Image

from spikedistill.data.datasets import image_folder
from spikedistill.data.formats.decoding.pillow import middle_square
from spikedistill.data.formats.pictures import Pictures, Shape
from spikedistill.data.prepare.own_files import Listing, OwnFile
from spikedistill.data.prepare.workers import shared_zeros
from spikedistill.data.scan import filled_params
from spikedistill.data.store import open_store
from spikedistill.errors import DataError
from tests.files import contents, write_files


def pixels(seed, size=(12, 10), channels=3):
    shape = (*size, channels) if channels > 1 else size
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def encoded(array, form, **options):
    stream = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(stream, form, **options)
    return stream.getvalue()


def folder_files(form="PNG", ending="png", make=pixels, **options):
    return {
        f"{part}/{c}/{n}.{ending}": encoded(make(100 * label + 10 * n + (part == "test")), form, **options)
        for part in ("train", "test")
        for label, c in enumerate(("cat", "dog"))
        for n in range(2)
    }


def prepare(raw, **params):
    out = raw.parent / "out"
    out.mkdir(exist_ok=True)
    image_folder.prepare(image_folder.Params(**params), raw=raw, out=out, work=out, num_workers=2)
    return open_store(out)


def refusal(raw, **params):
    with pytest.raises(DataError) as caught:
        prepare(raw, **params)
    return str(caught.value)


@pytest.mark.parametrize(
    ("form", "ending", "options"),
    [
        ("PNG", "png", {}),
        ("PNG", "PNG", {}),
        ("TIFF", "tif", {}),
        ("TIFF", "tiff", {"compression": "tiff_lzw"}),
        ("BMP", "bmp", {}),
        ("WEBP", "webp", {"lossless": True}),
        ("PPM", "ppm", {}),
    ],
)
def test_pixels_of_lossless_formats_are_those_that_were_written(tmp_path, form, ending, options):
    raw = write_files(tmp_path / "raw", folder_files(form, ending, **options))
    before = contents(raw)
    store = prepare(raw)
    assert store.samples.shape == (8, 3, 12, 10)
    np.testing.assert_array_equal(store.take(store.split("train")[:1])[0].transpose(1, 2, 0), pixels(0))
    assert store.class_names == ("cat", "dog")
    assert store.labels[store.split("test")].tolist() == [0, 0, 1, 1]
    assert contents(raw) == before


def test_jpeg_is_decoded_as_pillow_does(tmp_path):
    files = folder_files("JPEG", "jpg", quality=95)
    store = prepare(write_files(tmp_path / "raw", files))
    expected = np.asarray(Image.open(io.BytesIO(files["train/cat/0.jpg"])).convert("RGB"))
    np.testing.assert_array_equal(store.take(store.split("train")[:1])[0].transpose(1, 2, 0), expected)


def test_grey_images_have_one_channel_and_become_three_where_that_is_stated(tmp_path):
    raw = write_files(tmp_path / "raw", folder_files(make=lambda seed: pixels(seed, channels=1)))
    one = prepare(raw)
    assert one.samples.shape == (8, 1, 12, 10) and len(one.mean) == 1
    grey = np.array(one.samples[:, 0])
    three = prepare(raw, channels=3)
    assert three.samples.shape == (8, 3, 12, 10)
    for channel in range(3):
        np.testing.assert_array_equal(three.samples[:, channel], grey)


def test_colours_become_grey_where_that_is_stated(tmp_path):
    raw = write_files(tmp_path / "raw", folder_files())
    store = prepare(raw, channels=1)
    expected = np.asarray(Image.fromarray(pixels(0)).convert("L"))
    np.testing.assert_array_equal(store.take(store.split("train")[:1])[0, 0], expected)


@pytest.mark.parametrize(("form", "ending"), [("TIFF", "tif"), ("PNG", "png")])
def test_16_bit_grey_values_are_divided_by_256(tmp_path, form, ending):
    values = lambda seed: np.random.default_rng(seed).integers(0, 65536, (6, 5)).astype(np.uint16)  # noqa: E731
    raw = write_files(tmp_path / "raw", folder_files(form, ending, values))
    store = prepare(raw)
    assert store.samples.shape == (8, 1, 6, 5)
    np.testing.assert_array_equal(store.take(store.split("train")[:1])[0, 0], values(0) >> 8)


def test_16_bit_values_mean_the_same_in_every_format(tmp_path):
    make = lambda seed: np.random.default_rng(seed).integers(0, 65536, (6, 5)).astype(np.uint16)  # noqa: E731
    pgm, tif = make(77), make(78)
    files = folder_files(make=make)
    files["train/cat/00.pgm"] = b"P5 5 6 65535\n" + pgm.astype(">u2").tobytes()
    files["train/cat/01.tif"] = encoded(tif, "TIFF", tiffinfo={262: 0})  # photometric interpretation: 0 is white
    store = prepare(write_files(tmp_path / "raw", files), channels=1)
    first, second = store.take(store.split("train")[1:3])[:, 0]
    np.testing.assert_array_equal(first, pgm >> 8)
    np.testing.assert_array_equal(second, 255 - (tif >> 8))


def test_palettes_and_transparency_are_resolved(tmp_path):
    files = folder_files()
    files["train/cat/0.png"] = encoded(Image.fromarray(np.dstack([pixels(0), pixels(1, channels=1)])), "PNG")
    palette = Image.fromarray(pixels(1)).quantize(16)
    files["train/cat/1.png"] = encoded(palette, "PNG")
    store = prepare(write_files(tmp_path / "raw", files))
    first, second = store.take(store.split("train")[:2]).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(first, pixels(0))
    np.testing.assert_array_equal(second, np.asarray(palette.convert("RGB")))


def test_images_of_different_sizes_need_a_side_and_are_cropped_to_squares(tmp_path):
    files = folder_files()
    large = pixels(77, size=(40, 60))
    files["train/cat/0.png"] = encoded(large, "PNG")
    raw = write_files(tmp_path / "raw", files)
    message = refusal(raw)
    assert "images differ in size" in message and "has 60 x 40" in message and "dataset.params.side: 64" in message
    store = prepare(raw, side=9)
    assert store.samples.shape == (8, 3, 9, 9)
    np.testing.assert_array_equal(store.take(store.split("train")[:1])[0], middle_square(Image.fromarray(large), 9))


def test_an_image_of_another_size_than_stated_names_itself(tmp_path):
    raw = write_files(tmp_path / "raw", folder_files())
    message = refusal(raw, height=8, width=8)
    assert "8 of 8 images cannot be used" in message and "train/cat/0.png: 10 x 12 pixels, where 8 x 8 are expected" in message


def test_what_was_found_is_told_and_part_of_the_parameters(tmp_path, caplog):
    raw = write_files(tmp_path / "raw", folder_files())
    found = image_folder.scan(image_folder.Params(), raw)
    assert (found.height, found.width, found.channels, found.classes) == (12, 10, 3, ("cat", "dog"))
    assert image_folder.scan(found, tmp_path / "no such folder") == found
    meta = image_folder.describe(found)
    assert (meta.kind, meta.channels, meta.height, meta.width) == ("images", 3, 12, 10)
    with caplog.at_level(logging.INFO):
        prepare(raw)
    assert "2 classes (cat, dog), 4 + 4 samples" in caplog.text and "each of 10 x 12 pixels, colours" in caplog.text


def test_a_folder_that_changed_after_planning_is_refused(tmp_path):
    raw = write_files(tmp_path / "raw", folder_files())
    planned = image_folder.scan(image_folder.Params(), raw)
    (raw / "test/dog/0.png").unlink()
    with pytest.raises(DataError, match="not the files that this was planned with"):
        image_folder.prepare(planned, raw=raw, out=tmp_path, work=tmp_path, num_workers=1)


def test_damaged_and_foreign_images_are_all_named(tmp_path):
    files = folder_files()
    files["train/dog/0.png"] = files["train/dog/0.png"][:60]
    files["test/cat/0.png"] = b"<!DOCTYPE html>"
    pages = [Image.fromarray(pixels(seed)) for seed in (5, 6)]
    stream = io.BytesIO()
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    files["test/dog/pages.tif"] = stream.getvalue()
    files["test/dog/float.tif"] = encoded(Image.fromarray(np.zeros((12, 10), np.float32)), "TIFF")
    raw = write_files(tmp_path / "raw", files)
    message = refusal(raw, height=12, width=10, channels=3)
    assert "4 of 10 images cannot be used" in message
    for part in (
        "train/dog/0.png: not a picture that can be decoded",
        "test/cat/0.png: not a picture",
        "2 pictures in one file",
        "32-bit values",
    ):
        assert part in message


def test_copies_under_two_labels_or_in_both_splits_are_named(tmp_path):
    files = folder_files()
    raw = write_files(tmp_path / "raw", files | {"train/dog/copy.png": files["train/cat/0.png"]})
    assert "train/dog/copy.png = train/cat/0.png; one of the two was copied" in refusal(raw)
    raw = write_files(tmp_path / "raw2", files | {"test/cat/copy.png": files["train/cat/0.png"]})
    assert "test/cat/copy.png = train/cat/0.png" in refusal(raw)
    assert len(prepare(raw, strict=False).samples) == 9


@pytest.mark.parametrize(("count", "looked_at"), [(8, 8), (99, 99), (100, 100), (101, 51), (199, 100), (201, 67), (1000, 100)])
def test_up_to_100_images_are_looked_at(monkeypatch, tmp_path, count, looked_at):
    looked = []
    monkeypatch.setattr(image_folder, "shape_of", lambda path: looked.append(path) or Shape(8, 8, 3))
    files = tuple(OwnFile(f"{number:04}.png", 1, "a") for number in range(count))
    image_folder._shape(tmp_path, Listing(tmp_path, files, None, ""), image_folder.Params())
    assert len(looked) == looked_at


def test_an_image_that_cannot_be_opened_is_told_with_what_the_system_says(tmp_path, monkeypatch):
    raw = write_files(tmp_path / "raw", folder_files())

    def refused(path, *args, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(type(raw), "open", refused)
    with pytest.raises(DataError, match=r"raw/test/cat/0\.png: Permission denied; give yourself permission, or ask its owner$"):
        filled_params(image_folder, {}, str(raw))


def test_every_image_is_read_once_where_none_is_a_copy(tmp_path, monkeypatch):
    raw = write_files(tmp_path / "raw", folder_files())
    reads, content = shared_zeros(8, int), Pictures.content

    def counted(images, row):
        reads[row] += 1
        return content(images, row)

    monkeypatch.setattr(Pictures, "content", counted)
    prepare(raw)
    assert reads.tolist() == [1] * 8


@pytest.mark.parametrize(
    ("params", "message"), [({"height": 8}, "stated together"), ({"side": 8, "height": 9, "width": 9}, "state either side")]
)
def test_contradicting_sizes_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        image_folder.Params(**params)
