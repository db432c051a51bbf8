"""Preparing images: the rate by storage and number of processes, and the cost of resuming after an interruption.

    python benchmarks/preparing.py --folder /dev/shm --out benchmarks/results/preparing.json

Pictures are those of `measuring.pictures`, which cost a decoder what ImageNet's do, in the page cache. Every figure is of
`prepare` of the dataset `imagenet` in a program of its own, after its imports and after the decoders were compiled, bound to as
many cores as it has processes. The figures of a round follow each other, so that a busy machine affects all alike. On a disk,
arrays and copies are limited by its write speed; in memory (/dev/shm), by the processors.

`again` is a run that finds everything done: it compares sizes and times of the files with the journal, and the checksums of what
was written. `after a kill` is a run whose predecessor was killed once at least half of the images were in its journal: blocks are
noted about every second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STORAGES: dict[str, dict[str, Any]] = {
    "verified": {"storage": "files"},
    "verified, with entry points": {"storage": "files", "random_access": True},
    "array": {"storage": "array"},
    "packed": {"storage": "packed"},
    "packed, not decoded": {"storage": "packed", "verify": False},
    "packed, shrunk to 288": {"storage": "packed", "shrink": {"side": 288, "quality": 90}},
}


def prepare_here(raw: Path, folder: Path, params: dict[str, Any], workers: int, commit_s: float | None) -> None:
    """Prepare in this program, and print how long it took."""
    from spikedistill.data.datasets import imagenet
    from spikedistill.data.formats.decoding import finding, resample, turbo
    from spikedistill.data.prepare.blocks import filling

    turbo.same_as_pillow()
    resample.compiled()
    finding.found(next(raw.rglob("*.JPEG")).read_bytes())
    if commit_s is not None:
        filling.COMMIT_S = commit_s
    for name in ("out", "work"):
        (folder / name).mkdir(exist_ok=True)
    start = time.perf_counter()
    imagenet.prepare(
        imagenet.Params(strict=False, **params), raw=raw, out=folder / "out", work=folder / "work", num_workers=workers
    )
    print(json.dumps({"seconds": time.perf_counter() - start}))


def start(
    raw: Path, folder: Path, params: dict[str, Any], workers: int = 2, commit_s: float | None = None
) -> subprocess.Popen[str]:
    """Start to prepare in a program of its own; `commit_s`: how often blocks are noted, as it is every five seconds."""
    folder.mkdir(exist_ok=True)
    os.sync()  # or it would wait while earlier writes of others are flushed
    asked = json.dumps([str(raw), str(folder), params, workers, commit_s])
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:workers]))
    command = ["taskset", "-c", cores, sys.executable, __file__, "--one", asked]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def seconds(running: subprocess.Popen[str]) -> float:
    """Wait for its end; return how long it took."""
    said = running.communicate()[0]
    if running.returncode:
        raise SystemExit(f"exit status {running.returncode}")
    return float(json.loads(said.splitlines()[-1])["seconds"])


def killed_in_the_middle(raw: Path, folder: Path, params: dict[str, Any], count: int) -> None:
    """Prepare, and kill it when half of the images are in the journal."""
    running = start(raw, folder, params, commit_s=0.5)
    while running.poll() is None and journaled_images(folder / "work") < count / 2:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):  # with few images, all may be done already
        os.killpg(running.pid, signal.SIGKILL)
    running.communicate()


def journaled_images(work: Path) -> int:
    """Return how many images are in the journals, by the length of the facts of each block."""
    lines = [line for path in work.rglob("journal-*.jsonl") for line in path.read_text(errors="replace").splitlines()]
    facts = [line.rsplit('"', 2)[1] for line in lines if line.count('"') == 2 and "," in line]
    return sum(len(text) * 3 // 4 // 12 for text in facts)


def one_round(raw: Path, folder: Path, count: int, storages: list[str]) -> dict[str, float]:
    """Take every figure once."""
    found: dict[str, float] = {}
    for name in storages:
        params = STORAGES[name]
        for workers in (1, 2):
            place = folder / "prepared"
            found[f"{name}, {workers} processes (images/s)"] = count / seconds(start(raw, place, params, workers))
            shutil.rmtree(place)
        seconds(start(raw, place, params, commit_s=0.0))  # so that all is noted
        shutil.rmtree(place / "out")
        found[f"{name}, again (s)"] = seconds(start(raw, place, params))
        shutil.rmtree(place)
    if "array" not in storages:
        return found
    whole = count / found["array, 2 processes (images/s)"]
    killed_in_the_middle(raw, folder / "killed", STORAGES["array"], count)
    found["array, after a kill in the middle (share of the whole time)"] = (
        seconds(start(raw, folder / "killed", STORAGES["array"])) / whole
    )
    shutil.rmtree(folder / "killed")
    return found


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--folder", type=Path, help="where to put about 1 GB for a while")
    parser.add_argument("--storages", nargs="+", choices=STORAGES, default=[*STORAGES])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        raw, folder, params, workers, commit_s = json.loads(options.one)
        prepare_here(Path(raw), Path(folder), params, workers, commit_s)
        return
    from measuring.machine import processor
    from measuring.pictures import write_pictures

    rounds = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        raw = Path(name, "raw")
        for part, count, seed in (("train", options.images, 0), ("val", 100, 1)):
            (raw / part).mkdir(parents=True)
            write_pictures(raw / part, count, seed)
        for _ in range(options.rounds):
            rounds.append(one_round(raw, Path(name), options.images + 100, options.storages))
            print({key: float(f"{value:.3g}") for key, value in rounds[-1].items()}, flush=True)
    figures = {key: [round(each[key], 4) for each in rounds] for key in rounds[0]}
    ratios = {
        f"{name}: 2 processes over 1": statistics.median(
            each[f"{name}, 2 processes (images/s)"] / each[f"{name}, 1 processes (images/s)"] for each in rounds
        )
        for name in options.storages
    }
    ratios |= {
        f"{name}: going on with everything done, over doing it": statistics.median(
            each[f"{name}, again (s)"] * each[f"{name}, 2 processes (images/s)"] / (options.images + 100) for each in rounds
        )
        for name in options.storages
    }
    for key, value in ratios.items():
        print(f"{key:80} {value:.3f}")
    if options.out:
        command = f"python benchmarks/preparing.py --rounds {options.rounds} --images {options.images} --folder {options.folder}"
        found = {
            "command": command,
            "processor": processor(),
            "ratios": {k: round(v, 3) for k, v in ratios.items()},
            "figures": figures,
        }
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
