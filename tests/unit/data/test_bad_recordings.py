"""What becomes of damaged recordings: each has one outcome, an error that names the file and the place, or a stated repair."""

import functools
import json
import logging
import struct
from pathlib import Path

import numpy as np
import pytest

from spikedistill.data.datasets.dvs128_gesture import cut_samples, read_labels
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import Events, decode_aedat2, decode_atis, read_aedat2, read_aedat3, read_atis
from spikedistill.data.prepare.frames import FrameParams, Recording, whole_files
from spikedistill.data.prepare.recordings.write import write_frames
from spikedistill.errors import DataError
from tests.event_files import AEDAT2_HEADER, AEDAT3_HEADER, aedat2_bytes, aedat3_bytes, aedat3_packet, atis_bytes, some_events

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "dvs_bad_input.json").read_text())
START = len(AEDAT2_HEADER)
EVENTS = some_events(1, 4000, height=128, width=128, duration_us=1_000_000)
GOOD = aedat2_bytes(EVENTS)
GOOD3 = aedat3_bytes(EVENTS)
DECODERS = {
    "aedat2": (whole_files(decode_aedat2), (128, 128)),
    "atis": (whole_files(decode_atis, height=34, width=34), (34, 34)),
    "aedat3": (functools.partial(cut_samples, in_order=True), (128, 128)),
}


def at(t):
    """The good recording with other timestamps."""
    return aedat2_bytes(EVENTS._replace(t=np.asarray(t) % (1 << 32)))


def with_addresses(changes):
    content = bytearray(GOOD)
    for event, address in changes.items():
        struct.pack_into(">I", content, START + 8 * event, address)
    return bytes(content)


def prepare(folder, content, kind="aedat2", **params):
    """The frames and the row of one recording, prepared as in a dataset."""
    path = folder / "bad.bin"
    path.write_bytes(content)
    decode, sensor = DECODERS[kind]
    window = (0, 1 << 40) if kind == "aedat3" else None
    recordings = [Recording(Member(str(path)), "bad", 0, window)]
    rows = write_frames(recordings, decode, FrameParams(**params), folder, sensor=sensor, num_workers=1)
    return np.load(folder / "frames.npy"), [dict(row) for row in rows]


def refused(folder, content, kind="aedat2", **params):
    with pytest.raises(DataError) as caught:
        prepare(folder, content, kind, **params)
    message = str(caught.value)
    assert "1 of 1 recordings cannot be used" in message
    assert str(folder / "bad.bin") in message
    assert not (folder / "frames.npy").exists()
    return message


