"""Mutated files of every format through their readers: `python -m tests.unit.data.fuzz_files --cases 20000 --seed 1`.

Each case takes the valid files of one format, damages one of them (flipped bits, cut, spliced, repeated, other text) and reads
them as a dataset is read. The reader must succeed or raise a DataError that names a file, within SECONDS and MEGABYTES. A case is
a function of its format and seed; `--only FORMAT --seed N --cases 1` repeats one.
"""

from __future__ import annotations

import argparse
import collections
import functools
import gzip
import importlib.util
import io
import json
import logging
import lzma
import mmap
import os
import pickle
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from spikedistill.data.datasets import cifar10, cifar100, dvs128_gesture, event_folder, image_folder, imagenet
from spikedistill.data.formats import archives, imagenet_labels
from spikedistill.data.formats.archives import Member
from spikedistill.data.formats.events import decode_aedat2, decode_atis
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.formats.recordings import guarded
from spikedistill.data.prepare import frames
from spikedistill.data.prepare.frames import FrameParams, Recording, whole_files
from spikedistill.data.prepare.index import write_index
from spikedistill.data.prepare.recordings.integration import DecoderError
from spikedistill.data.prepare.recordings.write import write_frames
from spikedistill.data.store import open_store
from spikedistill.errors import DataError
from tests import event_files, image_files, recording_files
from tests.files import write_files

SECONDS, MEGABYTES = 5.0, 400
TOO_MUCH, TOO_BIG = " MB of memory", 3
Files = Mapping[str, bytes]


class Format(NamedTuple):
    """Valid files by name, what reads the folder that they were written to, and which of them are damaged."""

    files: Files
    read: Callable[[Path, np.random.Generator], object]
    damaged: tuple[str, ...]
    packer: Callable[[bytes], bytes] | None = None  # applied after the damage


def some_params(random: np.random.Generator) -> FrameParams:
    """Parameters that accept much, so that damaged events get far."""
    split_by = str(random.choice(["number", "time", "duration"]))
    return FrameParams(
        num_frames=4,
        split_by=split_by,
        duration_us=int(random.choice([1, 100_000])) if split_by == "duration" else None,
        unsorted=str(random.choice(["error", "sort", "as_spikingjelly"])),
        truncated=str(random.choice(["error", "drop"])),
        overlong=str(random.choice(["error", "cut"])),
        empty_recordings=str(random.choice(["error", "skip"])),
    )


def recording(decode: frames.Decoder, sensor: tuple[int, int], window: tuple[int, int] | None = None):
    """Prepare the recording `a` as in a dataset."""

    def read(folder: Path, random: np.random.Generator) -> object:
        recordings = [Recording(Member(str(folder / "a")), "a", 0, window)]
        return list(write_frames(recordings, decode, some_params(random), folder, sensor=sensor, num_workers=1))

    return read


def dataset(component, **params: object):
    """Prepare a dataset and open it."""

    def read(folder: Path, _: np.random.Generator) -> object:
        out = folder.with_name("out")
        out.mkdir()
        component.prepare(component.Params(strict=False, **params), raw=folder, out=out, work=out, num_workers=1)
        return open_store(out)

    return read


def own_recordings(**stated: object):
    """Prepare a folder of one's own recordings, with what its files do not say."""

    def read(folder: Path, random: np.random.Generator) -> object:
        return dataset(event_folder, **{**some_params(random).model_dump(), **stated})(folder, random)

    return read


def own_formats() -> dict[str, Format]:
    """Formats of one's own recordings and images, and tables of them."""
    found = {}
    for name, (ending, _, stated) in recording_files.WRITERS.items():
        if name == "aedat 4" and importlib.util.find_spec("dv_processing") is None:
            continue
        files = recording_files.folder_files(name, per_class=1, num_events=120)
        found[f"own {name}"] = Format(files, own_recordings(**stated), (f"train/left/r0.{ending}", f"test/right/r0.{ending}"))
    for form, ending in (("TIFF", "tif"), ("BMP", "bmp"), ("WEBP", "webp"), ("GIF", "gif"), ("PPM", "ppm")):
        names = [f"{part}/{c}/{n}.{ending}" for part in ("train", "test") for n, c in enumerate("ab")]
        files = {name: image(form, seed) for seed, name in enumerate(names)}
        found[f"own {form}"] = Format(files, dataset(image_folder), (names[0],))
    pictures_ = {f"{n}.png": image("PNG", n) for n in range(4)}
    table = b"path,label,split\n0.png,a,train\n1.png,b,train\n2.png,a,test\n3.png,b,test\n"
    found["own table"] = Format(pictures_ | {"table.csv": table}, dataset(image_folder), ("table.csv",))
    return found


