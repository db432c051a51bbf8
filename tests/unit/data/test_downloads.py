"""Datasets as users have them: complete, incomplete, damaged, not there yet. Their files stay as they are."""

import functools
import hashlib
import http.server
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from spikedistill.data.datasets import cifar10_dvs, dvs128_gesture, n_caltech101, n_mnist
from spikedistill.data.store import open_store
from spikedistill.errors import DataError
from tests.event_files import cifar10_dvs_files, gesture_files, n_caltech101_files, n_mnist_files, write_zip
from tests.files import contents, write_files

CLASSES = cifar10_dvs.CLASS_NAMES
SMALL = {"num_frames": 2, "height": 16, "width": 16}


@pytest.fixture
def small_datasets(monkeypatch):
    """Complete datasets of two recordings in each class."""
    monkeypatch.setattr(cifar10_dvs, "PER_CLASS", 2)
    monkeypatch.setattr(n_caltech101, "NUM_RECORDINGS", 2 * len(n_caltech101.CLASS_NAMES))
    monkeypatch.setattr(n_mnist, "COUNTS", {"Train": (2,) * 10, "Test": (1,) * 10})
    monkeypatch.setattr(dvs128_gesture, "COUNTS", {"train": 12, "test": 12})


def prepare(dataset, raw, folder, **params):
    """Prepare into `folder`; the raw files must not change."""
    out, work = folder / "out", folder / "work"
    for each in (out, work):
        each.mkdir(parents=True, exist_ok=True)
    before = contents(raw)
    try:
        dataset.prepare(dataset.Params(**{**SMALL, **params}), raw=raw, out=out, work=work, num_workers=1)
    finally:
        assert contents(raw) == before
    return open_store(out)


def refused(dataset, raw, folder, **params):
    with pytest.raises(DataError) as caught:
        prepare(dataset, raw, folder, **params)
    assert list((folder / "out").iterdir()) == []
    return str(caught.value)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_cifar10_dvs_archives(root, monkeypatch, per_class=2):
    """The ten archives, published as they are."""
    files = cifar10_dvs_files(CLASSES, per_class)
    for name in CLASSES:
        write_zip(root / f"{name}.zip", {path: content for path, content in files.items() if path.startswith(f"{name}/")})
    published = {f"{name}.zip": (number, md5(root / f"{name}.zip")) for number, name in enumerate(CLASSES)}
    monkeypatch.setattr(cifar10_dvs, "SOURCES", published)
    return files


@pytest.mark.parametrize("below", [".", "extract", "download", "CIFAR10DVS", "extract/cifar10-dvs"])
def test_class_folders_are_found_where_users_and_spikingjelly_put_them(below, small_datasets, tmp_path):
    write_files(tmp_path / "raw" / below, cifar10_dvs_files(CLASSES, 2))
    store = prepare(cifar10_dvs, tmp_path / "raw", tmp_path)
    assert store.labels.tolist() == [label for label in range(10) for _ in range(2)]


def test_archives_give_the_frames_of_the_folders(small_datasets, monkeypatch, tmp_path):
    files = write_cifar10_dvs_archives(tmp_path / "archives/download", monkeypatch)
    write_files(tmp_path / "folders", files)
    packed = prepare(cifar10_dvs, tmp_path / "archives", tmp_path / "a")
    unpacked = prepare(cifar10_dvs, tmp_path / "folders", tmp_path / "b")
    np.testing.assert_array_equal(packed.samples, unpacked.samples)
    np.testing.assert_array_equal(packed.split("test"), unpacked.split("test"))


