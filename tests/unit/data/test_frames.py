"""Recordings to one array: what is written, in which type, by how many processes, and what stops it."""

import errno
import functools
import os
import shutil
import zlib

import numpy as np
import pytest
from pydantic import ValidationError

from spikedistill.data.datasets.dvs128_gesture import cut_samples
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import Events, decode_aedat2, decode_atis
from spikedistill.data.prepare.frames import FrameParams, Recording, whole_files
from spikedistill.data.prepare.integrate import binned, integrate
from spikedistill.data.prepare.recordings.write import write_frames
from spikedistill.errors import DataError
from tests.event_files import aedat2_bytes, aedat3_bytes, atis_bytes, some_events

AEDAT2 = whole_files(decode_aedat2)
SENSOR = (128, 128)


def write(folder, contents, params, decode=AEDAT2, sensor=SENSOR, num_workers=1):
    """Frames and rows of files with these contents, all of label 0."""
    recordings = []
    for number, content in enumerate(contents):
        (folder / f"{number}.bin").write_bytes(content)
        recordings.append(Recording(Member(str(folder / f"{number}.bin")), f"a/{number}", 0))
    rows = write_frames(recordings, decode, params, folder, sensor=sensor, num_workers=num_workers)
    return np.load(folder / "frames.npy"), list(rows)


def events(seed, count=500, side=128):
    return some_events(seed, count, height=side, width=side)


@pytest.mark.parametrize("split_by", ["number", "time"])
@pytest.mark.parametrize(
    ("encode", "decode", "side"),
    [(aedat2_bytes, AEDAT2, 128), (atis_bytes, whole_files(decode_atis, height=34, width=34), 34)],
)
def test_rows_are_the_frames_of_their_recordings_whatever_the_processes(encode, decode, side, split_by, tmp_path):
    recorded = [events(seed, side=side) for seed in range(20)]
    params = FrameParams(num_frames=5, split_by=split_by)
    contents = [encode(each) for each in recorded]
    frames, rows = write(tmp_path, contents, params, decode, (side, side))
    for row, each in enumerate(recorded):
        expected = integrate(each, num_frames=5, split_by=split_by, height=side, width=side)
        np.testing.assert_array_equal(frames[row], expected)
        assert rows[row]["source"] == f"{tmp_path.name}/{row}.bin"
        assert rows[row]["events"] == frames[row].sum() == 500
        assert rows[row]["max"] == frames[row].max()
        assert rows[row]["crc32"] == f"{zlib.crc32(contents[row]):08x}"
        assert rows[row]["row_crc32"] == f"{zlib.crc32(frames[row].tobytes()):08x}"
    again, same = write(tmp_path, contents, params, decode, (side, side), num_workers=3)
    np.testing.assert_array_equal(again, frames)
    assert same == rows


def test_samples_cut_from_one_recording_have_the_events_of_their_windows(tmp_path):
    whole = some_events(1, 3000, height=128, width=128, start_us=10_000_000)
    (tmp_path / "a.aedat").write_bytes(aedat3_bytes(whole))
    windows = [(10_000_000, 10_100_000), (10_050_000, 10_200_000), (10_250_000, 11_000_000)]  # two overlap
    recordings = [Recording(Member(str(tmp_path / "a.aedat")), f"a/{n}", n, window) for n, window in enumerate(windows)]
    for in_order in (True, False):
        decode = functools.partial(cut_samples, in_order=in_order)
        rows = write_frames(recordings, decode, FrameParams(num_frames=3), tmp_path, sensor=SENSOR, num_workers=2)
        frames = np.load(tmp_path / "frames.npy")
        for row, (start, stop) in enumerate(windows):
            inside = (whole.t >= start) & (whole.t < stop)
            cut = Events(*(column[inside] for column in whole))
            np.testing.assert_array_equal(frames[row], integrate(cut, num_frames=3, split_by="number", height=128, width=128))
            assert rows[row]["window_us"] == [start, stop]


@pytest.mark.parametrize(("x", "y", "number"), [([0, 90], [0, 0], 1), ([0, 0], [0, 100], 1), ([95, 95], [0, 120], 2)])
def test_events_that_the_format_has_and_the_sensor_has_not_are_refused(x, y, number, tmp_path):
    recorded = Events(np.arange(2), np.array(x), np.array(y), np.ones(2, int))
    with pytest.raises(DataError, match=f"{number} events lie outside the 90 x 100 sensor; damaged or of another sensor"):
        write(tmp_path, [aedat2_bytes(recorded)], FrameParams(num_frames=1), sensor=(100, 90))


def test_frames_of_a_smaller_sensor_are_its_corner_of_what_the_format_has(tmp_path):
    recorded = Events(np.arange(3), np.array([0, 89, 5]), np.array([0, 99, 7]), np.ones(3, int))
    frames, _ = write(tmp_path, [aedat2_bytes(recorded)], FrameParams(num_frames=1), sensor=(100, 90))
    np.testing.assert_array_equal(frames[0], integrate(recorded, num_frames=1, split_by="number", height=100, width=90))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_one_count_above_255_makes_the_whole_array_16_bits_wide(num_workers, tmp_path):
    hot = Events(np.arange(700), np.full(700, 3), np.full(700, 5), np.ones(700, int))
    params = FrameParams(num_frames=2)
    frames, rows = write(tmp_path, [aedat2_bytes(events(1)), aedat2_bytes(hot)], params, num_workers=num_workers)
    assert frames.dtype == np.uint16
    assert frames[1, :, 1, 5, 3].tolist() == [350, 350]
    assert frames.sum((1, 2, 3, 4)).tolist() == [500, 700]
    assert rows[1]["max"] == 350
    for row in range(2):
        assert rows[row]["row_crc32"] == f"{zlib.crc32(frames[row].tobytes()):08x}"


