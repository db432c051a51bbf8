import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from spikedistill.data.datasets import digits, digits_dvs
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import decode_aedat2, write_aedat2
from spikedistill.data.prepare.frames import FrameParams, Recording, whole_files
from spikedistill.data.prepare.recordings.write import write_frames
from spikedistill.data.prepare.simulate import simulate_digits
from spikedistill.data.store import open_store
from spikedistill.errors import DataError

RECORDINGS_SHA256 = "d53209c3a091973c9b8e1b72d50e108b2592980c4e2e2f8453b3106116e9290e"

DECODE = whole_files(decode_aedat2)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits")
    digits.prepare(digits.Params(), raw=None, out=out, work=out, num_workers=1)
    return open_store(out)


def test_digits_are_the_images_of_scikit_learn_with_other_writers_held_out(images):
    source = load_digits()
    np.testing.assert_array_equal(images.samples[:, 0], source.images * 255 // 16)
    np.testing.assert_array_equal(images.labels, source.target)
    np.testing.assert_array_equal(images.split("test"), np.arange(1437, 1797))
    train = images.samples[:1437] / 255
    assert images.mean == pytest.approx((train.mean(),), abs=1e-6)
    assert images.std == pytest.approx((train.std(),), abs=1e-6)


@pytest.mark.slow
def test_the_simulated_camera_gives_the_same_bytes_everywhere(tmp_path):
    digest = hashlib.sha256()
    recordings = digits_dvs.record(tmp_path / "recordings", num_workers=2)
    for recording in recordings:
        digest.update(recording.file.read())
    assert len(recordings) == 1797
    assert digest.hexdigest() == RECORDINGS_SHA256


def test_a_recording_does_not_depend_on_its_batch():
    source = load_digits().images.astype(np.int64)
    together, alone = simulate_digits(source[:3], 0)[2], simulate_digits(source[2:3], 2)[0]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.diff(together.t) >= 0).all()
    assert together.x.max() < 34 and together.y.max() < 34


def test_every_bad_recording_is_reported_in_one_run(tmp_path):
    events = simulate_digits(load_digits().images[:1].astype(np.int64), 0)[0]
    write_aedat2(tmp_path / "good.aedat", events)
    (tmp_path / "empty.aedat").write_bytes(b"")
    (tmp_path / "page.aedat").write_bytes(b"<html>")
    recordings = [Recording(Member(str(tmp_path / f"{name}.aedat")), name, 0) for name in ("good", "empty", "page")]
    with pytest.raises(DataError) as caught:
        write_frames(recordings, DECODE, FrameParams(num_frames=4), tmp_path, sensor=(34, 34), num_workers=2)
    assert "2 of 3 recordings cannot be used" in str(caught.value)
    assert "empty.aedat" in str(caught.value) and "page.aedat" in str(caught.value)
    assert not (tmp_path / "frames.npy").exists()


def test_frames_keep_every_event(tmp_path):
    recorded = simulate_digits(load_digits().images[:2].astype(np.int64), 0)
    for number, events in enumerate(recorded):
        write_aedat2(tmp_path / f"{number}.aedat", events)
    recordings = [Recording(Member(str(tmp_path / f"{n}.aedat")), str(n), n) for n in range(2)]
    rows = write_frames(recordings, DECODE, FrameParams(num_frames=4), tmp_path, sensor=(34, 34), num_workers=1)
    frames = np.load(tmp_path / "frames.npy")
    assert [row["events"] for row in rows] == [len(e.t) for e in recorded] == frames.sum((1, 2, 3, 4)).tolist()


def test_the_dataset_of_events_describes_what_it_prepares():
    meta = digits_dvs.describe(digits_dvs.Params(num_frames=6))
    assert (meta.kind, meta.num_frames, meta.channels, meta.height, meta.width, meta.num_classes) == ("frames", 6, 2, 34, 34, 10)