def test_everything_that_is_wrong_is_told_at_once_and_mended_files_are_used(small_datasets, tmp_path, caplog):
    raw = tmp_path / "raw"
    files = cifar10_dvs_files(CLASSES, 2)
    write_files(raw, files)
    write_files(raw, {"airplane/.DS_Store": b"\0", "ship/Thumbs.db": b"\0", "readme.txt": b"stray"})
    (raw / "bird/cifar10_bird_1.aedat").unlink()
    for number in range(2):
        (raw / f"cat/cifar10_cat_{number}.aedat").unlink()
    (raw / "dog/cifar10_dog_0.aedat").write_bytes(files["dog/cifar10_dog_0.aedat"][:-3])
    (raw / "frog/cifar10_frog_2.aedat").write_bytes(files["frog/cifar10_frog_0.aedat"])
    (raw / "truck/cifar10_truck_0.aedat").write_bytes(files["horse/cifar10_horse_0.aedat"])
    message = refused(cifar10_dvs, raw, tmp_path)
    assert message.startswith(f"{raw}: CIFAR10-DVS is not complete:\n  1 classes without a recording: cat\n")
    assert "1 missing recordings: bird/cifar10_bird_1.aedat" in message
    assert "1 recordings that the dataset does not have: frog/cifar10_frog_2.aedat" in message
    assert "2 of 18 recordings cannot be used:" in message
    assert "dog/cifar10_dog_0.aedat: truncated in the last event: 5 of 8 bytes" in message
    assert f"{raw}/truck/cifar10_truck_0.aedat: the same recording as {raw}/horse/cifar10_horse_0.aedat" in message
    assert "DS_Store" not in message and "readme" not in message
    (raw / "frog/cifar10_frog_2.aedat").unlink()
    write_files(raw, files)
    assert len(prepare(cifar10_dvs, raw, tmp_path).samples) == 20


def test_an_incomplete_dataset_is_used_on_request_with_a_warning(tmp_path, caplog):
    files = cifar10_dvs_files([name for name in CLASSES if name != "cat"], 2)
    write_files(tmp_path / "raw", files)
    store = prepare(cifar10_dvs, tmp_path / "raw", tmp_path, strict=False)
    assert sorted(set(store.labels.tolist())) == [0, 1, 2, 4, 5, 6, 7, 8, 9]  # labels do not move up
    assert "1 classes without a recording: cat" in caplog.text


def test_an_archive_that_is_not_as_published_is_named_with_both_sums_and_kept(small_datasets, monkeypatch, tmp_path):
    raw = tmp_path / "raw"
    write_cifar10_dvs_archives(raw, monkeypatch)
    expected = md5(raw / "dog.zip")
    write_zip(raw / "dog.zip", cifar10_dvs_files(["dog"], 2, num_events=300))
    (raw / "cat.zip").unlink()
    message = refused(cifar10_dvs, raw, tmp_path)
    assert f"not as published: {raw}/dog.zip: md5 {md5(raw / 'dog.zip')}, expected {expected}" in message
    assert "classes without a recording: cat" in message
    assert len(prepare(cifar10_dvs, raw, tmp_path, strict=False).samples) == 18


def test_damaged_archives_are_named(small_datasets, monkeypatch, tmp_path):
    raw = tmp_path / "raw"
    write_cifar10_dvs_archives(raw, monkeypatch)
    content = (raw / "dog.zip").read_bytes()
    (raw / "dog.zip").write_bytes(content[: len(content) // 2])
    with zipfile.ZipFile(raw / "cat.zip") as opened:
        entry = opened.getinfo("cat/cifar10_cat_1.aedat")
    damaged = bytearray((raw / "cat.zip").read_bytes())
    damaged[entry.header_offset + 200] ^= 0xFF
    (raw / "cat.zip").write_bytes(damaged)
    message = refused(cifar10_dvs, raw, tmp_path)
    assert f"{raw}/dog.zip: not a readable zip archive" in message
    assert f"{raw}/cat.zip/cat/cifar10_cat_1.aedat: d" in message  # damaged, or differs from its checksum


def test_a_file_cut_between_two_events_is_found_by_the_archive_beside_it(small_datasets, monkeypatch, tmp_path):
    raw = tmp_path / "raw"
    files = write_cifar10_dvs_archives(raw / "download", monkeypatch)
    write_files(raw / "extract", files)
    path = raw / "extract/dog/cifar10_dog_0.aedat"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-800])
    message = refused(cifar10_dvs, raw, tmp_path)
    assert f"1 recordings that differ from those in their archives: {path} ({size - 800} bytes, {size} in its archive)" in message


