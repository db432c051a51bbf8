"""An array of four times the memory that a job may use, on a slow disk: page faults compared with read-ahead.

    python benchmarks/larger_than_memory.py --out benchmarks/results/larger_than_memory.json
    python benchmarks/larger_than_memory.py --request-kb 128 --out benchmarks/results/larger_than_memory-128k.json

rates   samples/s of `Loader.stored`: uint8 batches on the host. The array is images of 3 x 256 x 256, as ImageNet with
        `storage: array` has them. Each way runs in a process of its own, in a control group whose memory limit is a quarter of
        the array, with nothing of the array in the page cache; ways take turns. The disk stands for a parallel file system (see
        measuring/slow_disk.py), with requests of up to 1 MiB, or of 128 KiB, which is the kernel's default for others.
        `page faults` copies rows from the memory map, which was the only way before and is still used for data in the page
        cache; `advised` does that too, but first asks the kernel for the rows of the next 256 samples (posix_fadvise,
        WILLNEED), an alternative that was not chosen; `ahead` reads ahead. `full` and `chunked` are the shuffles, chunked with
        the default blocks, and a window of which an eighth of the limit is held. Page faults and advice get some seconds,
        read-ahead more.
        `private_mb` is the peak of the process's memory that no file backs, `peak_mb` that of the group, with its page cache,
        `killed` how many processes the kernel killed for lack of memory. Every sample is checked to be the one that the order
        asks for.
memory  the same, with read-ahead, for a whole epoch, and for one of a quarter of the rows.
cached  the same array without the group and the slow disk, in the page cache: the way that the loader chooses by itself, and
        reading ahead.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from measuring.machine import describe
from measuring.slow_disk import Group, missing, served_late
from spikedistill.data.formats.arrays import open_array
from spikedistill.data.loading.loader import Loader
from spikedistill.data.loading.rng import epoch_permutation
from spikedistill.data.loading.streaming.array_file import ArrayFile
from spikedistill.data.loading.streaming.order import ChunkedShuffle
from spikedistill.data.store import SampleStore

SHAPE = (3, 256, 256)
ROW_BYTES = 3 * 256 * 256
BATCH = 64
WAYS = ("page faults, full", "page faults, chunked", "advised, full", "ahead, full", "ahead, chunked")
FAULTS_S, AHEAD_S = 6.0, 15.0
ADVISED = 256  # samples


def write_array(path: Path, rows: int) -> None:
    """Noise, with the number of its row at the start of each."""
    noise = np.random.default_rng(0).integers(0, 256, (256, ROW_BYTES), dtype=np.uint8)
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (rows, *SHAPE)})
        for first in range(0, rows, len(noise)):
            part = noise[: min(len(noise), rows - first)]
            part[:, :8] = np.arange(first, first + len(part))[:, None].view(np.uint8)
            stream.write(part.data)
        stream.flush()
        os.fsync(stream.fileno())


def measure(path: Path, way: str, rows: int, window: int, seconds_at_most: float) -> dict[str, float]:
    """Load an epoch, or as much of it as there is time for (0: all), in this process."""
    if way in WAYS:
        ArrayFile.is_cached = lambda *_: not way.startswith("ahead")  # type: ignore[method-assign]
    torch.set_num_threads(1)
    every = np.arange(rows)
    mean = (0.0,) * 3
    store = SampleStore("images", open_array(path), every, {"train": every}, tuple(map(str, every)), mean, mean)
    shuffle = ChunkedShuffle(window=window) if way.endswith("chunked") else None
    loader = Loader(store, "train", batch_size=BATCH, shuffle=True, chunked=shuffle)
    started, used, done, first_s, private = time.perf_counter(), time.process_time(), 0, 0.0, 0.0
    for samples, labels in advised(path) if way.startswith("advised") else loader.stored(0):
        first_s = first_s or time.perf_counter() - started
        numbers = samples.reshape(len(samples), -1)[:, :8].contiguous().view(torch.int64)
        if not torch.equal(numbers[:, 0], labels):
            raise SystemExit(f"{way}: other rows than asked for")
        done, private = done + len(samples), max(private, private_mb())
        if seconds_at_most and time.perf_counter() - started > seconds_at_most:
            break
    seconds, used = time.perf_counter() - started, time.process_time() - used
    rates = {"per_s": done / seconds, "per_cpu_s": done / used}
    return {**rates, "first_s": first_s, "samples": done, "private_mb": private}


def advised(path: Path) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The batches of an epoch from the memory map, whose rows the kernel was asked for before."""
    samples = open_array(path)
    order = epoch_permutation(0, 0, len(samples))
    start = path.stat().st_size - samples.nbytes
    with path.open("rb") as stream:

        def advise(rows: np.ndarray) -> None:
            for row in rows.tolist():
                os.posix_fadvise(stream.fileno(), start + row * ROW_BYTES, ROW_BYTES, os.POSIX_FADV_WILLNEED)

        advise(order[:ADVISED])
        for first in range(0, len(order) - BATCH + 1, BATCH):
            advise(order[first + ADVISED : first + ADVISED + BATCH])
            rows = order[first : first + BATCH]
            yield torch.from_numpy(np.take(samples, rows, axis=0)), torch.from_numpy(rows)


