"""Decoding JPEG during training: this package and torchvision's DataLoader, taking turns on the same files.

    python benchmarks/jpeg.py --out benchmarks/results/jpeg.json
    python benchmarks/jpeg.py --rounds 5 --only "original, uint8: torchvision, 0" "original, float: torchvision, 0" accessible \
        --out benchmarks/results/jpeg-random-access.json

Random resized crops of 224 pixels, mirrored by chance, in batches of 64, from 2,000 JPEG of ImageNet's sizes that
`measuring/pictures.py` makes and describes; all in the page cache. Each figure is of one pass over them after a warm-up, on all
cores; rounds take turns, so that a busy machine affects all alike. `per_cpu_s` is images per second of processor time of all
processes and threads, `per_s` per second of wall time.

float   normalised float32, as a CPU trains on: ours from `Loader`; torchvision's transforms with ToTensor and Normalize.
uint8   as sent to a GPU, which then converts them: ours without the normalisation; torchvision's with PILToTensor.

`torchvision, N workers` is a DataLoader with ImageFolder and Pillow; only the one with the best median counts. `pillow` is
this package without simplejpeg and Numba. `shrunk` has the same images with a shorter side of 256
pixels, encoded with quality 90, as `storage: packed` may have them. `accessible` and `shrunk accessible` have entry points in
these files, as `random_access: true` adds them, and are compared with torchvision on the files without. Each is measured with
`exact` and `fast`: see docs/data.md.

`quality` compares `fast` with `exact`, after resizing: how many of the same boxes of the same images, or of their middle squares,
have other pixels, and the PSNR of these in dB. `accuracy` is that of a logistic regression on scikit-learn's digits, enlarged to
noisy JPEG of 400 pixels and decoded for inputs of 32, which `fast` computes at an eighth of the size.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import itertools
import json
import math
import multiprocessing
import os
import platform
import resource
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from measuring.decoding_effect import compare_accuracy, compare_crops
from measuring.machine import processor
from measuring.pictures import write_pictures
from spikedistill.data.formats.decoding import finding, resample, turbo
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.loading import loader as loading
from spikedistill.data.loading.augment import Augment, ResizedCrop
from spikedistill.data.loading.inputs import STATISTICS, InputConfig
from spikedistill.data.loading.loader import Loader
from spikedistill.data.malloc import keep_freed_memory
from spikedistill.data.prepare.index import write_index
from spikedistill.data.store import open_store

PICTURES, BATCH, SIDE, SHRUNK, QUALITY = 2000, 64, 224, 256, 90
FILES = {"original": "original", "accessible": "original", "shrunk": "shrunk", "shrunk accessible": "shrunk"}
"""The kinds of files, and which of them torchvision reads in the comparison."""
AUGMENT = Augment(random_resized_crop=ResizedCrop(), flip=True)


def write_store(raw: Path, out: Path) -> None:
    """Index the pictures as `storage: files` does."""
    paths = sorted(str(path.relative_to(raw)) for path in raw.rglob("*.JPEG"))
    rows = [{"id": path, "label": int(path.partition("/")[0].removeprefix("class"))} for path in paths]
    out.mkdir()
    ImageFiles.save(out, raw, SHRUNK)
    splits = {"train": range(len(rows))}
    names = [str(label) for label in range(10)]
    write_index(out, kind="images", class_names=names, rows=rows, splits=splits, recipe={}, statistics=STATISTICS["imagenet"])


def shrink(source: Path, target: Path) -> None:
    """Write a picture whose shorter side has SHRUNK pixels, where it has more."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as picture:
        factor = SHRUNK / min(picture.size)
        size = (round(picture.width * factor), round(picture.height * factor))
        (picture.resize(size, Image.Resampling.BILINEAR) if factor < 1 else picture).save(target, quality=QUALITY)


def add_entry_points(path: Path, source: Path, target: Path) -> None:
    """Write a picture with entry points at the same place below another folder."""
    written = target / path.relative_to(source)
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_bytes(finding.added(path.read_bytes()))