def test_gesture_tells_missing_files_bad_label_rows_and_bad_recordings_at_once(small_datasets, tmp_path):
    raw = tmp_path / "raw"
    files = gesture_files({"train": ["user01_led"], "test": ["user24_led"]})
    write_files(raw / "DvsGesture", files)
    assert prepare(dvs128_gesture, raw, tmp_path).labels.tolist() == 2 * [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10]
    (tmp_path / "out/frames.npy").unlink()
    folder = raw / "DvsGesture"
    (folder / "trials_to_test.txt").write_text("user24_led.aedat\nuser25_led.aedat\n")
    (folder / "user24_led_labels.csv").write_text("class,startTime_usec,endTime_usec\n3,20,10\n4,1,2,3\n")
    (folder / "user01_led.aedat").write_bytes(files["user01_led.aedat"][:-20])
    with pytest.raises(DataError) as caught:
        prepare(dvs128_gesture, raw, tmp_path)
    message = str(caught.value)
    for expected in (
        "missing: user25_led.aedat, named by trials_to_test.txt",
        "missing: user25_led_labels.csv, named by trials_to_test.txt",
        "0 samples to test, expected 12",
        "2 rows of label files cannot be used:",
        f"{folder}/user24_led_labels.csv, line 2: the sample ends at 10 us, before it starts at 20 us",
        "12 of 12 recordings cannot be used:",
        f"{folder}/user01_led.aedat: truncated in packet",
    ):
        assert message.count(expected) == 1