KNOWN_DAMAGES = {  # by the name of what SpikingJelly makes of it: the file, and how many events are kept or why it is refused
    "good": (GOOD, 4000),
    "cut 1 byte": (GOOD[:-1], "truncated in the last event: 7 of 8 bytes"),
    "cut 4 bytes (half event)": (GOOD[:-4], "truncated in the last event: 4 of 8 bytes"),
    "cut 8 bytes (whole event)": (GOOD[:-8], 3999),
    "cut to 60% at event boundary": (GOOD[: START + 8 * 2400], 2400),  # see the marks "short" and the sizes in archives
    "header only (0 events)": (AEDAT2_HEADER, "an empty recording"),
    "zero-byte file": (b"", "an empty recording"),
    "no header": (GOOD[START:], "not AEDAT 2.0: its first bytes are"),
    "no header, UTF-8-valid first line": (
        b"recorded today\n" + GOOD[START:],
        "not AEDAT 2.0: its first bytes are b'recorded tod'",
    ),
    "LF-only header": (AEDAT2_HEADER.replace(b"\r\n", b"\n") + GOOD[START:], 4000),
    "first event address byte 0x23": (with_addresses({0: 0x23005AC4}), "neither a header line nor an event of a DVS128"),
    "AEDAT3.1 content": (GOOD3, "expected AEDAT 2.0, found AER-DAT3.1"),
    "HTML page (multiple of 8)": (b"<!DOCTYPE html><p>404 not found</p></html>"[:40], "not AEDAT 2.0"),
    "header cut inside a line": (AEDAT2_HEADER[:40], "has no end"),
    "timestamps locally reversed": (at(np.r_[EVENTS.t[:1000], EVENTS.t[1000:1500][::-1], EVENTS.t[1500:]]), "run backwards"),
    "timestamps jump back 300 ms": (at(np.r_[EVENTS.t[:2000], EVENTS.t[2000:] - 300_000]), "run backwards 1 times"),
    "timestamps wrap 2^32": (at(EVENTS.t + (1 << 32) - 400_000), 4000),
    "last timestamp < first": (at(np.r_[EVENTS.t[:-1], EVENTS.t[0] - 1]), "run backwards 1 times"),
    "one timestamp 0xFFFFFFFF in middle": (at(np.r_[EVENTS.t[:2000], 0xFFFFFFFF, EVENTS.t[2001:]]), "run backwards 1 times"),
    "one timestamp 0xFFFFFFFF at end": (at(np.r_[EVENTS.t[:-1], 0xFFFFFFFF]), 4000),  # see the mark "long"
    "bit 15 (external) set on 1 event": (with_addresses({5: 0x8000}), 3999),
    "high address bits on 1 event": (with_addresses({5: 0x12340000}), 3999),
    "all timestamps equal": (at(np.full(4000, 77)), 4000),
    "3 events only": (aedat2_bytes(Events(*(column[:3] for column in EVENTS))), 3),
    "500 ms without events": (at(np.r_[EVENTS.t[:2000], EVENTS.t[2000:] + 500_000]), 4000),
}
FULL_PACKET = struct.pack("<III", 64, 64, 64)  # capacity, number, number of valid ones
KNOWN_DAMAGES_3 = {
    "good": (GOOD3, 4000),
    "cut 3 bytes inside last event": (GOOD3[:-3], "truncated in packet 63: 253 of 256 bytes at offset"),
    "cut 8 bytes (whole event)": (GOOD3[:-8], "truncated in packet 63: 248 of 256 bytes at offset"),
    "cut in the middle of a packet header": (
        GOOD3[: len(AEDAT3_HEADER) + 28 + 64 * 8 + 10],
        "truncated in the header of packet 1",
    ),
    "no END-HEADER line": (GOOD3.replace(b"#!END-HEADER\r\n", b""), "its header has no end"),
    "LF-only END-HEADER": (GOOD3.replace(b"#!END-HEADER\r\n", b"#!END-HEADER\n"), 4000),
    "eventNumber < eventCapacity": (GOOD3.replace(FULL_PACKET, struct.pack("<III", 64, 60, 60)), 62 * 60 + 32),
    "AEDAT 2.0 content": (GOOD, "expected AEDAT 3.1, found AER-DAT2.0"),
    "zero-byte": (b"", "an empty file"),
    "header only": (AEDAT3_HEADER, "an empty recording"),
}


@pytest.mark.parametrize("split_by", ["number", "time"])
@pytest.mark.parametrize(
    ("kind", "name"), [("aedat2", name) for name in GOLDEN["cases"]] + [("aedat3", name) for name in GOLDEN["aedat31"]]
)
def test_every_known_damage_has_its_outcome(kind, name, split_by, tmp_path):
    content, outcome = (KNOWN_DAMAGES if kind == "aedat2" else KNOWN_DAMAGES_3)[name]
    if isinstance(outcome, str):
        assert outcome in refused(tmp_path, content, kind, split_by=split_by)
    else:
        frames, [row] = prepare(tmp_path, content, kind, split_by=split_by)
        assert frames.sum() == row["events"] == outcome


@pytest.mark.parametrize("split_by", ["number", "time"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD[:-1], f"truncated in the last event: 7 of 8 bytes at offset {len(GOOD) - 8}"),
        (GOOD[:-7], f"truncated in the last event: 1 of 8 bytes at offset {len(GOOD) - 8}"),
        (AEDAT2_HEADER, "an empty recording: no events"),
        (b"", "an empty recording: no events"),
        (GOOD[START:], "not AEDAT 2.0: its first bytes are"),
        (b"<!DOCTYPE html><html><body>404 not found</body></html>", "not AEDAT 2.0: its first bytes are b'<!DOCTYPE ht'"),
        (GOOD3, "expected AEDAT 2.0, found AER-DAT3.1"),
        (with_addresses({0: 0x23005AC4}), f"neither a header line nor an event of a DVS128 at offset {START} (address 23005ac4)"),
        (AEDAT2_HEADER[:40], "a header line at offset 14 has no end"),
        (
            with_addresses(dict.fromkeys(range(5), 32768)),
            f"5 of 4000 events are not pixels of a DVS128, the first at offset {START}",
        ),
        (with_addresses({7: 0x10000, 8: 0x20000, 9: 1 << 31, 10: 1 << 20, 11: 1 << 19}), f"the first at offset {START + 56}"),
        (at(np.r_[EVENTS.t[:2000], EVENTS.t[1000:1500][::-1], EVENTS.t[2500:]]), "timestamps run backwards"),
        (at(np.r_[EVENTS.t[:2000], EVENTS.t[2000:] - 300_000]), "timestamps run backwards 1 times, first at event 2000"),
        (at(np.r_[EVENTS.t[:-1], EVENTS.t[0] - 1]), "timestamps run backwards 1 times, first at event 3999"),
        (at(np.r_[EVENTS.t[:2000], 0xFFFFFFFF, EVENTS.t[2001:]]), "timestamps run backwards 1 times, first at event 2001"),
    ],
)
def test_a_damaged_aedat2_file_is_refused_with_its_name_and_the_place(content, message, split_by, tmp_path):
    assert message in refused(tmp_path, content, split_by=split_by)


