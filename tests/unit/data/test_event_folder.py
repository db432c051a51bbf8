"""`event-folder`: the same events in every format give the same frames; what files do not say is found, told, or asked for."""

import io
import json
import logging
import os
import signal
import struct
import time

import numpy as np
import pytest

from spikedistill.data.datasets import event_folder
from spikedistill.data.formats.events import Events
from spikedistill.data.formats.recordings import guarded
from spikedistill.data.formats.recordings.columns import How, Table
from spikedistill.data.formats.recordings.kinds import decode
from spikedistill.data.store import open_store
from spikedistill.errors import DataError
from tests import recording_files
from tests.event_files import aedat2_bytes, some_events
from tests.files import contents, write_files
from tests.recording_files import SIDE, WRITERS, bursts, csv_heading, each, evt2, evt3, folder_files, npz_columns

KNOWN = How(SIDE, SIDE, "us", "0/1")


def prepare(raw, **params):
    out = raw.parent / "out"
    out.mkdir(exist_ok=True)
    event_folder.prepare(event_folder.Params(num_frames=4, **params), raw=raw, out=out, work=out, num_workers=1)
    return open_store(out)


def refusal(raw, **params):
    with pytest.raises(DataError) as caught:
        prepare(raw, **params)
    return str(caught.value)


def npz(**columns):
    stream = io.BytesIO()
    np.savez(stream, **columns)
    return stream.getvalue()


@pytest.fixture(scope="module")
def aedat2_frames(tmp_path_factory):
    raw = write_files(tmp_path_factory.mktemp("aedat2") / "raw", folder_files("aedat 2.0"))
    return np.array(prepare(raw).samples)


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_frames_of_aedat_2(tmp_path, aedat2_frames, name):
    if name == "aedat 4":
        pytest.importorskip("dv_processing")
    raw = write_files(tmp_path / "raw", folder_files(name))
    before = contents(raw)
    store = prepare(raw, **WRITERS[name][2])
    np.testing.assert_array_equal(store.samples, aedat2_frames)
    assert store.samples.sum() == 8 * 600
    assert store.class_names == ("left", "right")
    assert {split: len(rows) for split, rows in store.splits.items()} == {"train": 4, "test": 4}
    assert contents(raw) == before


@pytest.mark.parametrize("name", WRITERS)
def test_times_and_pixels_of_every_format_are_those_of_the_events(tmp_path, name):
    if name == "aedat 4":
        pytest.importorskip("dv_processing")
    ending, write, stated = WRITERS[name]
    events = bursts(3, 500)
    path = tmp_path / f"a.{ending}"
    path.write_bytes(write(events))
    kind = next(kind for kind, each_ in event_folder.KINDS.items() if f".{ending}" in each_.suffixes)
    unit = {"text in seconds": "s", "h5 table": "s"}.get(name, "us")
    polarity = "-1/1" if name == "npy table" else "0/1"
    how = How(SIDE, SIDE, unit, polarity, stated.get("columns"), stated.get("inside"))
    found = decode(path.read_bytes(), str(path), kind=kind, how=how)
    assert each(found.unpacked()) == each(events)


def test_what_was_found_is_told_and_part_of_the_parameters(tmp_path):
    raw = write_files(tmp_path / "raw", folder_files("npz columns"))
    found = event_folder.scan(event_folder.Params(), raw)
    assert found.classes == ("left", "right")
    assert (found.format, found.time_unit, found.polarity) == ("npz", "us", "0/1")
    assert (found.sensor.height, found.sensor.width) == (SIDE, SIDE)
    assert (found.parts.train, found.parts.test) == ("train", "test")
    assert (found.samples.train, found.samples.test) == (4, 4)
    told = event_folder.summary(found)
    for part in ("left, right", "4 + 4", "npz", "128 x 128", "time in us", "polarity 0/1", "to test on: test"):
        assert part in told
    meta = event_folder.describe(found)
    assert (meta.kind, meta.height, meta.width, meta.num_frames) == ("frames", SIDE, SIDE, 10)


def test_everything_stated_reads_no_file(tmp_path):
    raw = write_files(tmp_path / "raw", folder_files("npz columns"))
    found = event_folder.scan(event_folder.Params(), raw)
    assert event_folder.scan(found, tmp_path / "no such folder") == found