def processor_seconds() -> float:
    """Processor time of this process and its threads, of its workers, and of those that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    alive = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return time.process_time() + ended.ru_utime + ended.ru_stime + sum(each.user + each.system for each in alive)


def rate(epoch: Callable[[], Iterable[Any]], warm_up: int) -> dict[str, float]:
    """Images per second of one epoch, after the first batches of another one."""
    for _ in zip(range(warm_up), epoch(), strict=False):
        pass
    used, clock, done = processor_seconds(), time.perf_counter(), 0
    for batch in epoch():
        done += len(batch[0])
    return {"per_cpu_s": done / (processor_seconds() - used), "per_s": done / (time.perf_counter() - clock)}


def measure_ours(store: Path, kind: str, way: str) -> dict[str, float]:
    """One way of this package, as training does it: on a CPU, freed memory is kept."""
    torch.set_num_threads(1)
    if kind == "float":
        keep_freed_memory()
    inputs = InputConfig(center_crop=SIDE, decode="fast" if way == "fast" else "exact")
    loader = Loader(open_store(store), "train", batch_size=BATCH, shuffle=True, augment=AUGMENT, inputs=inputs)
    numbers = iter(range(1000))

    def epoch() -> Iterator[Any]:
        with contextlib.closing(loader.epoch(next(numbers))) as batches:  # type: ignore[type-var]
            yield from batches

    with contextlib.ExitStack() as stack:
        if kind == "uint8":
            stack.enter_context(mock.patch.object(loading, "normalize", lambda images, mean, std: images))
        if way == "pillow":
            stack.enter_context(mock.patch.object(turbo, "same_as_pillow", frozenset))
            stack.enter_context(mock.patch.object(resample, "compiled", lambda: None))
        return rate(epoch, 5)


def measure_torchvision(raw: Path, kind: str, workers: int) -> dict[str, float]:
    """One DataLoader."""
    torch.set_num_threads(1)
    as_float = [transforms.ToTensor(), transforms.Normalize(*STATISTICS["imagenet"])]
    last = [transforms.PILToTensor()] if kind == "uint8" else as_float
    change = transforms.Compose([transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip(), *last])
    pictures = ImageFolder(str(raw), change)
    loader = DataLoader(pictures, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0)
    return rate(lambda: loader, len(loader) if workers else 5)  # persistent workers: the same iterator, begun anew


def figures(workers: Iterable[int]) -> dict[str, tuple[str, str, str | int]]:
    """Everything to measure: its name, the files, the kind of batches, and our way of decoding or torchvision's workers."""
    wanted: dict[str, tuple[str, str, str | int]] = {}
    for (files, theirs), kind in itertools.product(FILES.items(), ("float", "uint8")):
        if files == theirs:
            wanted |= {f"{files}, {kind}: torchvision, {number} workers": (files, kind, number) for number in workers}
        ways = ("pillow", "exact", "fast") if files == "original" else ("exact", "fast")
        wanted |= {f"{files}, {kind}: {way}": (files, kind, way) for way in ways}
    return wanted


def measure(root: Path, files: str, kind: str, way: str | int) -> dict[str, float]:
    """One figure, in a process of its own, so that what ours sets does not affect others."""
    function, place = (measure_torchvision, files) if isinstance(way, int) else (measure_ours, f"{files}-store")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, root / place, kind, way).result()  # type: ignore[arg-type]


def summary(rows: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Ratios of images to those of torchvision's best, by the medians over the rounds."""

    def median(name: str, key: str) -> float:
        return statistics.median(row[key] for row in rows[name])

    def best(group: str, key: str) -> float:
        return max((median(name, key) for name in rows if name.startswith(f"{group}: torchvision")), default=math.nan)

    ratios = {}
    for name in rows:
        group, _, way = name.partition(": ")
        files, _, kind = group.partition(", ")
        if way.startswith("torchvision"):
            continue
        for key in ("per_cpu_s", "per_s"):
            ratios[f"{name} over torchvision, {key}"] = median(name, key) / best(f"{FILES[files]}, {kind}", key)
        if FILES[files] != "original":  # what preparing a smaller copy gains
            theirs = best(f"original, {kind}", "per_cpu_s")
            ratios[f"{name} over torchvision on the originals, per_cpu_s"] = median(name, "per_cpu_s") / theirs
    return {name: round(value, 2) for name, value in ratios.items()}


def prepare(root: Path, pictures: int) -> dict[str, float]:
    """Make the pictures and the stores; return what the files are like."""
    paths = write_pictures(root / "original", pictures)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda path: shrink(path, root / "shrunk" / path.relative_to(root / "original")), paths))
        for files in ("original", "shrunk"):
            target = "accessible" if files == "original" else f"{files} accessible"
            add = functools.partial(add_entry_points, source=root / files, target=root / target)
            list(pool.map(add, (root / files).rglob("*.JPEG")))
    described: dict[str, float] = {"pictures": len(paths)}
    for name in FILES:
        write_store(root / name, root / f"{name}-store")
        sizes = [path.stat().st_size for path in (root / name).rglob("*.JPEG")]
        described[f"{name.replace(' ', '_')}_mean_kb"] = round(statistics.mean(sizes) / 1e3, 1)
    return described


def write(path: Path, found: dict[str, Any]) -> None:
    """Write the figures so far, with the machine that they were taken on."""
    packages = ("torch", "torchvision", "pillow", "simplejpeg", "numpy")
    versions = {name: importlib.metadata.version(name) for name in packages}
    machine = {"processor": processor(), "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), **versions}
    command = shlex.join(["python", Path(sys.argv[0]).as_posix(), *sys.argv[1:]])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"command": command, **machine, **found}, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="few pictures: shows that it runs, not how fast")
    parser.add_argument("--only", nargs="+", default=[""], help="measure only the figures whose names begin so")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    every = len(os.sched_getaffinity(0))
    wanted = figures((0, 1) if options.short else (0, 1, every, every + 1, 2 * every))
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in wanted if name.startswith(tuple(options.only))}
    with tempfile.TemporaryDirectory() as folder:
        files = prepare(Path(folder), 3 * BATCH if options.short else PICTURES)
        number = 50 if options.short else 500
        quality = {name: compare_crops(Path(folder, f"{name}-store"), number) for name in ("original", "shrunk")}
        accuracy = compare_accuracy()
        print(files, quality, accuracy)
        for _ in range(1 if options.short else options.rounds):
            print(f"programs that want a core: {os.getloadavg()[0]:.1f}", flush=True)
            for name in rows:
                rows[name].append(measure(Path(folder), *wanted[name]))
                print(f"{name:45}", {key: round(value) for key, value in rows[name][-1].items()}, flush=True)
            if options.out:
                write(
                    options.out,
                    {"files": files, "quality": quality, "accuracy": accuracy, "ratios": summary(rows), "figures": rows},
                )
    for name, value in summary(rows).items():
        print(f"{name:90} {value:6.2f}")


if __name__ == "__main__":
    main()