def test_a_cut_event_is_dropped_on_request_and_counted(tmp_path):
    frames, [row] = prepare(tmp_path, GOOD[:-3], truncated="drop")
    assert (frames.sum(), row["events"], row["dropped"]) == (3999, 3999, 1)
    assert "an empty recording" in refused(tmp_path, AEDAT2_HEADER + bytes(5), truncated="drop")


def test_an_empty_recording_is_left_out_with_its_label_on_request(tmp_path, caplog):
    contents = [b"\0" * 10, b"", atis_bytes(some_events(2, 50, height=34, width=34))]
    marker_only = bytes([0, 240, 0, 0, 1])
    for number, content in enumerate([contents[0], marker_only, contents[2]]):
        (tmp_path / f"{number}.bin").write_bytes(content)
    recordings = [Recording(Member(str(tmp_path / f"{n}.bin")), str(n), n) for n in range(3)]
    decode, sensor = DECODERS["atis"]
    with pytest.raises(DataError, match=r"1 of 3 recordings cannot be used:\n  .*1\.bin: an empty recording"):
        write_frames(recordings, decode, FrameParams(), tmp_path, sensor=sensor, num_workers=1)
    rows = write_frames(recordings, decode, FrameParams(empty_recordings="skip"), tmp_path, sensor=sensor, num_workers=1)
    assert [(row["id"], row["label"]) for row in rows] == [("0", 0), ("2", 2)]
    frames = np.load(tmp_path / "frames.npy")
    assert frames.sum((1, 2, 3, 4)).tolist() == [2, 50]
    assert "left out: 1 recordings without events" in caplog.text


def test_rare_events_that_are_no_pixels_are_dropped_and_counted(tmp_path):
    frames, [row] = prepare(tmp_path, with_addresses({5: 0x8000, 100: 0x12345678}))
    assert (frames.sum(), row["dropped"]) == (3998, 2)


def test_timestamps_that_run_backwards_can_be_sorted_or_treated_as_spikingjelly_does(tmp_path):
    content = at(np.r_[EVENTS.t[:2000], EVENTS.t[2000:] - 300_000])
    sorted_, [row] = prepare(tmp_path, content, split_by="time", unsorted="sort")
    assert (sorted_.sum(), row["backward_steps"]) == (4000, 1)
    theirs, _ = prepare(tmp_path, content, split_by="time", unsorted="as_spikingjelly")
    assert theirs.sum() > 4000  # it counts events twice
    by_number, _ = prepare(tmp_path, content, split_by="number", unsorted="as_spikingjelly")
    np.testing.assert_array_equal(by_number, prepare(tmp_path, GOOD, split_by="number")[0])


def test_a_clock_that_wraps_around_once_is_continued(tmp_path):
    wrapped, [row] = prepare(tmp_path, at(EVENTS.t + (1 << 32) - 400_000), split_by="time")
    np.testing.assert_array_equal(wrapped, prepare(tmp_path, GOOD, split_by="time")[0])
    assert row["duration_us"] == EVENTS.t[-1] - EVENTS.t[0]


