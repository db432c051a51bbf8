"""Files made to do harm, and damage that made readers fail in their own words: each gets one sentence that names the file."""

import bz2
import errno
import gzip
import io
import json
import logging
import lzma
import os
import pickle
import struct
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spikedistill.data.datasets import cifar10, cifar10_dvs, dvs128_gesture, imagenet, n_mnist
from spikedistill.data.formats import archives
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import decode_aedat2, read_aedat3
from spikedistill.data.formats.imagenet_synsets import SYNSETS
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.prepare import cifar
from spikedistill.data.prepare.blocks import filling
from spikedistill.data.prepare.frames import FrameParams, Recording, whole_files
from spikedistill.data.prepare.index import write_index
from spikedistill.data.prepare.integrate import integrate
from spikedistill.data.prepare.recordings.write import write_frames
from spikedistill.data.store import open_store
from spikedistill.errors import DataError
from tests import image_files
from tests.event_files import AEDAT3_HEADER, aedat2_bytes, aedat3_bytes, cifar10_dvs_files, gesture_files, some_events, write_zip
from tests.files import write_files
from tests.unit.data import fuzz_files


def prepare(component, raw, **params):
    out = raw.parent / "out"
    out.mkdir(exist_ok=True)
    component.prepare(component.Params(strict=False, **params), raw=raw, out=out, work=out, num_workers=1)
    return open_store(out)


def refusal(component, raw, **params):
    with pytest.raises(DataError) as caught:
        prepare(component, raw, **params)
    return str(caught.value)


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def write_cifar10(raw, test_batch):
    return write_files(raw / "cifar-10-batches-py", {**image_files.cifar10_pickles(), "test_batch": test_batch})


@pytest.mark.slow
def test_mutated_files_of_every_format_are_read_or_refused():
    ended, bad = fuzz_files.fuzz(12 * len(fuzz_files.formats()), seed=0)
    assert bad == []
    assert {how for _, how in ended} == {"read", "refused"}


@pytest.mark.parametrize(
    ("module", "name"),
    [("numpy.f2py.__main__", "dtype"), ("numpy.testing", "ndarray"), ("numpy.core.multiarray", "fromfile"), ("builtins", "eval")],
)
def test_a_pickle_imports_nothing(raw, module, name):
    write_cifar10(raw, f"c{module}\n{name}\n.".encode())
    loaded = set(sys.modules)
    assert f"it wants to call {module}.{name}" in refusal(cifar10, raw)
    assert module not in set(sys.modules) - loaded


@pytest.mark.parametrize("names", ["numpy.core", "numpy._core"])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_of_all_versions_of_python_and_numpy_are_read(raw, protocol, names):
    images, labels = image_files.pictures(20, 10)
    content = pickle.dumps({"data": images, "labels": labels, "mean": np.float64(3)}, protocol)
    if names == "numpy.core" and protocol < 4:  # in later ones, the name has its length before it
        content = content.replace(b"numpy._core", b"numpy.core")
    write_cifar10(raw, content)
    store = prepare(cifar10, raw)
    np.testing.assert_array_equal(store.samples[store.split("test")].reshape(20, -1), images)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02}r\xff\xff\xff\xff.", "object number 4294967295"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10**30]}), "labels from beyond"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [-1, 10 ** (10**4)]}), "labels from beyond"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [-1, 3]}), "labels from -1 to 3, expected 0 to 9"),
        (pickle.dumps({"data": np.zeros((2, 3072), object), "labels": [0, 1]}), 'no array "data" of 3072 bytes'),
        (pickle.dumps({b"\xff": 0}), "not a pickle of CIFAR that can be read"),
    ],
)
def test_a_pickle_with_impossible_numbers_is_refused(raw, content, message):
    folder = write_cifar10(raw, content)
    found = refusal(cifar10, raw)
    assert message in found and f"1 of 6 files of CIFAR-10 in {folder} cannot be used:\n  test_batch: " in found


