"""Loading and augmentation: this package compared with SpikingJelly's npz files and torchvision's DataLoader.

    python benchmarks/loading.py --out benchmarks/results/loading.json

Every figure is taken on as many cores as it may use, with the files in the page cache, after a warm-up; rounds take turns, so
that a busy machine affects all alike. `per_s` is by wall time over all batches, `best_per_s` over the fastest tenth of them in a
row, `per_cpu_s` by processor time over all processes and threads; these two show on a busy machine what an idle one gives.

frames  T=10 counts, batches of 32 in random order. `stored`: rows of the memory-mapped uint8 array into a uint8 batch on the
        host, by the prefetch thread: all that the host does when a GPU trains. `float`: the same as float32 [T, B, 2, H, W],
        converted on the CPU. `default 4`, `uncompressed 0` and so on: SpikingJelly's npz reader under torch's DataLoader with
        that many workers, frames compressed (its default) or not, float32.
        `memcpy_gb_per_s` is the rate of copying 256 MB in the same process.
cifar   batches of 128 as normalised float32: random crop, flip, Cutout; and with AutoAugment. This package on one core; torch's
        DataLoader with torchvision's transforms on Pillow images as published recipes have it, with 4 workers on all cores.
stall   how much longer a step takes because of the loader. `idle` steps leave the CPU alone, as a GPU's do, for the time given;
        `busy` ones multiply matrices on one core for that long. `share_%` is the median wait for a batch over the median step,
        `mean_share_%` all waits over all steps (where other programs compete for the processor, it includes their time); the
        first batch of an epoch, which cannot be prefetched, is in neither, but in `first_of_epoch_ms`. `longer_%` compares the
        median step with that of the same steps without a loader, in alternating blocks.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import importlib.metadata
import itertools
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import CIFAR10

from spikedistill.data.loading.augment import Augment
from spikedistill.data.loading.inputs import STATISTICS, InputConfig
from spikedistill.data.loading.loader import Loader
from spikedistill.data.prepare.index import write_index
from spikedistill.data.store import open_store

STEPS, BATCH, SAMPLES = 10, 32, 1000
IMAGES, IMAGE_BATCH = 50_000, 128
RECIPES = {
    "crop, flip, Cutout": Augment(crop_padding=4, flip=True, cutout=16),
    "the same with AutoAugment": Augment(crop_padding=4, flip=True, auto_augment="cifar10", cutout=16),
}
BATCHES = {"stored": 400, "float": 20, "npz": 3, "ours": 120, "torchvision": 40}  # batches that a figure is of
STALL_BLOCKS, STALL_STEPS, AT_FIRST = 6, 40, 5  # of the steps of a block, the first ones find batches that were made before


def write_frames(folder: Path, side: int) -> None:
    """Write counts as sparse as those of CIFAR10-DVS, as a store and as SpikingJelly's files."""
    some = np.random.default_rng(0).poisson(0.8, (SAMPLES // 20, STEPS, 2, side, side)).astype(np.uint8)
    frames = np.tile(some, (20, 1, 1, 1, 1))
    folder.mkdir(parents=True)
    np.save(folder / "frames.npy", frames)
    rows = [{"id": str(row), "label": row % 10, "max": 9} for row in range(SAMPLES)]
    names = [str(label) for label in range(10)]
    write_index(folder, kind="frames", class_names=names, rows=rows, splits={"train": range(SAMPLES)}, recipe={})
    count = BATCHES["npz"] * BATCH
    for kind, save in (("default", np.savez_compressed), ("uncompressed", np.savez)):
        (folder / kind).mkdir()
        for row in range(count):
            save(folder / kind / f"{row}.npz", frames=frames[row].astype(np.float64))


def write_images(folder: Path) -> None:
    """Pictures with structure, of CIFAR's size and number."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (IMAGES, 3, 4, 4), dtype=np.uint8)
    images = np.repeat(np.repeat(coarse // 2, 8, axis=2), 8, axis=3)
    images += random.integers(0, 128, (IMAGES, 3, 32, 32), dtype=np.uint8)
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    rows = [{"id": str(row), "label": row % 10} for row in range(IMAGES)]
    names = [str(label) for label in range(10)]
    write_index(folder, kind="images", class_names=names, rows=rows, splits={"train": range(IMAGES)}, recipe={})


def processor_seconds() -> float:
    """Processor time of this process, its threads, and its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def rate(batches: Callable[[], Iterable[Any]], count: int, size: int) -> dict[str, float]:
    """Samples per second over `count` batches of `size`, after a pass over a few of them."""
    for _ in zip(range(max(2, count // 10)), batches(), strict=False):
        pass
    used, clock = processor_seconds(), [time.perf_counter()]
    for _ in zip(range(count), batches(), strict=False):
        clock.append(time.perf_counter())
    used = processor_seconds() - used
    done, tenth = len(clock) - 1, max(1, (len(clock) - 1) // 10)
    best = min(clock[at + tenth] - clock[at] for at in range(1, len(clock) - tenth))
    return {"per_s": done * size / (clock[-1] - clock[0]), "best_per_s": tenth * size / best, "per_cpu_s": done * size / used}


def endless(epoch: Callable[[int], Iterator[Any]]) -> Iterator[Any]:
    """Epoch after epoch."""
    number = 0
    while True:
        with contextlib.closing(epoch(number)) as batches:  # type: ignore[type-var]
            yield from batches
        number += 1


def memcpy() -> float:
    """GB/s that copying 256 MB gives."""
    source = np.ones(256 << 20, dtype=np.uint8)
    target = np.empty_like(source)
    target[:] = source
    started = time.perf_counter()
    for _ in range(4):
        target[:] = source
    return 4 * source.nbytes / (time.perf_counter() - started) / 1e9


class NpzFrames(Dataset[tuple[np.ndarray, int]]):
    """SpikingJelly's files, read by its own reader, as its datasets do."""

    def __init__(self, folder: Path) -> None:
        self._read = importlib.import_module("spikingjelly.datasets.utils").load_npz_frames
        self._files = sorted(folder.glob("*.npz"))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._read(str(self._files[index])), index % 10


def of_workers(found: dict[str, float]) -> dict[str, float]:
    """Drop the processor time, unknown for workers that are still alive, and the best rate, as they had batches ready."""
    return {"per_s": found["per_s"]}


def measure_frames(kind: str, folder: Path) -> dict[str, float]:
    """One way of loading frames."""
    if kind in ("stored", "float"):
        loader = Loader(open_store(folder), "train", batch_size=BATCH, shuffle=True)
        epoch = loader.stored if kind == "stored" else loader.epoch
        return {**rate(lambda: endless(epoch), BATCHES[kind], BATCH), "memcpy_gb_per_s": memcpy()}
    which, workers = kind.split()
    dataset = NpzFrames(folder / which)
    batches = DataLoader(dataset, BATCH, shuffle=True, num_workers=int(workers), persistent_workers=workers != "0")
    found = rate(lambda: batches, BATCHES["npz"], BATCH)
    return found if workers == "0" else of_workers(found)


class Cutout:
    """Zeros in a square around a random pixel of a tensor, as published recipes have it."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Change an image [3, 32, 32] in place."""
        y, x = np.random.randint(32), np.random.randint(32)
        image[:, max(y - 8, 0) : y + 8, max(x - 8, 0) : x + 8] = 0
        return image


class Pictures(CIFAR10):
    """torchvision's dataset around arrays that are there already."""

    def __init__(self, images: np.ndarray, transform: Callable[[Any], torch.Tensor]) -> None:
        self.data, self.targets = images, [row % 10 for row in range(len(images))]
        self.transform, self.target_transform = transform, None


def measure_cifar(kind: str, recipe: str, folder: Path) -> dict[str, float]:
    """One way of augmenting images."""
    if kind == "ours":
        loader = Loader(
            open_store(folder),
            "train",
            batch_size=IMAGE_BATCH,
            shuffle=True,
            augment=RECIPES[recipe],
            inputs=InputConfig(normalize="cifar10"),
        )
        return rate(lambda: endless(loader.epoch), BATCHES["ours"], IMAGE_BATCH)
    policy = [transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)] if RECIPES[recipe].auto_augment else []
    change = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            *policy,
            transforms.ToTensor(),
            Cutout(),
            transforms.Normalize(*STATISTICS["cifar10"]),
        ]
    )
    pictures = np.ascontiguousarray(np.load(folder / "images.npy").transpose(0, 2, 3, 1))
    batches: DataLoader[Any] = DataLoader(
        Pictures(pictures, change), IMAGE_BATCH, shuffle=True, num_workers=4, persistent_workers=True
    )
    for _ in zip(range(10), batches, strict=False):
        pass  # the workers have started and run
    return of_workers(rate(lambda: batches, BATCHES["torchvision"], IMAGE_BATCH))


def step_of(kind: str, seconds: float) -> Callable[[], None]:
    """What a training step does to this machine."""
    if kind == "idle":
        return lambda: time.sleep(seconds)
    matrix = torch.rand(256, 256)

    def multiply() -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            matrix @ matrix

    return multiply


def measure_stall(kind: str, what: str, seconds: float, root: Path) -> dict[str, float]:
    """How much longer a step takes because of the loader."""
    step = step_of(kind, seconds)
    if what == "cifar":
        augment = RECIPES["crop, flip, Cutout"]
        loader = Loader(open_store(root / what), "train", batch_size=IMAGE_BATCH, shuffle=True, augment=augment)
        epoch = loader.epoch
    else:
        loader = Loader(open_store(root / what), "train", batch_size=BATCH, shuffle=True)
        epoch = loader.stored
    waits, firsts, steps, alone = [], [], [], []
    of_epoch = itertools.cycle(range(loader.steps_per_epoch))
    with contextlib.closing(endless(epoch)) as batches:  # type: ignore[type-var]
        for _ in range(STALL_BLOCKS):  # in turn, so that a busy machine affects both alike
            for number in range(STALL_STEPS):
                before = time.perf_counter()
                next(batches)
                between = time.perf_counter()
                step()
                if next(of_epoch) == 0:
                    firsts.append(between - before)
                elif number >= AT_FIRST:
                    waits.append(between - before)
                    steps.append(time.perf_counter() - before)
            time.sleep(0.01)  # the thread has made what it may make ahead
            for _ in range(STALL_STEPS - AT_FIRST):
                before = time.perf_counter()
                step()
                alone.append(time.perf_counter() - before)
    return {
        "step_ms": 1e3 * statistics.median(steps),
        "wait_us": 1e6 * statistics.median(waits),
        "share_%": 100 * statistics.median(waits) / statistics.median(steps),
        "mean_share_%": 100 * sum(waits) / sum(steps),
        "first_of_epoch_ms": 1e3 * statistics.median(firsts),
        "longer_%": 100 * (statistics.median(steps) / statistics.median(alone) - 1),
    }


def measure(cores: list[int], what: tuple[str, ...], root: Path) -> dict[str, float]:
    """One figure, on some of the cores."""
    available = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        return run_one(what, root)
    finally:
        os.sched_setaffinity(0, available)
        gc.collect()  # workers end


def figures() -> list[tuple[str, int, tuple[str, ...]]]:
    """Everything to measure: its name, how many cores it gets, what it is."""
    every = len(os.sched_getaffinity(0))
    wanted: list[tuple[str, int, tuple[str, ...]]] = []
    for side in (128, 48):
        for kind in ("stored", "float", "default 0", "default 4", "uncompressed 0", "uncompressed 4"):
            cores = every if kind.endswith("4") else 1 if kind.endswith("0") else 2
            wanted.append((f"frames {side}x{side}, {kind}", cores, ("frames", kind, f"frames{side}")))
    for recipe in RECIPES:
        wanted.append((f"cifar {recipe}, ours", 1, ("cifar", "ours", recipe)))
        wanted.append((f"cifar {recipe}, torchvision with 4 workers", every, ("cifar", "torchvision", recipe)))
    for what, milliseconds in (("frames128", 2), ("frames48", 2), ("frames128", 5), ("cifar", 2), ("cifar", 5)):
        for kind in ("idle", "busy"):
            wanted.append((f"stall {what}, {kind} step of {milliseconds} ms", 2, ("stall", kind, what, str(milliseconds / 1e3))))
    return wanted


def run_one(what: tuple[str, ...], root: Path) -> dict[str, float]:
    """The figure that `figures` names."""
    if what[0] == "frames":
        return measure_frames(what[1], root / what[2])
    if what[0] == "cifar":
        return measure_cifar(what[1], what[2], root / "cifar")
    return measure_stall(what[1], what[2], float(what[3]), root)


def summary(rows: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """How many times faster than others, by the median over the rounds."""

    def median(name: str, key: str = "per_s") -> float:
        return statistics.median(row[key] for row in rows[name])

    found = {}
    for side in (128, 48):
        names = [name for name in rows if name.startswith(f"frames {side}x{side}, ")]
        for name in names[2:]:
            found[f"{names[0]} over {name.partition(', ')[2]}"] = median(names[0]) / median(name)
    for recipe in RECIPES:
        ours, theirs = f"cifar {recipe}, ours", f"cifar {recipe}, torchvision with 4 workers"
        found[f"{ours} over torchvision"] = median(ours) / median(theirs)
    return {name: round(value, 2) for name, value in found.items()}


def shorten() -> None:
    """Take a few samples and batches for each figure, so that all of them take seconds."""
    global SAMPLES, IMAGES, STALL_BLOCKS, STALL_STEPS
    SAMPLES, IMAGES, STALL_BLOCKS, STALL_STEPS = 160, 1280, 1, 8
    BATCHES.update(dict.fromkeys(BATCHES, 4))


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="little of everything: shows that it runs, not how fast")
    parser.add_argument("--only", default="", help="measure only the figures whose name begins so")
    parser.add_argument("--folder", type=Path, help="where to put about 1.5 GB of samples for a while")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.short:
        shorten()
        options.rounds = 1
    wanted = [entry for entry in figures() if entry[0].startswith(options.only)]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name, _, _ in wanted}
    available = sorted(os.sched_getaffinity(0))
    loads: list[float] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write_images(Path(folder, "cifar"))
        for side in (128, 48):
            write_frames(Path(folder, f"frames{side}"), side)
        for _ in range(options.rounds):
            loads.append(round(os.getloadavg()[0], 1))
            print(f"programs that want a core: {loads[-1]}", flush=True)
            for name, cores, what in wanted:
                rows[name].append(measure(available[-cores:], what, Path(folder)))
                print(f"{name:58}", {key: float(f"{value:.4g}") for key, value in rows[name][-1].items()}, flush=True)
            ratios = summary(rows) if not options.only else {}
            if options.out:
                write(options.out, {"loads": loads, "ratios": ratios, "figures": rows})
    for name, value in ratios.items():
        print(f"{name:100} {value:8.1f}")


def write(path: Path, found: dict[str, Any]) -> None:
    """Write the figures so far, with the machine that they were taken on."""
    packages = ("torch", "torchvision", "spikingjelly", "numpy", "pillow")
    versions = {name: importlib.metadata.version(name) for name in packages}
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), **versions}
    command = "python " + " ".join([Path(sys.argv[0]).as_posix(), *sys.argv[1:]])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"command": command, **machine, **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