@pytest.mark.parametrize(
    ("content", "empty"),
    [
        (at(np.full(4000, 77)), 9),
        (aedat2_bytes(Events(*(column[:3] for column in EVENTS))), 7),
        (at(np.r_[EVENTS.t[:2000], EVENTS.t[2000:] + 5_000_000]), 8),
    ],
)
def test_windows_without_events_are_frames_of_zeros_and_counted_or_an_error_on_request(content, empty, tmp_path):
    frames, [row] = prepare(tmp_path, content, split_by="time")
    assert (frames.reshape(10, -1).sum(1) == 0).sum() == row["empty_frames"] == empty
    assert frames.sum() == row["events"]
    assert "has no events" in refused(tmp_path, content, split_by="time", empty_windows="error")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD3[:-3], "truncated in packet 63: 253 of 256 bytes at offset"),
        (GOOD3[: len(AEDAT3_HEADER) + 28 + 64 * 8 + 10], "truncated in the header of packet 1: 10 of 28 bytes at offset"),
        (GOOD3.replace(b"#!END-HEADER\r\n", b""), "its header has no end (#!END-HEADER)"),
        (GOOD, "expected AEDAT 3.1, found AER-DAT2.0"),
        (b"", "an empty file"),
        (b"\x1f\x8b\x08" + bytes(40), "not AEDAT 3.1: its first bytes are"),
        (AEDAT3_HEADER + bytes(range(1, 120)), "no packet header at offset"),
    ],
)
def test_a_damaged_aedat3_file_is_refused_with_its_name_and_the_place(content, message, tmp_path):
    assert message in refused(tmp_path, content, "aedat3")
    with pytest.raises(DataError, match=r"bad\.bin"):
        read_aedat3(tmp_path / "bad.bin")


def test_an_aedat3_file_without_events_is_refused(tmp_path):
    assert "an empty recording" in refused(tmp_path, AEDAT3_HEADER, "aedat3")
    with pytest.raises(DataError, match="an empty recording"):
        read_aedat3(tmp_path / "bad.bin")


def test_a_cut_aedat3_packet_is_dropped_on_request(tmp_path):
    whole, _ = prepare(tmp_path, GOOD3, "aedat3", num_frames=1)
    for cut, lost in ((3, 1), (8, 1), (9, 2), (32 * 8, 32), (32 * 8 + 5, 32)):
        frames, [row] = prepare(tmp_path, GOOD3[:-cut], "aedat3", num_frames=1, truncated="drop")
        assert (int(whole.sum()) - int(frames.sum()), 4000 - row["events"]) == (lost, lost)


def test_an_aedat3_header_with_plain_newlines_and_spare_places_in_packets_are_read(tmp_path):
    good, _ = prepare(tmp_path, GOOD3, "aedat3")
    plain, _ = prepare(tmp_path, aedat3_bytes(EVENTS, header=AEDAT3_HEADER.replace(b"\r\n", b"\n")), "aedat3")
    np.testing.assert_array_equal(plain, good)
    (tmp_path / "spare.aedat").write_bytes(AEDAT3_HEADER + aedat3_packet(EVENTS, spare=3))
    assert len(read_aedat3(tmp_path / "spare.aedat").t) == 4000  # SpikingJelly reads the capacity


def test_aedat3_events_outside_the_sensor_and_out_of_order_are_refused(tmp_path):
    outside = aedat3_bytes(EVENTS._replace(x=np.where(np.arange(4000) == 70, 128, EVENTS.x)))
    assert f"the event at {EVENTS.t[70]} us lies at x=128" in refused(tmp_path, outside, "aedat3")
    backwards = (
        AEDAT3_HEADER + aedat3_packet(Events(*(c[2000:] for c in EVENTS))) + aedat3_packet(Events(*(c[:2000] for c in EVENTS)))
    )
    assert f"timestamps run backwards ({EVENTS.t[-1]} -> {EVENTS.t[0]} us)" in refused(tmp_path, backwards, "aedat3")


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_cut_atis_file_is_refused_or_repaired_on_request(cut, tmp_path):
    content = atis_bytes(some_events(3, 100, height=34, width=34))[:-cut]
    assert f"{500 - cut} bytes are not a whole number of 5-byte events: truncated at offset 495" in refused(
        tmp_path, content, "atis"
    )
    frames, [row] = prepare(tmp_path, content, "atis", truncated="drop")
    assert (frames.sum(), row["events"], row["dropped"]) == (99, 99, 1)


