"""Event recordings to frames on disk: this package compared with SpikingJelly, with and without compression.

    python benchmarks/preprocess.py --out benchmarks/results/preprocess.json

Recordings are simulated in the published formats: an edge picture that moves, with noise. Every figure is of a process of its
own, bound to as many cores as it may use, after its imports, with the files in the page cache. It is the fastest of three times,
because the first use of memory is expensive on a virtual machine. SpikingJelly runs as its users
run it, by creating its dataset (its events as npz, then its frames as npz), on one thread for one core and on its 16 threads for
more. This package runs `prepare`: decode, check, integrate, one array with its index. What is compared is the time per
recording; rounds take turns, so that a busy machine affects all alike.

Memory is the resident set of a process: `imported` before any work, `peak` at its worst, `workers_peak` that of its largest
worker process (which shares pages with its parent, and counts them).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 10
KINDS = ("default", "uncompressed", "ours")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MIB = 2**20
TIMES = 3


@dataclass(frozen=True)
class Set:
    """A dataset to simulate: how SpikingJelly and this package call it, and how many recordings each gets.

    Attributes:
        theirs: module and class of SpikingJelly's dataset, and its arguments.
        ours: parameters of this package's dataset.
        per_group: recordings that SpikingJelly gets, and that this package gets, in each group.
        write: writes recording `number` of a group below a folder; returns what was written.
        groups: the folders.
    """

    theirs: tuple[str, str, dict[str, Any]]
    ours: dict[str, Any]
    per_group: tuple[int, int]
    write: Callable[[Path, str, int], list[Path]]
    groups: tuple[str, ...]


def moving_edges(name: str, count: int, side: int, start_us: int, duration_us: int) -> tuple[np.ndarray, ...]:
    """Events t, x, y, p of an edge picture on a closed path in front of a display of 60 Hz."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    edges = random.normal(side / 2, side / 5, (max(8, side * side // 12), 2))
    at = random.integers(0, len(edges), count)
    frame_us = 16_667
    t = np.sort(random.integers(0, duration_us, count))
    t = np.sort(t - t % frame_us + (random.gamma(2.0, 1500, count).astype(np.int64) % frame_us))
    angle = 2 * np.pi * t / 300_000
    shift = side / 24 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    y, x = np.clip(np.round(edges[at] + shift), 0, side - 1).astype(np.int64).T
    noise = random.random(count) < 0.1
    x[noise], y[noise] = random.integers(0, side, (2, int(noise.sum())))
    p = ((at % 2 == 0) ^ (np.sin(angle) > 0)).astype(np.int64)
    return t + start_us, x, y, p


def write_cifar10_dvs(folder: Path, group: str, number: int) -> list[Path]:
    """200,000 events in 1.28 s, AEDAT 2.0."""
    t, x, y, p = moving_edges(f"{group} {number}", 200_000, 128, 0, 1_280_000)
    words = np.stack([((127 - x) << 8) | ((127 - y) << 1) | (1 - p), t], axis=1).astype(">u4")
    path = folder / group / f"cifar10_{group}_{number}.aedat"
    header = b"#!AER-DAT2.0\r\n# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event\r\n"
    path.write_bytes(header + words.tobytes())
    return [path]


def write_n_mnist(folder: Path, group: str, number: int) -> list[Path]:
    """4200 events in 0.3 s, ATIS."""
    t, x, y, p = moving_edges(f"{group} {number}", 4200, 34, 0, 300_000)
    columns = [x, y, (p << 7) | (t >> 16), (t >> 8) & 0xFF, t & 0xFF]
    path = folder / group / f"{number:05d}.bin"
    path.write_bytes(np.stack(columns, axis=1).astype(np.uint8).tobytes())
    return [path]


def write_gesture(folder: Path, group: str, number: int) -> list[Path]:
    """2,000,000 events in 84 s of which 12 samples of 6 s are cut, AEDAT 3.1 in packets of 4096."""
    trial = f"user{number:02d}_{group}"
    t, x, y, p = moving_edges(trial, 2_000_000, 128, 80_000_000, 84_000_000)
    words = np.stack([(x << 17) | (y << 2) | (p << 1) | 1, t], axis=1).astype("<u4")
    packets = [b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"]
    for start in range(0, len(words), 4096):
        part = words[start : start + 4096]
        packets += [struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, len(part), len(part), len(part)), part.tobytes()]
    (folder / f"{trial}.aedat").write_bytes(b"".join(packets))
    rows = [f"{i % 11 + 1},{80_000_000 + 7_000_000 * i},{86_000_000 + 7_000_000 * i}" for i in range(12)]
    (folder / f"{trial}_labels.csv").write_text("\n".join(["class,startTime_usec,endTime_usec", *rows, ""]))
    with (folder / f"trials_to_{group}.txt").open("a") as stream:
        stream.write(f"{trial}.aedat\n")
    return [folder / f"{trial}.aedat"]