def picture(size, form, mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["EPS", "DDS", "GIF", "BMP", "TIFF"])
def test_an_image_of_another_format_is_not_even_tried(tmp_path, form):
    (tmp_path / "a.JPEG").write_bytes(picture((8, 8), form))
    with pytest.raises(DataError, match=r"a\.JPEG: not an image that can be decoded \(neither JPEG nor PNG; its first bytes are"):
        ImageFiles(tmp_path, [{"id": "a.JPEG"}], 8).read(0)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((10_000, 9000), r"10000 x 9000 pixels, more than \d+ in all"),
        ((1, 60_000), "1 x 60000 pixels, too narrow to be resized to 64"),
    ],
)
def test_an_image_that_would_fill_the_memory_is_refused(tmp_path, size, message):
    (tmp_path / "a.png").write_bytes(picture(size, "PNG", "1"))
    with pytest.raises(DataError, match=f"a.png: .*{message}"):
        ImageFiles(tmp_path, [{"id": "a.png"}], 64).square(0)


def test_an_image_in_an_archive_that_the_index_has_wrong_is_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.tar/b: 1099\.5 GB, where at most"):
        ImageFiles(tmp_path, [{"id": "b", "archive": "a.tar", "offset": 0, "size": 1 << 40}], 8).read(0)


def zipped(tmp_path, files=None):
    write_zip(tmp_path / "a.zip", files or {"airplane/a.aedat": aedat2_bytes(some_events(1, 300, height=128, width=128))})
    return tmp_path / "a.zip", bytearray((tmp_path / "a.zip").read_bytes())


def entry(content):
    """Where the directory of a zip archive describes its last member."""
    return content.rfind(b"PK\x01\x02")


def test_a_member_that_unpacks_to_more_than_a_recording_has_is_refused_by_name(tmp_path):
    path, _ = zipped(tmp_path, {"airplane/a.aedat": bytes(archives.MAX_RECORDING_BYTES + 1)})
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataError, match=r"a\.zip/airplane/a\.aedat: 268\.4 MB packed into 260\.\d kB; a recording has at most"):
        archives.zip_members(path)


def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked_further(tmp_path):
    path, content = zipped(tmp_path, {"airplane/a.aedat": bytes(50_000_000)})
    struct.pack_into("<I", content, entry(content) + 24, 1000)
    path.write_bytes(content)
    [member] = archives.zip_members(path)
    with pytest.raises(DataError, match=r"a\.zip/airplane/a\.aedat: damaged in its archive \(more than 1000 bytes in it\)"):
        member.read()


@pytest.mark.parametrize(
    ("at", "change"),
    [
        (6, b"\x63\x00"),  # version: NotImplementedError
        (46, b"\xff\xfe"),  # name: UnicodeDecodeError, with the flag below
        (20, b"\xff\xff\xff\xff" * 2 + b"\x03\x00"),  # sizes said to be in a field that is not there
        (42, b"\xf0\xff\xff\x7f"),  # offset beyond the end
        (0, b"PK\x01\x03"),
    ],
)
def test_a_damaged_directory_of_a_zip_archive_is_named(tmp_path, at, change):
    path, content = zipped(tmp_path)
    start = entry(content)
    content[start + at : start + at + len(change)] = change
    if at == 46:
        struct.pack_into("<H", content, start + 8, 0x800)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip.*; get (it|the archive) again"):
        archives.zip_members(path)


def test_a_file_larger_than_any_recording_is_not_read(tmp_path):
    with (tmp_path / "a.aedat").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(DataError, match=r"a\.aedat: 1099\.5 GB, where at most 268\.4 MB are expected"):
        Member(str(tmp_path / "a.aedat")).read()