def test_atis_overflow_markers_advance_the_clock_and_are_no_events(tmp_path):
    events = some_events(4, 100, height=34, width=34, duration_us=8000)
    content = atis_bytes(events)
    (tmp_path / "a.bin").write_bytes(content[:250] + bytes([0, 240, 0, 0, 0]) + content[250:])
    read = read_atis(tmp_path / "a.bin")
    np.testing.assert_array_equal(read.t, np.r_[events.t[:50], events.t[50:] + 8192])
    np.testing.assert_array_equal(read.x, events.x)


def test_an_atis_event_outside_the_sensor_is_refused(tmp_path):
    content = bytearray(atis_bytes(some_events(5, 100, height=34, width=34)))
    content[5 * 7] = 34
    assert "1 events lie outside the 34 x 34 sensor, the first at offset 35 with x=34" in refused(
        tmp_path, bytes(content), "atis"
    )
    assert "an empty recording" in refused(tmp_path, b"", "atis")


def test_label_rows_that_cannot_be_are_named_with_their_line(tmp_path):
    path = tmp_path / "user01_lab_labels.csv"
    path.write_text("class,startTime_usec,endTime_usec\n1,10,20\n2,40,30\n12,50,60\n3,70\n\n1,80,90\n")
    problems = []
    samples = read_labels(path, Member("user01_lab.aedat"), problems)
    assert [(sample.id, sample.window_us) for sample in samples] == [
        ("hand_clapping/user01_lab_0", (10, 20)),
        ("hand_clapping/user01_lab_1", (80, 90)),
    ]
    assert problems == [
        f"{path}, line 3: the sample ends at 30 us, before it starts at 40 us",
        f"{path}, line 4: class 12 is not one of 1 to 11",
        f"{path}, line 5: expected class,startTime_usec,endTime_usec; found '3,70'",
    ]


def test_recordings_cut_between_two_events_or_with_a_stray_timestamp_are_marked(tmp_path, caplog):
    contents = [atis_bytes(some_events(6 + number, 400, height=34, width=34)) for number in range(5)]
    contents[2] = contents[2][:600]
    contents[3] = contents[3][:-3] + b"\x7f\xff\xff"
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.bin").write_bytes(content)
    recordings = [Recording(Member(str(tmp_path / f"{n}.bin")), str(n), 0) for n in range(5)]
    decode, sensor = DECODERS["atis"]
    rows = write_frames(recordings, decode, FrameParams(), tmp_path, sensor=sensor, num_workers=1)
    assert [row.get("short", False) for row in rows] == [False, False, True, False, False]
    assert [row.get("long", False) for row in rows] == [False, False, False, True, False]
    assert "1 recordings last less than half of what is usual in their class (marked as short in index.json): 2" in caplog.text
    assert "1 recordings last more than twice what is usual in their class (marked as long in index.json): 3" in caplog.text


def test_the_same_recording_under_two_labels_is_refused(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.bin").write_bytes(atis_bytes(some_events(min(number, 1), 100, height=34, width=34)))
    decode, sensor = DECODERS["atis"]
    recordings = [Recording(Member(str(tmp_path / f"{n}.bin")), str(n), n) for n in range(3)]
    with pytest.raises(DataError, match=r"2\.bin: the same recording as .*1\.bin, under another label"):
        write_frames(recordings, decode, FrameParams(), tmp_path, sensor=sensor, num_workers=1)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_every_bad_recording_is_reported_in_one_run(num_workers, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    contents = [GOOD, b"", GOOD[:-3], b"<html>", GOOD3, at(EVENTS.t + 1)] + [at(EVENTS.t + 2 + n) for n in range(40)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.aedat").write_bytes(content)
    recordings = [Recording(Member(str(tmp_path / f"{n}.aedat")), str(n), 0) for n in range(len(contents))]
    recordings.append(Recording(Member(str(tmp_path / "gone.aedat")), "gone", 0))
    decode, sensor = DECODERS["aedat2"]
    with pytest.raises(DataError) as caught:
        write_frames(recordings, decode, FrameParams(), tmp_path, sensor=sensor, num_workers=num_workers)
    lines = str(caught.value).splitlines()
    assert lines[0] == "5 of 47 recordings cannot be used:"
    assert [line.split("/")[-1].split(":")[0] for line in lines[1:]] == [f"{n}.aedat" for n in (1, 2, 3, 4)] + ["gone.aedat"]


def test_what_cannot_be_opened_is_named(tmp_path):
    for read in (read_aedat2, read_aedat3, read_atis):
        with pytest.raises(DataError, match=r"gone: No such file"):
            read(tmp_path / "gone")