def test_content_depends_on_names_and_sizes_not_on_the_place(tmp_path):
    files = folder_files("npz columns")
    content = {
        name: event_folder.scan(event_folder.Params(), write_files(tmp_path / name, each_)).content
        for name, each_ in {
            "a": files,
            "b/elsewhere": files,
            "fewer": dict(list(files.items())[1:]),
            "renamed": {name.replace("r1", "r7"): file for name, file in files.items()},
        }.items()
    }
    assert content["a"] == content["b/elsewhere"]
    assert len(set(content.values())) == 3


def test_a_folder_that_changed_after_planning_is_refused(tmp_path):
    raw = write_files(tmp_path / "raw", folder_files("npz columns"))
    planned = event_folder.scan(event_folder.Params(num_frames=4), raw)
    write_files(raw, {"train/left/new.npz": npz_columns(bursts(77, 50))})
    with pytest.raises(DataError, match="not the files that this was planned with"):
        event_folder.prepare(planned, raw=raw, out=tmp_path, work=tmp_path, num_workers=1)
    assert not (tmp_path / "frames.npy").exists()


@pytest.mark.parametrize(
    ("unit", "scale", "dtype"), [("s", 1e-6, float), ("ms", 1e-3, float), ("us", 1, np.int64), ("ns", 1000, np.int64)]
)
@pytest.mark.parametrize("stated", [True, False])
def test_a_time_unit_in_the_name_of_a_column_counts(tmp_path, unit, scale, dtype, stated):
    events = bursts(1, 300)
    columns = {"x": events.x, "y": events.y, "p": events.p}
    t = (events.t * scale).astype(dtype)
    content = npz(**columns, **{"t" if stated else f"t_{unit}": t}, height=SIDE, width=SIDE)
    raw = write_files(tmp_path / "raw", {f"{part}/{c}/a.npz": content for part in ("train", "test") for c in "ab"})
    params = event_folder.Params(**({"time_unit": unit} if stated else {}))
    found = event_folder.scan(params, raw)
    assert found.time_unit == unit
    how = How(SIDE, SIDE, unit, "0/1")
    decoded = decode(content, "a.npz", kind="npz", how=how)
    np.testing.assert_array_equal(decoded.t, events.t)


@pytest.mark.parametrize(("duration", "count", "unit"), [(300_000, 4000, "us"), (1_300_000, 200_000, "us"), (3000, 40_000, "ms")])
def test_the_only_plausible_time_unit_is_taken_and_told(tmp_path, caplog, duration, count, unit):
    events = some_events(1, count, height=SIDE, width=SIDE, duration_us=duration)
    content = npz(t=events.t, x=events.x, y=events.y, p=events.p, height=SIDE, width=SIDE)
    raw = write_files(tmp_path / "raw", {f"{part}/{c}/a.npz": content for part in ("train", "test") for c in "ab"})
    with caplog.at_level(logging.INFO):
        assert event_folder.scan(event_folder.Params(), raw).time_unit == unit
    assert f"timestamps count as {unit}" in caplog.text


@pytest.mark.parametrize(("duration", "count", "found"), [(60_000_000, 5_000_000, "us and ns are plausible"), (3, 50, "none is")])
def test_an_ambiguous_time_unit_is_asked_for(tmp_path, duration, count, found):
    t = np.linspace(0, duration, count).astype(np.int64)
    zero = np.zeros(count, np.uint8)
    content = npz(t=t, x=zero, y=zero, p=zero, height=SIDE, width=SIDE)
    raw = write_files(tmp_path / "raw", {f"{part}/{c}/a.npz": content for part in ("train", "test") for c in "ab"})
    message = refusal(raw)
    assert found in message and "state dataset.params.time_unit" in message and "a.npz" in message


@pytest.mark.parametrize(("values", "convention"), [([0, 1], "0/1"), ([-1, 1], "-1/1"), ([False, True], "0/1")])
def test_polarities_are_found(tmp_path, values, convention):
    p = np.array(values * 100)
    content = npz(t_us=np.arange(200) * 100, x=np.arange(200) % 8, y=np.arange(200) % 8, p=p, height=8, width=8)
    raw = write_files(tmp_path / "raw", {f"{part}/{c}/a.npz": content for part in ("train", "test") for c in "ab"})
    assert event_folder.scan(event_folder.Params(), raw).polarity == convention
    decoded = decode(content, "a.npz", kind="npz", how=How(8, 8, "us", convention))
    np.testing.assert_array_equal(decoded.unpacked().p, [0, 1] * 100)