def cifar10_tar():
    return image_files.tar_of({f"cifar-10-batches-py/{name}": each for name, each in image_files.cifar10_pickles().items()})


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_an_archive_packed_in_another_way_than_its_name_says_is_read_and_a_damaged_one_named(raw, pack):
    path = raw / "cifar-10-python.tar.gz"
    path.write_bytes(pack(cifar10_tar()))
    assert len(prepare(cifar10, raw).labels) == 120
    content = path.read_bytes()
    path.write_bytes(content[:600] + bytes(100) + content[700:])
    assert str(path) in refusal(cifar10, raw)
    path.write_bytes(content[: len(content) // 2])
    assert f"{path}: not a readable tar archive" in refusal(cifar10, raw)


def test_a_compressed_archive_is_compared_with_its_checksum(raw):
    content = bytearray(gzip.compress(cifar10_tar(), compresslevel=0))
    content[len(content) // 3] ^= 1  # of a picture: nothing but the checksum at the end tells
    write_files(raw, {"cifar-10-python.tar.gz": bytes(content)})
    assert "cifar-10-python.tar.gz: not a readable tar archive (CRC check failed" in refusal(cifar10, raw)


def header(name, size, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header("x/test_batch", -1024), r"x/test_batch has -1024 bytes"),  # leads back to itself, for ever
        (header("x", 4 << 30, tarfile.GNUTYPE_LONGNAME) + bytes(4096), r"a header of 4\.3 GB"),
        (header("x", 4 << 30, tarfile.XHDTYPE) + bytes(4096), r"a header of 4\.3 GB"),
        (header("x/test_batch", 1 << 30) + bytes(4096), r"x/test_batch: 1\.1 GB, where at most"),
        (header("x/other", 1 << 50) + bytes(4096), r"x/other: 1125899\.9 GB after \d+ bytes of other files"),
        (header("x/test_batch", 0) + header("y/test_batch", 0), "x/test_batch and y/test_batch are both in it"),
    ],
)
def test_a_tar_archive_that_would_fill_the_memory_is_refused(raw, content, message):
    write_files(raw, {"cifar-10-python.tar.gz": gzip.compress(content + bytes(10_240))})
    with pytest.raises(DataError, match=f"cifar-10-python.tar.gz.*{message}"):
        prepare(cifar10, raw)


def test_an_archive_that_would_fill_the_disk_is_refused(raw, monkeypatch):
    files = gesture_files({"train": ["user01_led"], "test": ["user24_led"]})
    write_files(raw, {"DvsGesture.tar.gz": image_files.tar_of(files, "w:gz")})
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 10_000)
    assert "DvsGesture.tar.gz/" in (message := refusal(dvs128_gesture, raw)) and "made to fill the disk" in message
    monkeypatch.undo()
    big = header("DvsGesture/user.aedat", 60 << 30) + bytes(10_240)
    (raw / "DvsGesture.tar.gz").write_bytes(gzip.compress(big))
    monkeypatch.setattr(archives, "check_free_space", full)
    assert "for the file DvsGesture/user.aedat of" in refusal(dvs128_gesture, raw)


def full(folder, needed, what):
    raise DataError(f"{folder}: {needed} bytes needed for the {what}")


@pytest.mark.parametrize("name", ["user24_led_labels.csv", "trials_to_test.txt"])
def test_a_label_file_in_latin_1_is_named_with_the_place(raw, name):
    files = gesture_files({"train": ["user01_led"], "test": ["user24_led"]})
    write_files(raw, {**files, name: b"class,d\xe9but,fin\n" + files[name]})
    assert f"{raw}/{name}: expected text in UTF-8, found byte 0xe9 at offset 7; get it again" in refusal(dvs128_gesture, raw)


def test_a_table_of_kaggle_in_latin_1_is_named_with_the_place(raw):
    write_files(raw / "train", image_files.imagenet_train())
    images, _ = image_files.imagenet_val()
    write_files(raw, {"LOC_val_solution.csv": b"\xe9", **{f"val/{name}": content for name, content in images.items()}})
    assert f"{raw}/LOC_val_solution.csv: expected text in UTF-8, found byte 0xe9 at offset 0" in refusal(imagenet, raw)


