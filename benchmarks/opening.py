"""The cost of starting on a large dataset: opening the index of ImageNet, and comparing the checksum of a large array.

    python benchmarks/opening.py [--rows 1331167] [--array-gb 20] [--ranks 8] [--out benchmarks/results/opening.json]

index  `open_store` of images in files, in several processes at once, as the ranks of a node do. `columns` is what is written now,
       `json` the same index with its rows in index.json. Seconds: median over ranks. Memory: growth of the resident memory that
       is the process's own (Private), and in all (Rss), of which mapped files are shared between ranks; medians.
start  `Store.open` of an artifact with one large array: the first on a node, which reads it, and the next one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring.machine import describe
from spikedistill.data import rows as columns
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.prepare import index
from spikedistill.store.artifacts import Store

OPEN = """
import json, sys, time
from pathlib import Path
from spikedistill.data.store import open_store

def memory():
    found = dict(line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    kilobytes = {key: int(value.split()[0]) for key, value in found.items()}
    return kilobytes["Rss"], kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]

print("ready", flush=True)
sys.stdin.readline()
before, start = memory(), time.perf_counter()
store = open_store(Path(sys.argv[1]))
taken = time.perf_counter() - start
store.samples.name(len(store.labels) - 1)
print("opened", flush=True)
sys.stdin.readline()
after = memory()
print(json.dumps({"s": taken, "rss_mb": (after[0] - before[0]) / 1024, "private_mb": (after[1] - before[1]) / 1024}))
"""
CHUNK = 64 << 20


def write_dataset(folder: Path, number: int, *, in_columns: bool) -> None:
    """Write the index of images in archives, with names as long as those of ImageNet."""
    folder.mkdir()
    ImageFiles.save(folder, folder, 256)
    rows = [
        {
            "id": f"train/n{row % 1000:08}/n{row % 1000:08}_{row}.JPEG",
            "label": row % 1000,
            "archive": "ILSVRC2012_img_train.tar",
            "offset": row * 110_592,
            "size": 110_000,
        }
        for row in range(number)
    ]
    names = [f"n{label:08}" for label in range(1000)]
    splits = {"train": range(number - number // 26), "test": range(number - number // 26, number)}
    index.LARGE = columns.LARGE if in_columns else number + 1
    statistics_ = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    index.write_index(folder, kind="images", class_names=names, rows=rows, splits=splits, recipe={}, statistics=statistics_)


def open_by_ranks(folder: Path, ranks: int) -> dict[str, float]:
    """Open a dataset in several processes at once; medians over them."""
    command = [sys.executable, "-c", OPEN, str(folder)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(ranks)]
    found = []
    for expected in ("ready", "opened", None):
        for process in processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if expected is None:
                found.append(json.loads(line))
            elif line.strip() != expected:
                raise SystemExit(f"a rank ended early with {process.wait()}")
        for process in processes if expected else ():
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
    for process in processes:
        process.wait()
    return {key: round(statistics.median(each[key] for each in found), 3) for key in found[0]}


def start_on_array(folder: Path, gigabytes: float) -> dict[str, float]:
    """Open an artifact with a large array twice, as two stages do."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    store, ref = Store(folder / "store"), "data/large-0123456789"
    block = os.urandom(CHUNK)
    with store.building(ref, {"stage": "preprocess"}, ()) as build, (build.folder / "images.npy").open("wb") as stream:
        for _ in range(round(gigabytes * 1e9 / CHUNK)):
            stream.write(block)
    time.sleep(5)  # the checksum of a file that has just changed is not noted
    found = {}
    for name in ("first_s", "next_s"):
        start = time.perf_counter()
        store.open(ref)
        found[name] = round(time.perf_counter() - start, 4)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_331_167)
    parser.add_argument("--array-gb", type=float, default=20)
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="opening-"))
    try:
        figures: dict[str, Any] = {}
        for name in ("json", "columns"):
            write_dataset(place / name, options.rows, in_columns=name == "columns")
            figures[f"index, {name}"] = open_by_ranks(place / name, options.ranks)
        figures["start"] = start_on_array(place, options.array_gb)
    finally:
        shutil.rmtree(place)
    command = f"python benchmarks/opening.py --rows {options.rows} --array-gb {options.array_gb:g} --ranks {options.ranks}"
    text = json.dumps({"command": command, **describe("cpu", 1), "figures": figures}, indent=1) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