def zip_archive(folder: Path, _: np.random.Generator) -> object:
    """Read every member."""
    return [member.read() for member in archives.zip_members(folder / "a.zip")]


def gesture_archive(folder: Path, _: np.random.Generator) -> object:
    """Unpack an archive and read its label files."""
    archives.unpack_tar(folder / "a.tar.gz", folder / "unpacked")
    return labels(folder / "unpacked", _)


def labels(folder: Path, _: np.random.Generator) -> object:
    """Read lists of trials and label files."""
    return dvs128_gesture._recordings(folder, dvs128_gesture.Params(strict=False))


def classes(folder: Path, _: np.random.Generator) -> object:
    """Read the classes of validation images."""
    look = lambda name: folder / name if (folder / name).exists() else None  # noqa: E731
    return imagenet_labels.validation_classes(folder, look, strict=False)


def pictures(folder: Path, _: np.random.Generator) -> object:
    """Decode images and cut out their squares."""
    files = ImageFiles(folder, [{"id": "a"}], 32)
    return files.square(0)


def prepared(folder: Path, _: np.random.Generator) -> object:
    """Open a prepared dataset and take a sample of each split."""
    store = open_store(folder)
    return [store.take(rows[:1]) for rows in store.splits.values()]


def prepared_files(kind: str) -> Files:
    """The files of a small prepared dataset."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shape = (6, 3, 8, 8) if kind == "images" else (6, 2, 2, 8, 8)
        np.save(folder / f"{kind}.npy", np.random.default_rng(0).integers(0, 9, shape).astype(np.uint8))
        rows = [{"id": f"a/{n}", "label": n % 2, "max": 9} for n in range(6)]
        splits = {"train": [0, 1, 2, 3], "test": [4, 5]}
        write_index(folder, kind=kind, class_names=["x", "y"], rows=rows, splits=splits, recipe={"dataset": "x"})  # type: ignore[arg-type]
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def image(form: str, seed: int = 0) -> bytes:
    """A small picture."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 52, 3)).astype(np.uint8)).save(stream, form)
    return stream.getvalue()


def zipped(files: Files) -> bytes:
    """A zip archive."""
    with tempfile.TemporaryDirectory() as place:
        event_files.write_zip(Path(place) / "a.zip", files)
        return (Path(place) / "a.zip").read_bytes()