@pytest.mark.parametrize("number", ["1_0", "9" * 30, "٣", "nan"])
def test_a_label_that_only_python_takes_for_a_number_is_refused(tmp_path, number):
    (tmp_path / "a_labels.csv").write_text(f"class,start,end\n1,5,{number}\n", encoding="utf-8")
    problems = []
    assert dvs128_gesture.read_labels(tmp_path / "a_labels.csv", Member("a.aedat"), problems) == []
    assert "line 2: expected class,startTime_usec,endTime_usec; found" in problems[0]


EVENTS = some_events(1, 4000, height=128, width=128, duration_us=1_000_000)
STRAY = EVENTS._replace(t=np.r_[EVENTS.t[:-1], 0xFFFFFFFF])


def write_one(folder, decode, params):
    recordings = [Recording(Member(str(folder / "a.aedat")), "a", 0)]
    return write_frames(recordings, decode, params, folder, sensor=(128, 128), num_workers=1)


@pytest.mark.parametrize("overlong", ["error", "cut"])
def test_a_stray_timestamp_takes_no_memory(tmp_path, overlong):
    (tmp_path / "a.aedat").write_bytes(aedat2_bytes(STRAY))
    params = FrameParams(split_by="duration", duration_us=1, overlong=overlong)
    with pytest.raises(DataError) as caught:
        write_one(tmp_path, whole_files(decode_aedat2), params)
    count, span = 0xFFFFFFFF - EVENTS.t[0], f"(timestamps from {EVENTS.t[0]} to {0xFFFFFFFF} us)"
    assert f"{tmp_path}/a.aedat: {count} frames of 1 us; " in str(caught.value) and span in str(caught.value)
    with pytest.raises(DataError, match=f"{count} frames of 1 us, more than 1048576: timestamps from"):
        integrate(STRAY, num_frames=None, split_by="duration", duration_us=1, height=128, width=128)


def test_a_packet_that_claims_more_than_the_file_has_takes_no_memory(tmp_path):
    claim = struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (tmp_path / "a.aedat").write_bytes(AEDAT3_HEADER + claim + bytes(1000))
    with pytest.raises(DataError, match=r"a\.aedat: truncated in packet 0: 1000 of 34359738360 bytes at offset"):
        read_aedat3(tmp_path / "a.aedat")
    other = struct.pack("<HHIIIIII", 0, 1, 0xFFFFFFFF, 4, 0, 0xFFFFFFFF, 0, 0)
    (tmp_path / "a.aedat").write_bytes(aedat3_bytes(EVENTS) + other + bytes(1000))
    with pytest.raises(DataError, match=r"a\.aedat: truncated in packet 64: 1000 of 18446744065119617025 bytes"):
        read_aedat3(tmp_path / "a.aedat")


def ends_early(content, name, *, truncated):
    raise EOFError("Compressed file ended")


def wrong_number(file, windows, truncated):
    yield 7, None


def no_sample(file, windows, truncated):
    return iter(())


def no_events(file, windows, truncated):
    yield 0, "nonsense"


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        (
            whole_files(ends_early),
            r"ends_early failed with EOFError\('Compressed file ended'\): damaged, or a mistake in that decoder",
        ),
        (wrong_number, r"wrong_number failed with IndexError\('sample 7 of 1'\)"),
        (no_events, r"no_events failed with AttributeError"),
        (no_sample, r"no_sample returned no sample of 1 of its 1 recordings"),
    ],
)
def test_a_decoder_that_fails_in_its_own_way_is_named_with_the_file(tmp_path, decode, message, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "a.aedat").write_bytes(b"abc")
    with pytest.raises(DataError, match=rf"a\.aedat: [\w.]*test_hostile_files\.{message}") as caught:
        write_one(tmp_path, decode, FrameParams())
    if decode is not no_sample:
        assert "Traceback" in str(caught.value.__cause__) and str(caught.value.__cause__) in caplog.text
    assert not (tmp_path / "frames.npy").exists()