SETS = {
    "cifar10-dvs": Set(
        ("cifar10_dvs", "CIFAR10DVS", {}), {"num_frames": STEPS, "split": "random42"}, (4, 250), write_cifar10_dvs, CIFAR10
    ),
    "n-mnist": Set(
        ("n_mnist", "NMNIST", {"train": True}),
        {"num_frames": STEPS},
        (20, 300),
        write_n_mnist,
        tuple(f"{part}/{digit}" for part in ("Train", "Test") for digit in range(10)),
    ),
    "dvs128-gesture": Set(
        ("dvs128_gesture", "DVS128Gesture", {"train": True}), {"num_frames": 16}, (1, 4), write_gesture, ("train", "test")
    ),
}


def write_set(name: str, root: Path) -> dict[str, int]:
    """Write the files of a set to `root/ours`, the first of them to `root/theirs` too; how many recordings each has."""
    each = SETS[name]
    inner = "extract/DvsGesture" if name == "dvs128-gesture" else "extract"
    for count, owner in zip(each.per_group, ("theirs", "ours"), strict=True):
        folder = root / owner / inner
        (root / owner / "download").mkdir(parents=True)
        for group in each.groups:
            (folder / group).mkdir(parents=True) if name != "dvs128-gesture" else folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                each.write(folder, group, number)
    return dict(zip(("theirs", "ours"), (count * len(each.groups) for count in each.per_group), strict=True))


def status_mib(key: str) -> float:
    """VmRSS or VmHWM of this process."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def measure_theirs(name: str, root: Path) -> dict[str, float]:
    """Create SpikingJelly's dataset."""
    module, kind, arguments = SETS[name].theirs
    dataset = getattr(importlib.import_module(f"spikingjelly.datasets.{module}"), kind)
    dataset._check_downloaded_files = classmethod(lambda cls, folder: None)  # simulated files have other checksums
    steps = SETS[name].ours["num_frames"]
    return timed(lambda: dataset(root, data_type="frame", frames_number=steps, split_by="number", **arguments), root)


def measure_ours(name: str, root: Path, cores: int) -> dict[str, float]:
    """Prepare this package's dataset."""
    dataset = importlib.import_module(f"spikedistill.data.datasets.{name.replace('-', '_')}")
    importlib.import_module("spikedistill.stages.preprocess")  # as a stage has it
    params = dataset.Params(**({"strict": False, **SETS[name].ours} if name in SETS else {}))

    def prepare() -> None:
        (root / "out").mkdir()
        dataset.prepare(params, raw=root, out=root / "out", work=root, num_workers=cores)

    return timed(prepare, root)