@functools.cache
def formats() -> dict[str, Format]:
    """All formats by name."""
    dvs = event_files.some_events(1, 300, height=128, width=128)
    small = event_files.some_events(2, 300, height=34, width=34)
    cut = functools.partial(dvs128_gesture.cut_samples, in_order=False)
    pickles, records = image_files.cifar10_pickles(2), image_files.cifar10_records(2)
    modern = {name: pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}, 4) for name in pickles}
    newest = {name: pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}, 5) for name in pickles}
    gesture = event_files.gesture_files({"train": ["user01_led"], "test": ["user24_led"]}, 100)
    tar = image_files.tar_of({f"cifar-10-batches-py/{name}": content for name, content in pickles.items()})
    _, names = image_files.imagenet_val()
    devkit = image_files.imagenet_devkit(names)
    published = image_files.imagenet_archives(2, 2)
    batches = tuple(pickles)
    members = {f"airplane/{n}.aedat": event_files.aedat2_bytes(dvs) for n in range(3)}
    stored = prepared_files("images"), prepared_files("frames")
    python, binary = "cifar-10-batches-py/", "cifar-10-batches-bin/"
    return {
        "aedat2": Format({"a": event_files.aedat2_bytes(dvs)}, recording(whole_files(decode_aedat2), (128, 128)), ("a",)),
        "aedat3": Format({"a": event_files.aedat3_bytes(dvs)}, recording(cut, (128, 128), (0, 1 << 60)), ("a",)),
        "atis": Format(
            {"a": event_files.atis_bytes(small)}, recording(whole_files(decode_atis, height=34, width=34), (34, 34)), ("a",)
        ),
        "cifar pickle": Format({python + n: c for n, c in pickles.items()}, dataset(cifar10), (python + batches[0],)),
        "cifar pickle 4": Format({python + n: c for n, c in modern.items()}, dataset(cifar10), (python + batches[0],)),
        "cifar pickle 5": Format({python + n: c for n, c in newest.items()}, dataset(cifar10), (python + batches[0],)),
        "cifar records": Format({binary + n: c for n, c in records.items()}, dataset(cifar10), (binary + "test_batch.bin",)),
        "cifar100 records": Format(
            {f"cifar-100-binary/{n}": c for n, c in image_files.cifar100_records((4, 2)).items()},
            dataset(cifar100),
            ("cifar-100-binary/train.bin",),
        ),
        "zip": Format({"a.zip": zipped(members)}, zip_archive, ("a.zip",)),
        "tar.gz": Format({"cifar-10-python.tar.gz": gzip.compress(tar)}, dataset(cifar10), ("cifar-10-python.tar.gz",)),
        "tar in gz": Format({"cifar-10-python.tar.gz": tar}, dataset(cifar10), ("cifar-10-python.tar.gz",), gzip.compress),
        "tar.xz": Format({"cifar-10-python.tar.gz": lzma.compress(tar)}, dataset(cifar10), ("cifar-10-python.tar.gz",)),
        "gesture archive": Format({"a.tar.gz": image_files.tar_of(dict(gesture))}, gesture_archive, ("a.tar.gz",), gzip.compress),
        "gesture labels": Format(gesture, labels, tuple(name for name in gesture if not name.endswith(".aedat"))),
        "solution": Format({"LOC_val_solution.csv": image_files.imagenet_solution(names)}, classes, ("LOC_val_solution.csv",)),
        "devkit": Format(
            {"ILSVRC2012_devkit_t12.tar.gz": gzip.decompress(devkit)}, classes, ("ILSVRC2012_devkit_t12.tar.gz",), gzip.compress
        ),
        "imagenet": Format(published, dataset(imagenet, side=32), ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")),
        "jpeg": Format({"a": image("JPEG")}, pictures, ("a",)),
        "png": Format({"a": image("PNG")}, pictures, ("a",)),
        "prepared images": Format(stored[0], prepared, tuple(stored[0])),
        "prepared frames": Format(stored[1], prepared, tuple(stored[1])),
        **own_formats(),
    }


WORDS = (
    b"",
    b"-1",
    b"1e999",
    b"9" * 30,
    b"9" * 5000,
    b"[" * 5000,
    b"\xe9",
    b"\0",
    b'"',
    b"{",
    b"null",
    b"true",
    b"0.5",
    b",",
    b"\n",
    b"(",
)
SIZES = tuple(struct.pack(form, value) for form in ("<I", ">I", "<Q") for value in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF))


def damage(content: bytes, random: np.random.Generator) -> bytes:
    """Damage the bytes of a file in one to three ways."""
    for _ in range(int(random.integers(1, 4))):
        content = one_damage(bytearray(content), random)
    return content


def one_damage(content: bytearray, random: np.random.Generator) -> bytes:
    """Damage bytes in one way, at the ends more often than in the middle."""
    end = len(content)
    near = int(random.integers(0, min(end, 400) + 1))
    place = [near, end - near, int(random.integers(0, end + 1))][int(random.integers(3))]
    length = int(random.integers(1, 65))
    other = int(random.integers(0, end + 1))
    kind = int(random.integers(9))
    if kind <= 1 and end:
        for at in random.integers(0, end, length % 8 + 1) if kind else [min(place, end - 1)]:
            content[at] ^= 1 << int(random.integers(8))
    elif kind == 2:
        del content[place:]
    elif kind == 3:
        content[place : place + length] = content[other : other + length]
    elif kind == 4:
        content[place:place] = content[other : other + 4 * length]
    elif kind == 5:
        del content[place : place + length]
    elif kind == 6:
        content[place : place + length] = bytes([int(random.choice([0, 1, 0x7F, 0x80, 0xFF]))]) * length
    elif kind == 7:
        word = WORDS[int(random.integers(len(WORDS)))]
        content[place : place + int(random.integers(0, 8))] = word
    else:
        size = SIZES[int(random.integers(len(SIZES)))]
        content[place : place + len(size)] = size
    return bytes(content)