def test_a_stated_polarity_may_be_the_other_way_round():
    content = npz(t=np.arange(4), x=np.zeros(4, int), y=np.zeros(4, int), p=np.array([0, 1, 1, 0]))
    found = decode(content, "a.npz", kind="npz", how=How(8, 8, "us", "1/0"))
    assert found.unpacked().p.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    "above",
    [
        *("#" * length for length in (4094, 4095, 4096, 4097, 8192, 10_000)),
        "# " + "µ" * 3000,
        "#" + "µ" * 3000,
        " " * 5000,
        "t,x,y,p\n" + "%" * 4096,
        "%geometry:128,128\n" + "#" * 5000 + "\n\n# a",
    ],
)
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_no_event_is_lost_below_long_comments(start, above):
    events = bursts(1, 20)
    lines = "".join(f"{t} {x} {y} {p}\n" for t, x, y, p in each(events))
    found = decode(f"{start}{above}\n{lines}".encode(), "a.txt", kind="csv", how=KNOWN._replace(columns="txyp"))
    assert each(found.unpacked()) == each(events)


def test_a_byte_order_mark_before_the_first_event_is_passed_over():
    found = decode(b"\xef\xbb\xbf1 2 3 1\n", "a.txt", kind="csv", how=KNOWN._replace(columns="txyp"))
    assert each(found.unpacked()) == [(1, 2, 3, 1)]


@pytest.mark.parametrize("name", ["aedat 2.0", "aedat 3.1", "bin", "dat", "evt2", "evt3"])
def test_a_stated_time_unit_and_polarity_count_more_than_the_format(name):
    events = bursts(4, 200)
    ending, write, _ = WRITERS[name]
    how = KNOWN._replace(time_unit="ms", polarity="1/0")
    found = decode(write(events), f"a.{ending}", kind=ending, how=how).unpacked()
    assert each(found) == [(1000 * t, x, y, 1 - p) for t, x, y, p in each(events)]


GOOD = {"t": np.arange(5) * 1000, "x": np.arange(5), "y": np.arange(5), "p": np.array([0, 1, 0, 1, 0])}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": np.array([0, 1, 2, 3, 8])}, "1 events lie outside the 8 x 8 sensor, the first is event 4 at x=8, y=4"),
        ({"y": np.array([0, -1, 2, 3, 4])}, "the first is event 1 at x=1, y=-1"),
        ({"x": np.array([0, 0.5, 2, 3, 4])}, "x of event 1 is 0.5, expected a whole number"),
        ({"x": np.array([0, np.nan, 2, 3, 4])}, "x of event 1 is nan, expected a whole number"),
        ({"p": np.array([0, 1, 2, 1, 0])}, "polarity of event 2 is 2, expected 0 for OFF or 1 for ON"),
        ({"p": np.array([0, -1, 1, 1, 0])}, "polarity of event 1 is -1"),
        ({"t": np.array([0.0, np.inf, 2, 3, 4])}, "the timestamp of event 1 is inf us"),
        ({"t": np.array([0, 2**63, 2, 3, 4], np.uint64)}, "the timestamp of event 1 is 9223372036854775808 us"),
        ({"t": np.arange(4)}, r"t, x, y and p have the shapes \[4\], \[5\], \[5\], \[5\]"),
        ({"t": np.array(["0"] * 5)}, "t is <U1, expected numbers"),
        ({"t": np.array([None] * 5)}, "an array of Python objects, which would have to be unpickled"),
    ],
)
def test_impossible_values_name_file_and_event(changed, message):
    stream = io.BytesIO()
    np.savez(stream, **{**GOOD, **changed}, allow_pickle=True)
    with pytest.raises(DataError, match=message) as caught:
        decode(stream.getvalue(), "a/b.npz", kind="npz", how=How(8, 8, "us", "0/1"))
    assert str(caught.value).startswith("a/b.npz")