def prepared(folder):
    folder.mkdir()
    np.save(folder / "frames.npy", np.zeros((4, 2, 2, 8, 8), np.uint8))
    rows = [{"id": str(n), "label": n % 2, "max": 0} for n in range(4)]
    splits = {"train": [0, 1], "test": [2, 3]}
    write_index(folder, kind="frames", class_names=["a", "b"], rows=rows, splits=splits, recipe={})
    return folder


def npy_header(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


HEADER = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("index.json", b"[]"),
        ("index.json", b"[" * 100_000),
        ("index.json", b"{}"),
        ("index.json", b"\xff"),
        ("index.json", b'{"schema": 1, "kind": "frames", "class_names": ["a"], "rows": [3], "mean": null, "std": null}'),
        ("splits.json", b"[0]"),
        ("splits.json", b'{"train": [0, 99], "test": [1]}'),
        ("splits.json", b'{"train": ["0"], "test": [1.5]}'),
        ("splits.json", b'{"train": [%s], "test": [1]}' % (b"9" * 30)),
        ("frames.npy", b""),
        ("frames.npy", b"\x93NUMPY\x01\x00"),
        ("frames.npy", npy_header(b"{'descr': ")),
        ("frames.npy", npy_header(b"(" * 9000)),
        ("frames.npy", npy_header((HEADER % "(4, 2, 2, 8, 'x')").encode())),
        ("frames.npy", npy_header((HEADER % "(4, 2, 2, 8, 8)").encode()) + bytes(1023)),
        ("frames.npy", npy_header((HEADER % "(99999999999, 2, 2, 8, 8)").encode())),
        ("frames.npy", npy_header((HEADER % "(4, 2, 2, 8, 8)").replace("|u1", "|O").encode()) + bytes(8192)),
        ("frames.npy", npy_header((HEADER % "(1, 2, 2, 8, 8)").encode()) + bytes(256)),
        ("files.json", b"[]"),
        ("files.json", b'{"root": 3, "side": "x"}'),
    ],
)
def test_a_damaged_file_of_a_prepared_dataset_is_named(tmp_path, name, content):
    folder = prepared(tmp_path / "store")
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{folder}.*; run the preprocess stage again"):
        open_store(folder)


def test_an_array_is_opened_as_numpy_opens_it(tmp_path):
    folder = prepared(tmp_path / "store")
    index = json.loads((folder / "index.json").read_text())
    assert index["shape"] == [4, 2, 2, 8, 8]
    np.testing.assert_array_equal(open_store(folder).samples, np.load(folder / "frames.npy"))
    assert isinstance(open_store(folder).samples, np.memmap)


@pytest.mark.parametrize("target", ["..", "loop"])
def test_a_link_that_leads_in_a_circle_is_named(raw, target):
    write_files(raw, cifar10_dvs_files(cifar10_dvs.CLASS_NAMES, 1))
    (raw / "airplane/loop").symlink_to(target)
    assert f"{raw}/airplane/loop" in (message := refusal(cifar10_dvs, raw, num_frames=2))
    assert "a symbolic link leads back to" in message and "remove" in message


def test_a_folder_that_cannot_be_read_is_named():
    with tempfile.TemporaryDirectory() as place:
        root, closed = Path(place), Path(place, "bird")
        closed.mkdir()
        closed.chmod(0)
        root.chmod(0o755)
        if os.getuid() == 0:  # who can read everything
            os.seteuid(65534)
        try:
            with pytest.raises(DataError) as caught:
                archives.files_below(root)
        finally:
            os.seteuid(os.getuid())
            closed.chmod(0o755)
    assert str(caught.value) == f"{closed}: Permission denied; give yourself permission, or ask its owner"