def private_mb() -> float:
    """Memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:"))


def in_process(group: Group | None, path: Path, way: str, *given: float) -> dict[str, float]:
    """Measure in a process of its own, in a group; `given` are the rest of what `measure` takes."""
    command = [sys.executable, __file__, "--measure", json.dumps([str(path), way, *given])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, preexec_fn=group.join if group else None)
    if done.returncode:
        raise SystemExit(f"{way}: ended with {done.returncode}")
    found: dict[str, float] = json.loads(done.stdout)
    return found | (group.found() if group else {})


@contextlib.contextmanager
def on_disk(array: Path, place: Path, options: argparse.Namespace) -> Iterator[Path]:
    """Serve the array from a slow disk, or leave it where it is without a delay."""
    if not options.delay_ms:
        yield array
        return
    with served_late(array, place, options.delay_ms, options.request_kb):
        yield place / array.name


def one(array: Path, place: Path, way: str, options: argparse.Namespace, *given: float) -> dict[str, float]:
    """One way, on a cold disk, within the limit; `given` are rows and time."""
    window = max(64, int(options.limit_mb * 2**20 / 4 / ROW_BYTES))
    with on_disk(array, place, options) as path, contextlib.ExitStack() as stack:
        group = stack.enter_context(Group(options.limit_mb << 20)) if options.delay_ms else None
        return {key: round(value, 3) for key, value in in_process(group, path, way, given[0], window, given[1]).items()}


def measure_all(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everything, in turn."""
    rows = 4 * (options.limit_mb << 20) // ROW_BYTES
    array, place = folder / "images.npy", folder / "mounted"
    place.mkdir()
    write_array(array, rows)
    rates: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _, way in itertools.product(range(options.rounds), WAYS):
        rates[way].append(one(array, place, way, options, rows, AHEAD_S if way.startswith("ahead") else FAULTS_S))
        print(f"{way:24}", rates[way][-1], flush=True)
    ahead = [way for way in WAYS if way.startswith("ahead")]
    memory = {f"{way}, {part} rows": one(array, place, way, options, part, 0) for part in (rows // 4, rows) for way in ahead}
    ways = ("own choice", ahead[0])
    cached = {way: [in_process(None, array, way, rows, BATCH, 0) for _ in range(options.rounds)] for way in ways}
    return {"rows": rows, "ratios": ratios(rates, cached), "rates": rates, "memory": memory, "cached": cached}


def ratios(rates: dict[str, list[dict[str, float]]], cached: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Medians over rounds, as multiples."""

    def median(found: list[dict[str, float]]) -> float:
        return float(np.median([each["per_s"] for each in found]))

    base = median(rates["page faults, full"])
    found = {f"{way} over page faults, full": median(rates[way]) / base for way in WAYS[1:]}
    own, ahead = cached.values()
    found["cached: own choice over ahead"] = median(own) / median(ahead)
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit-mb", type=int, default=768, help="memory that a job may use, in MiB")
    parser.add_argument("--delay-ms", type=float, default=5, help="of an answer of the disk; 0: the disk as it is, no group")
    parser.add_argument("--request-kb", type=int, default=1024, help="size of a request to the disk, at most 1024")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to put four times the limit for a while")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        path, *rest = options.measure
        print(json.dumps(measure(Path(path), *rest)))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that nothing stays mounted
    if options.delay_ms and (lacking := missing()):
        raise SystemExit(f"needs {lacking} for a disk that answers late; see measuring/slow_disk.py, or --delay-ms 0")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = measure_all(Path(folder), options)
    command = " ".join(["python", Path(sys.argv[0]).as_posix(), *sys.argv[1:]])
    settings = {
        "limit_mb": options.limit_mb,
        "delay_ms": options.delay_ms,
        "request_kb": options.request_kb,
        "row_bytes": ROW_BYTES,
        "batch": BATCH,
    }
    text = json.dumps({"command": command, **describe("cpu", 1), **settings, **figures}, indent=1) + "\n"
    print(json.dumps(figures["ratios"], indent=1))
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