@pytest.mark.parametrize("start", [(1 << 24) - 1000, (1 << 25) + 5])
def test_the_clock_of_evt3_is_continued_when_it_wraps_around(start):
    events = bursts(5, 400, start_us=start, duration_us=40_000_000)
    found = decode(evt3(events), "a.raw", kind="raw", how=KNOWN).unpacked()
    np.testing.assert_array_equal(found.t - found.t[0], events.t - events.t[0])
    np.testing.assert_array_equal(found.x, events.x)


def test_the_clocks_of_evt2_and_dat_are_continued_when_they_wrap_around():
    for write, kind, clock in ((evt2, "raw", 1 << 34), (recording_files.dat, "dat", 1 << 32)):
        events = bursts(5, 400, start_us=clock - 100_000)
        found = decode(write(events), "a", kind=kind, how=KNOWN).unpacked()
        np.testing.assert_array_equal(found.t - found.t[0], events.t - events.t[0])


@pytest.mark.parametrize("write", [evt2, evt3])
def test_events_are_the_same_whatever_the_size_of_the_blocks_they_are_decoded_in(write, monkeypatch):
    events = bursts(6, 900, duration_us=40_000_000)
    for block in (1, 7, 64):
        monkeypatch.setattr("spikedistill.data.formats.recordings.evt3.BLOCK", block)
        monkeypatch.setattr("spikedistill.data.formats.recordings.prophesee.BLOCK", block)
        assert each(decode(write(events), "a.raw", kind="raw", how=KNOWN).unpacked()) == each(events)


def test_events_before_the_first_time_are_dropped_and_counted():
    events = bursts(6, 50)
    header = recording_files.raw_header(2)
    content = header + struct.pack("<I", 0) + evt2(events)[len(header) :]
    found = decode(content, "a.raw", kind="raw", how=KNOWN)
    assert (found.dropped, found.t.size) == (1, 50)
    header = recording_files.raw_header(3)
    content = header + struct.pack("<HH", 5, 0x2000) + evt3(events)[len(header) :]
    found = decode(content, "a.raw", kind="raw", how=KNOWN)
    assert (found.dropped, found.t.size) == (1, 50)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("raw", b"% format EVT21;height=8;width=8\n% end\n", "expected EVT2 or EVT3, found EVT 21"),
        ("raw", b"% date 2026\n% end\n", "no line '% evt 3.0'"),
        ("raw", b"<!DOCTYPE html>", r"begins with b'<!DOCTYPE ht' instead of %"),
        ("raw", b"% evt 3.0", "its header has no end"),
        ("raw", recording_files.raw_header(3) + b"\0", r"truncated: 1 of 2 bytes at offset \d+"),
        ("raw", recording_files.raw_header(3) + b"\0\x90", r"no EVT3 word at offset \d+ \(0x9000\)"),
        ("raw", recording_files.raw_header(2) + b"\0\0\0\x40", r"no EVT2 event at offset \d+ \(0x40000000\)"),
        ("dat", b"% Version 2\n\x07\x08", "found type 7 of 8 bytes"),
        ("dat", recording_files.dat(bursts(1, 3))[:-1], r"truncated: 7 of 8 bytes at offset \d+"),
        ("dat", recording_files.dat(bursts(1, 3))[:-1] + b"\xff", "has the polarity 15"),
        ("csv", b"t,x,y,p\n1,2,3\n", r"a\.csv: not four numbers in each line|found int64 of shape \[1, 3\]"),
        ("csv", b"t,x,y,p\n1,2,3,0\n1,two,3,0\n", "not four numbers in each line .*lines count from line 2"),
        ("csv", b"hello world\n", "line 1 is neither four numbers nor a heading"),
        ("csv", b"1,2,3,0\n", "a table of four columns without names; state their order"),
        ("csv", b"\xff\xfe1\0", "not text: line 1 has byte 0xff"),
        ("npz", b"PK\x03\x04", "not a readable .npz file"),
        (
            "npz",
            npz(frames=np.zeros((4, 2, 8, 8))),
            r"expected events as a table \[N, 4\], found float64 of shape \[4, 2, 8, 8\]",
        ),
        ("npz", npz(a=np.zeros(3), b=np.zeros(3)), "expected arrays t, x, y and p, or one array of events; found a, b"),
        ("npy", b"\x93NUMPY\x03\0", "its header cannot be read"),
        ("npy", npz(a=np.zeros(3)), "its header cannot be read"),
        ("h5", b"\x89HDF\r\n\x1a\n", "not an HDF5 file that can be read"),
        ("aedat", b"#!AER-DAT1.0\r\n", "expected AEDAT 2.0, 3.1 or 4.0, found AER-DAT1.0"),
        ("aedat", b"#!AER-DAT4.0\r\n", "not AEDAT 4 that can be read"),
        ("bin", b"\0\0\0", "not a whole number of 5-byte events"),
        ("npz", b"", "an empty file"),
    ],
)
def test_damaged_and_foreign_files_name_themselves(tmp_path, kind, content, message):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        decode(content, str(path), kind=kind, how=KNOWN)
    assert str(caught.value).startswith(str(path))