def test_a_gesture_archive_is_unpacked_beside_and_a_damaged_one_named(small_datasets, tmp_path):
    write_files(tmp_path / "DvsGesture", gesture_files({"train": ["user01_led"], "test": ["user24_led"]}))
    raw = tmp_path / "raw"
    raw.mkdir()
    with tarfile.open(raw / "DvsGesture.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "DvsGesture", "DvsGesture")
    assert len(prepare(dvs128_gesture, raw, tmp_path / "a", strict=False).samples) == 24
    assert "not as published" in refused(dvs128_gesture, raw, tmp_path / "b")
    content = (raw / "DvsGesture.tar.gz").read_bytes()
    (raw / "DvsGesture.tar.gz").write_bytes(content[:-400])
    assert "DvsGesture.tar.gz: not a readable tar archive" in refused(dvs128_gesture, raw, tmp_path / "c", strict=False)


def test_n_mnist_counts_its_classes_and_n_caltech101_its_numbers(small_datasets, monkeypatch, tmp_path):
    raw = tmp_path / "n-mnist"
    write_files(raw, {**n_mnist_files("Train", 2), **n_mnist_files("Test", 1)})
    store = prepare(n_mnist, raw, tmp_path / "a", num_frames=3)
    assert (store.samples.shape, len(store.split("train")), len(store.split("test"))) == ((30, 3, 2, 16, 16), 20, 10)
    (raw / "Train/3/00004.bin").unlink()
    assert "Train/3: 1 recordings, expected 2" in refused(n_mnist, raw, tmp_path / "b")
    raw = tmp_path / "n-caltech101"
    write_files(raw / "Caltech101", n_caltech101_files(n_caltech101.CLASS_NAMES, 2))
    assert len(prepare(n_caltech101, raw, tmp_path / "c", split="random42").samples) == 202
    (raw / "Caltech101/ant/image_0001.bin").unlink()
    message = refused(n_caltech101, raw, tmp_path / "d", split="random42")
    assert "missing recordings: ant/image_0001.bin" in message and "201 recordings, expected 202" in message


@pytest.mark.parametrize("dataset", [cifar10_dvs, dvs128_gesture, n_mnist, n_caltech101])
def test_a_folder_without_the_dataset_is_refused_with_what_was_looked_for_and_where_it_is_to_be_had(dataset, tmp_path):
    write_files(tmp_path / "raw", {"notes.txt": b"mine"})
    message = refused(dataset, tmp_path / "raw", tmp_path)
    assert f"{tmp_path / 'raw'}: no " in message and "also" in message and "https://" in message


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves files, and the rest of a file when asked for it."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        content = path.read_bytes()
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.stops_at.pop(self.path, None)])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The ten archives of CIFAR10-DVS at an address of this machine, by number."""
    folder = tmp_path / "served"
    write_cifar10_dvs_archives(folder, monkeypatch)
    for name, (number, _) in cifar10_dvs.SOURCES.items():
        (folder / name).rename(folder / str(number))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(folder))) as running:
        running.requests, running.stops_at = [], {}
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setattr(cifar10_dvs, "ADDRESS", f"http://127.0.0.1:{running.server_port}/{{}}")
        yield running, folder
        running.shutdown()


def download(raw, folder):
    for each in (raw, folder / "out"):
        each.mkdir(parents=True, exist_ok=True)
    cifar10_dvs.prepare(cifar10_dvs.Params(**SMALL), raw=raw, out=folder / "out", work=folder, num_workers=1)


def test_an_empty_folder_is_filled_with_the_archives_and_a_broken_download_goes_on(server, small_datasets, tmp_path):
    running, folder = server
    raw = tmp_path / "raw"
    (raw / "download").mkdir(parents=True)
    (raw / "download/airplane.zip.part").write_bytes((folder / "0").read_bytes()[:100])
    (raw / "download/bird.zip.part").write_bytes((folder / "2").read_bytes())
    download(raw, tmp_path)
    assert len(open_store(tmp_path / "out").samples) == 20
    assert running.requests[0] == ("/0", "bytes=100-")
    assert running.requests[1] == ("/1", None)
    assert sorted(path.name for path in (raw / "download").iterdir()) == sorted(f"{name}.zip" for name in CLASSES)


def test_a_connection_that_the_server_closes_early_is_opened_again_for_the_rest(server, small_datasets, tmp_path):
    running, _ = server
    running.stops_at["/0"] = 100
    raw = tmp_path / "raw"
    raw.mkdir()
    download(raw, tmp_path)
    assert running.requests[:2] == [("/0", None), ("/0", "bytes=100-")]
    assert len(open_store(tmp_path / "out").samples) == 20


def test_a_download_that_is_not_as_published_or_not_to_be_had_is_refused_with_what_to_do(server, small_datasets, tmp_path):
    _, folder = server
    (folder / "3").write_bytes(b"<html>are you human?</html>")
    raw = tmp_path / "raw"
    with pytest.raises(DataError, match=r"/3: 27 bytes with md5 \w+, expected \w+; deleted. .* with a browser to .*download"):
        download(raw, tmp_path)
    assert sorted(path.name for path in (raw / "download").iterdir()) == ["airplane.zip", "automobile.zip", "bird.zip"]
    (folder / "3").unlink()
    with pytest.raises(
        DataError, match=r"/3: cannot be downloaded \(HTTP Error 404.*; download it on a machine with internet access"
    ):
        download(raw, tmp_path)


def test_recordings_are_prepared_without_torch_torchaudio_or_spikingjelly():
    names = ("cifar10_dvs", "dvs128_gesture", "n_mnist", "n_caltech101")
    code = (
        "import importlib, sys\n"
        "for name in ('torch', 'torchaudio', 'spikingjelly'): sys.modules[name] = None  # importing one would fail\n"
        f"for name in {names}: importlib.import_module('spikedistill.data.datasets.' + name)\n"
        "import spikedistill.stages.preprocess\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