def test_frames_of_a_duration_are_padded_and_recordings_with_more_are_refused_or_cut(tmp_path):
    content = aedat2_bytes(events(1))  # 0.3 s
    frames, [row] = write(tmp_path, [content], FrameParams(num_frames=5, split_by="duration", duration_us=100_000))
    expected = integrate(events(1), num_frames=None, split_by="duration", duration_us=100_000, height=128, width=128)
    np.testing.assert_array_equal(frames[0, :3], expected)
    assert frames[0, 3:].sum() == 0 and row["frames"] == 3
    short = {"num_frames": 2, "split_by": "duration", "duration_us": 100_000}
    with pytest.raises(DataError, match="3 frames of 100000 us; raise num_frames, or set overlong: cut"):
        write(tmp_path, [content], FrameParams(**short))
    frames, _ = write(tmp_path, [content], FrameParams(**short, overlong="cut"))
    np.testing.assert_array_equal(frames[0], expected[:2])
    for wrong in ({"duration_us": 5}, {"split_by": "duration"}):
        with pytest.raises(ValidationError, match="duration_us must be set with split_by: duration"):
            FrameParams(**wrong)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (1, 1), (100, 127), (128, 64)])
def test_smaller_frames_add_up_the_events_of_neighbouring_pixels(height, width, tmp_path):
    params = FrameParams(num_frames=2, height=height, width=width)
    frames, _ = write(tmp_path, [aedat2_bytes(events(1))], params)
    whole = integrate(events(1), num_frames=2, split_by="number", height=128, width=128)
    expected = np.zeros((2, 2, height, width), dtype=np.int64)
    for (t, p, y, x), count in np.ndenumerate(whole):
        expected[t, p, y * height // 128, x * width // 128] += count
    np.testing.assert_array_equal(frames[0], expected)
    assert binned(whole, 128, 128) is whole


def test_a_full_disk_is_told_before_and_while_writing(monkeypatch, tmp_path):
    content = aedat2_bytes(events(1))
    with monkeypatch.context() as patched:
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        patched.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(DataError, match=r"327\.7 kB needed for the frames, 1\.0 kB free; make room"):
            write(tmp_path, [content], FrameParams())
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: len(data) // 2)
    with pytest.raises(DataError, match=r"frames\.npy: the disk takes no more at row 0; make room"):
        write(tmp_path, [content], FrameParams())
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(
        DataError, match=r"frames\.npy: row 0 cannot be written \(\d+ bytes free\): No space left on device; make"
    ):
        write(tmp_path, [content] * 40, FrameParams())


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _die(*_):
    os._exit(9)


def test_a_process_that_is_killed_is_told(tmp_path):
    with pytest.raises(DataError, match="was killed: out of memory"):
        write(tmp_path, [aedat2_bytes(events(1))] * 2, FrameParams(), _die, num_workers=2)


def test_a_dataset_of_empty_recordings_is_refused(tmp_path):
    with pytest.raises(DataError, match="all 2 recordings are empty"):
        write(tmp_path, [b"", b""], FrameParams(empty_recordings="skip"))


def test_a_count_of_255_leaves_the_array_8_bits_wide(tmp_path):
    same = Events(np.arange(255), *(np.zeros(255, int) for _ in range(2)), np.ones(255, int))
    frames, _ = write(tmp_path, [aedat2_bytes(same)], FrameParams(num_frames=1))
    assert (frames.dtype, frames.max()) == (np.uint8, 255)


def test_the_rows_of_recordings_that_are_not_empty_are_kept_in_order(tmp_path):
    recorded = [events(seed) for seed in range(3)]
    nothing = Events(*(np.zeros(0, int) for _ in range(4)))
    contents = [aedat2_bytes(each) for each in (recorded[0], nothing, recorded[1], nothing, recorded[2])]
    frames, rows = write(tmp_path, contents, FrameParams(num_frames=2, empty_recordings="skip"))
    assert [row["id"] for row in rows] == ["a/0", "a/2", "a/4"]
    for mine, each in zip(frames, recorded, strict=True):
        np.testing.assert_array_equal(mine, integrate(each, num_frames=2, split_by="number", height=128, width=128))


def test_a_time_without_events_is_an_error_on_request(tmp_path):
    gap = Events(np.array([0, 1, 99]), *(np.zeros(3, int) for _ in range(2)), np.ones(3, int))
    given = {"num_frames": 3, "split_by": "time"}
    frames, rows = write(tmp_path, [aedat2_bytes(gap)], FrameParams(**given))
    assert (frames.sum((2, 3, 4)).tolist(), rows[0]["empty_frames"]) == ([[2, 0, 1]], 1)
    with pytest.raises(DataError, match="frame 1 has no events"):
        write(tmp_path, [aedat2_bytes(gap)], FrameParams(**given, empty_windows="error"))