def test_a_cut_file_loses_its_last_event_where_that_is_wanted():
    for kind, write in (("raw", evt2), ("raw", evt3), ("dat", recording_files.dat)):
        events = bursts(2, 40)
        found = decode(write(events)[:-1], "a", kind=kind, how=KNOWN, truncated="drop")
        assert 0 < found.t.size < 40 and found.dropped == 1


def h5(write):
    return recording_files._h5(write)


def test_links_and_other_files_are_not_followed_out_of_an_hdf5_file(tmp_path):
    import h5py

    (tmp_path / "other.h5").write_bytes(recording_files.h5_columns(bursts(1, 50)))
    external = h5(lambda file: file.update({"events": h5py.ExternalLink(str(tmp_path / "other.h5"), "events")}))
    soft = h5(lambda file: (file.update({"somewhere": 1}), file.update({"events": h5py.SoftLink("/somewhere")})))
    layout = h5py.VirtualLayout((50,), "i8")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "events/t", (50,))

    def virtual(file):
        group = file.create_group("events")
        for name in "xyp":
            group[name] = np.zeros(50)
        group.create_virtual_dataset("t", layout)

    def outside(file):
        group = file.create_group("events")
        for name in "xyp":
            group[name] = np.zeros(50)
        group.create_dataset("t", (50,), "i8", external=[(str(tmp_path / "other.h5"), 0, 400)])

    for content, message in (
        (external, "/events is a link, which is not followed"),
        (soft, "/events is a link, which is not followed"),
        (h5(virtual), "lies in other files, which are not read"),
        (h5(outside), "lies in other files, which are not read"),
    ):
        with pytest.raises(DataError, match=message):
            decode(content, "a.h5", kind="h5", how=KNOWN)


def test_archives_and_datasets_that_would_fill_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr("spikedistill.data.formats.recordings.numpy_files.MAX_RECORDING_BYTES", 10_000)
    stream = io.BytesIO()
    np.savez_compressed(stream, t=np.zeros(100_000), x=np.zeros(1), y=np.zeros(1), p=np.zeros(1))
    with pytest.raises(DataError, match=r"a\.npz/t: 800\.1 kB packed into \d+ bytes"):
        decode(stream.getvalue(), "a.npz", kind="npz", how=KNOWN)
    content = h5(lambda file: file.create_dataset("events", (1 << 40, 4), "f8", chunks=(1 << 10, 4), compression="gzip"))
    with pytest.raises(DataError, match=r"events unpacks to 35184\.4 GB"):
        decode(content, "a.h5", kind="h5", how=KNOWN._replace(columns="txyp"))
    content = h5(
        lambda file: file.create_dataset("events", (4, 4), "f8", maxshape=(None, 4), chunks=(1 << 25, 4), compression="gzip")
    )
    with pytest.raises(DataError, match=r"events unpacks to 1\.1 GB"):
        decode(content, "a.h5", kind="h5", how=KNOWN._replace(columns="txyp"))


def test_a_missing_library_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "aedat", None)
    with pytest.raises(DataError, match=r"pip install 'spikedistill\[events\]'"):
        decode(b"#!AER-DAT4.0\r\n", "a.aedat4", kind="aedat", how=KNOWN)