class TooSlow(BaseException):
    """A case that took longer than SECONDS; no reader catches it."""


def run_case(name: str, seed: int, place: Path) -> str:
    """Read one damaged file; return "read", "refused", or what is wrong."""
    form = formats()[name]
    random = np.random.default_rng([sorted(formats()).index(name), seed])
    victim = form.damaged[int(random.integers(len(form.damaged)))]
    files = {**form.files, victim: damage(form.files[victim], random)}
    if form.packer is not None:
        files[victim] = form.packer(files[victim])
    shutil.rmtree(place, ignore_errors=True)
    folder = write_files(place / "raw", files)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        form.read(folder, random)
        result = "read"
    except DataError as err:
        result = "refused"
        if isinstance(err.__cause__, DecoderError):
            result = f"the decoder does not raise DataError: {err}\n{err.__cause__}"
        elif str(place) not in str(err):
            result = f"names no file: {err}"
    except TooSlow:
        result = f"took more than {SECONDS} s"
    except BaseException:
        result = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    used = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024
    return result if used < run_case_base() + MEGABYTES else f"{result}; {used}{TOO_MUCH}"


@functools.cache
def run_case_base() -> int:
    """Megabytes resident before the first case."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def too_slow(*_: object) -> None:
    """Interrupt a case."""
    raise TooSlow


def child(cases: list[tuple[str, int]], first: int, state: mmap.mmap, results: Path, place: Path) -> None:
    """Run cases in a process that may die of one, with bounded memory; note which one is running."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    run_case_base()
    signal.signal(signal.SIGALRM, too_slow)
    guarded.SECONDS = SECONDS / 4  # some damaged files never end
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (3 << 30), size + (3 << 30)))
    with results.open("a") as stream:
        for number in range(first, len(cases)):
            state[:8] = struct.pack("<Q", number)
            result = run_case(*cases[number], place)
            stream.write(json.dumps([*cases[number], result]) + "\n")
            stream.flush()
            if result.endswith(TOO_MUCH):
                os._exit(TOO_BIG)


def fuzz(cases: int, seed: int, only: str | None = None) -> tuple[collections.Counter[tuple[str, str]], list[str]]:
    """Run cases of all formats in turn; return how many ended how, and a text about each that ended badly."""
    names = [name for name in formats() if name == only] or [name for name in formats() if name.startswith(only or "")]
    todo = [(names[number % len(names)], seed + number // len(names)) for number in range(cases)]
    bad = []
    with tempfile.TemporaryDirectory() as place:
        results, first = Path(place) / "results", 0
        results.touch()
        while first < cases:
            state = mmap.mmap(-1, 8)
            if not (pid := os.fork()):
                try:
                    child(todo, first, state, results, Path(place) / "case")
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(1)
            status = wait(pid, state)
            if status == 0:
                break
            number = struct.unpack("<Q", state[:8])[0]
            if status != TOO_BIG:
                bad.append(f"{todo[number]}: the process ended with {status}")
            first = number + 1
        ended = collections.Counter()
        for line in results.read_text().splitlines():
            name, case, result = json.loads(line)
            ended[name, result if result in ("read", "refused") else "bad"] += 1
            if result not in ("read", "refused"):
                bad.append(f"{name}, seed {case}: {result}")
    return ended, bad


def wait(pid: int, state: mmap.mmap) -> int:
    """Wait for a process; kill it when it is at one case for too long. Return its exit code, or minus the signal."""
    now, since = state[:8], time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if state[:8] != now:
            now, since = state[:8], time.monotonic()
        elif time.monotonic() - since > 6 * SECONDS:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def main() -> int:
    """Run the cases and print a table of how they ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="damaged files to read, of all formats together")
    parser.add_argument("--seed", type=int, default=0, help="first seed; each format has every seed from here on once")
    parser.add_argument("--only", help="one format, or several that begin alike, such as 'own'")
    arguments = parser.parse_args()
    ended, bad = fuzz(arguments.cases, arguments.seed, arguments.only)
    for name in dict.fromkeys(name for name, _ in ended):
        print(f"{name:18}", *(f"{ended[name, how]:6} {how}" for how in ("read", "refused", "bad")))
    print(f"{ended.total()} damaged files, {len(bad)} ended badly")
    print(*bad, sep="\n\n", end="\n" if bad else "")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