@pytest.mark.parametrize("component", [cifar10, cifar10_dvs, dvs128_gesture, imagenet, n_mnist])
@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EROFS, "choose a place that can be written to"),
        (errno.ENOSPC, "make room"),
        (errno.EACCES, "give yourself permission"),
        (errno.EIO, "try again"),
    ],
)
def test_what_the_operating_system_refuses_is_explained(raw, monkeypatch, component, number, advice):
    def refuse(self, *_, **__):
        raise OSError(number, os.strerror(number), str(self))

    (raw / "notes.txt").write_text("x")
    for name in ("is_dir", "is_file", "exists"):
        monkeypatch.setattr(type(raw), name, refuse)
    assert (message := refusal(component, raw)).startswith(str(raw))
    assert f"{os.strerror(number)}; " in message and advice in message


def test_images_are_written_to_a_full_disk_with_a_message(raw, monkeypatch):
    write_files(raw / "train", image_files.imagenet_train())
    images, classes = image_files.imagenet_val()
    write_files(raw / "val", {f"{c}/{name}": content for (name, content), c in zip(images.items(), classes, strict=True)})

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    message = refusal(imagenet, raw, storage="array", side=16)
    assert f"{raw.parent}/out/array/images.npy: row " in message and "No space left on device; make room" in message
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(filling, "COMMIT_S", 0.0)
        assert "images.npy: cannot be written: No space left" in refusal(imagenet, raw, storage="array", side=16)
    assert SYNSETS[0] in prepare(imagenet, raw, side=16).class_names


def test_an_encrypted_member_is_named(tmp_path):
    path, content = zipped(tmp_path)
    content[entry(content) + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip/airplane/a\.aedat: encrypted or packed by method 8; unpack it yourself"):
        archives.zip_members(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as opened:
        opened.writestr("airplane/a.aedat", b"x")
    with pytest.raises(DataError, match=r"a\.zip/airplane/a\.aedat: encrypted or packed by method 14"):
        archives.zip_members(path)


def test_the_limits_are_far_above_the_published_files():
    assert archives.MAX_RECORDING_BYTES > 10 * 8 * 371_000  # the largest recording of CIFAR10-DVS
    assert cifar.MAX_FILE_BYTES > 3 * 155_249_918  # train of cifar-100-python


def test_a_development_kit_that_crashes_its_reader_is_named(raw):
    write_files(raw / "train", image_files.imagenet_train())
    images, classes = image_files.imagenet_val()
    kit = bytearray(gzip.decompress(image_files.imagenet_devkit(classes)))
    for at in (1608, 1612, 1616, 1624, 1628, 1632, 1636):  # of meta.mat; found by fuzz_files.py: a segmentation fault in scipy
        kit[at] = 0
    write_files(
        raw, {"ILSVRC2012_devkit_t12.tar.gz": gzip.compress(kit), **{f"val/{name}": each for name, each in images.items()}}
    )
    message = f"{raw}/ILSVRC2012_devkit_t12.tar.gz: the classes of the validation images cannot be read from it (BrokenProcess"
    assert message in refusal(imagenet, raw)


def test_a_name_in_a_list_that_no_file_can_have_is_missing(raw):
    files = gesture_files({"train": ["user01_led"], "test": ["user24_led"]})
    write_files(raw, {**files, "trials_to_test.txt": b"9" * 5000})
    assert f"missing: {'9' * 100}, named by trials_to_test.txt" in str(dvs128_gesture._recordings(raw, dvs128_gesture.Params()))


def test_a_dataset_of_empty_recordings_is_named(tmp_path):
    (tmp_path / "a.aedat").write_bytes(b"")
    with pytest.raises(DataError, match=f"all 1 recordings are empty, such as {tmp_path}/a.aedat"):
        write_one(tmp_path, whole_files(decode_aedat2), FrameParams(empty_recordings="skip"))