def test_several_formats_have_to_be_told_apart(tmp_path):
    files = folder_files("npz columns")
    raw = write_files(tmp_path / "raw", files | {"train/left/other.csv": csv_heading(bursts(9, 300))})
    assert "recordings of more than one format (csv: 1, such as train/left/other.csv; npz: 8" in refusal(raw)
    assert "1 files of another format" in refusal(raw, format="npz")
    assert len(prepare(raw, ignore=["*.csv"]).samples) == 8


def test_recordings_of_another_sensor_than_the_others_name_themselves(tmp_path):
    files = folder_files("npz columns")
    large = npz(t=np.arange(400) * 500, x=np.full(400, 300), y=np.full(400, 3), p=np.ones(400, int), height=346, width=346)
    raw = write_files(tmp_path / "raw", files | {"train/left/large.npz": large})
    message = refusal(raw)
    assert "large.npz: 400 events lie outside the 128 x 128 sensor, the first is event 0 at x=300, y=3" in message


def test_all_damaged_recordings_are_named_in_one_run(tmp_path):
    files = folder_files("npz columns")
    raw = write_files(tmp_path / "raw", files)
    (raw / "train/left/r0.npz").write_bytes(b"")
    (raw / "test/right/r1.npz").write_bytes(b"PK" + b"\0" * 50)
    message = refusal(raw, sensor={"height": SIDE, "width": SIDE}, time_unit="us", polarity="0/1")
    assert "2 of 8 recordings cannot be used" in message
    assert "train/left/r0.npz: an empty file" in message and "test/right/r1.npz: not a readable .npz file" in message


def test_a_copy_of_a_recording_to_train_on_is_no_test(tmp_path):
    files = folder_files("npz columns")
    files["test/left/copy.npz"] = files["train/left/r0.npz"]
    raw = write_files(tmp_path / "raw", files)
    assert "test/left/copy.npz = train/left/r0.npz" in refusal(raw)
    assert len(prepare(raw, strict=False).samples) == 9


def test_aedat_2_of_a_smaller_sensor_is_cut_to_it(tmp_path):
    events = some_events(1, 500, height=34, width=34)
    files = {
        f"{part}/{c}/a.aedat": aedat2_bytes(Events(events.t + n, *events[1:]))
        for part in ("train", "test")
        for n, c in enumerate("ab")
    }
    files["test/a/a.aedat"] = files.pop("test/a/a.aedat")[:-8]
    files["test/b/a.aedat"] = files.pop("test/b/a.aedat")[:-16]
    raw = write_files(tmp_path / "raw", files)
    assert prepare(raw, sensor={"height": 34, "width": 34}).samples.shape == (4, 4, 2, 34, 34)


def test_the_recipe_in_the_index_has_everything_that_was_found(tmp_path):
    raw = write_files(tmp_path / "raw", folder_files("evt3"))
    prepare(raw)
    recipe = json.loads((tmp_path / "out/index.json").read_text())["recipe"]
    assert recipe["dataset"] == "event-folder"
    assert (recipe["format"], recipe["sensor"], recipe["time_unit"]) == ("raw", {"height": SIDE, "width": SIDE}, "us")


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "the library crashed or ran out of memory"),
        (lambda: time.sleep(60), "the library took more than 0 s"),
        (lambda: np.ones(1 << 40), "unpacks to more than fits into the memory"),
    ],
)
def test_a_library_that_crashes_never_ends_or_fills_the_memory_takes_only_its_file_along(monkeypatch, read, message):
    monkeypatch.setattr(guarded, "SECONDS", 0.3)
    with pytest.raises(DataError, match=message) as caught:
        guarded.guarded(read, "a.h5", 0)
    assert str(caught.value).startswith("a.h5: ")


def test_a_table_comes_back_from_another_process_as_it_was_read():
    table = Table(np.arange(5)[::2], np.zeros(3, ">u2"), np.ones(3, np.float32), np.ones(3, bool), "us", (3, 4), "0/1", 7)
    found = guarded.guarded(lambda: table, "a.h5", 0)
    for column, expected in zip(found[:4], table[:4], strict=True):
        np.testing.assert_array_equal(column, expected)
        assert column.dtype == expected.dtype
    assert found[4:] == table[4:]