def timed(create: Callable[[], Any], root: Path) -> dict[str, float]:
    """Figures of making a dataset, the fastest of some times; memory is the most of all times."""
    imported, figures = status_mib("VmRSS"), []
    for _ in range(TIMES):
        remove_created(root)
        started, cpu = time.perf_counter(), cpu_s()
        create()
        figures.append((time.perf_counter() - started, cpu_s() - cpu))
    took, used = min(figures)
    workers_peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    memory = {"imported_mib": imported, "peak_mib": status_mib("VmHWM"), "workers_peak_mib": workers_peak_mib}
    return {"wall_s": took, "cpu_s": used, **memory}


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def remove_created(root: Path) -> None:
    """Remove all but the recordings."""
    for entry in root.iterdir():
        if entry.name not in ("extract", "download"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def measure(name: str, kind: str, root: Path, cores: list[int]) -> dict[str, float]:
    """One figure, in a process of its own."""
    owner = "ours" if kind == "ours" else "theirs"
    folder = root / owner
    env = {**os.environ, "OMP_NUM_THREADS": "1", "SJ_SAVE_DATASETS_COMPRESSED": str(int(kind == "default"))}
    env["SJ_MAX_THREADS_NUMBER_FOR_DATASETS_PREPROCESS"] = "1" if len(cores) == 1 else "16"
    command = [sys.executable, __file__, "--measure", kind, "--set", name, "--root", str(folder), "--cores", str(len(cores))]
    os.sync()  # or this run would wait while earlier writes of others are flushed
    bind = lambda: os.sched_setaffinity(0, cores)  # noqa: E731
    done = subprocess.run(command, env=env, capture_output=True, text=True, preexec_fn=bind)
    if done.returncode:
        sys.exit(done.stderr[-5000:])
    remove_created(folder)
    return json.loads(done.stdout.splitlines()[-1])


def compare(name: str, root: Path, cores: list[int], rounds: int) -> dict[str, Any]:
    """Figures of every kind in each round, and their ratios."""
    counts = write_set(name, root) if not root.exists() else json.loads((root / "counts.json").read_text())
    (root / "counts.json").write_text(json.dumps(counts))
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            runs[kind].append(measure(name, kind, root, cores))
    per_recording = {
        kind: {
            unit: [1e3 * run[unit] / counts["ours" if kind == "ours" else "theirs"] for run in found]
            for unit in ("wall_s", "cpu_s")
        }
        for kind, found in runs.items()
    }
    ratios = {
        f"{kind}_{unit[:-2]}": [a / b for a, b in zip(per_recording[kind][unit], per_recording["ours"][unit], strict=True)]
        for kind in ("default", "uncompressed")
        for unit in ("wall_s", "cpu_s")
    }
    memory = {key: max(run[key] for run in runs["ours"]) for key in ("imported_mib", "peak_mib", "workers_peak_mib")}
    memory |= {f"{kind}_peak_mib": max(run["peak_mib"] for run in runs[kind]) for kind in ("default", "uncompressed")}
    row = {"set": name, "cores": len(cores), "files": counts, "ms_per_file": per_recording, "ratios": ratios, "memory": memory}
    print_row(row)
    return row


def print_row(row: dict[str, Any]) -> None:
    """One line a set and number of cores."""
    median = {kind: statistics.median(row["ms_per_file"][kind]["wall_s"]) for kind in KINDS}
    ratios = {key: f"{statistics.median(r):.0f} ({min(r):.0f}-{max(r):.0f})" for key, r in row["ratios"].items()}
    print(
        f"{row['set']:15} {row['cores']} cores | ms per file: {median['default']:.1f} {median['uncompressed']:.2f} "
        f"{median['ours']:.3f} | times faster than default: {ratios['default_wall']}, CPU {ratios['default_cpu']}; uncompressed: "
        f"{ratios['uncompressed_wall']}, CPU {ratios['uncompressed_cpu']} | MiB: {row['memory']['imported_mib']:.0f} imported, "
        f"{row['memory']['peak_mib']:.0f} peak, {row['memory']['workers_peak_mib']:.0f} in workers",
        flush=True,
    )


def digits(root: Path, cores: list[int]) -> dict[str, Any]:
    """The 1797 simulated recordings: simulate, write, decode, integrate."""
    (root / "ours").mkdir(parents=True)
    row = {"set": "digits-dvs", "cores": len(cores), "recordings": 1797, **measure("digits-dvs", "ours", root, cores)}
    print(
        f"{row['set']:15} {row['cores']} cores | {row['wall_s']:.1f} s, CPU {row['cpu_s']:.1f} s for 1797 recordings", flush=True
    )
    return row


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=[*SETS, "digits-dvs"], choices=[*SETS, "digits-dvs"])
    parser.add_argument("--short", action="store_true", help="little of everything: shows that it runs, not how fast")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--folder", type=Path, help="where to put about 700 MB of recordings for a while")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--set", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        ours = options.measure == "ours"
        print(
            json.dumps(
                measure_ours(options.set, options.root, options.cores[0]) if ours else measure_theirs(options.set, options.root)
            )
        )
        return
    if options.short:
        options.rounds, options.cores = 1, [1]
        SETS.update({name: dataclasses.replace(each, per_group=(1, 2)) for name, each in SETS.items()})
    available = sorted(os.sched_getaffinity(0))
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name in options.sets:
            for count in options.cores:
                cores = available[:count]
                if name == "digits-dvs":
                    rows.append(digits(Path(folder, f"{name}{count}"), cores))
                else:
                    rows.append(compare(name, Path(folder, name), cores, options.rounds))
    if options.out:
        versions = {name: importlib.metadata.version(name) for name in ("spikingjelly", "numpy")}
        load = {"load_average": os.getloadavg()[0], "niceness": os.getpriority(os.PRIO_PROCESS, 0)}
        machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), **versions}
        command = "python " + " ".join([Path(sys.argv[0]).as_posix(), *sys.argv[1:]])
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(
            json.dumps({"command": command, **machine, **load, "rows": rows}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
