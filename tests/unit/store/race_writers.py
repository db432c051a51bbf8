"""Two writers of one artifact, stopped, continued and killed at random: one whole result, no remains, and losers that say why.

    python tests/unit/store/race_writers.py --races 20

In each race two processes want the same artifact and build it for about three seconds, with leases that count as stale after
one. Each may be suspended for a while, or killed and started again. At the end the artifact is whole and by one writer, nothing
half-made lies about, and every process ended by itself, with a result or with the loss of its lease.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from spikedistill.store.artifacts import Store

WRITER = """
import os, pathlib, sys, time
from spikedistill.store import lease
from spikedistill.store.artifacts import Store
lease.HEARTBEAT_S, lease.STALE_S, lease.POLL_S = 0.1, 1.0, 0.1
store, name = Store(sys.argv[1]), sys.argv[2]
done = lambda: store.is_current("data/x", ())
try:
    with lease.held(store.root / ".work" / "x" / "lease", name, done) as mine:
        if mine and not done():
            with store.building("data/x", {}, (), fence=mine.check) as build:
                end = time.monotonic() + 3
                while time.monotonic() < end:
                    time.sleep(0.02)
                    for number in range(4):
                        with (build.folder / f"part{number}").open("a") as stream:
                            stream.write(name)
except lease.LeaseLostError as err:
    print(err)
    sys.exit(3)
"""


def start(root: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(root), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def race(root: Path, rng: random.Random) -> dict[str, int]:
    """Run one race; return how many processes were killed, suspended, and lost their lease."""
    counts = {"killed": 0, "suspended": 0, "lost": 0}
    processes = {name: start(root, name) for name in ("a", "b")}
    suspended: set[str] = set()
    end = time.monotonic() + 8
    while time.monotonic() < end:
        time.sleep(rng.uniform(0.1, 0.9))
        name = rng.choice("ab")
        process = processes[name]
        if name in suspended:
            process.send_signal(signal.SIGCONT)
            suspended.remove(name)
        elif process.poll() is None and rng.random() < 0.6:
            process.send_signal(signal.SIGSTOP)
            suspended.add(name)
            counts["suspended"] += 1
        elif process.poll() is None:
            process.kill()
            process.communicate()
            processes[name] = start(root, name)
            counts["killed"] += 1
    for name in suspended:
        processes[name].send_signal(signal.SIGCONT)
    for name, process in processes.items():
        output, _ = process.communicate(timeout=60)
        assert process.returncode in (0, 3), f"{name} ended with {process.returncode}: {output}"
        assert process.returncode == 0 or "lost its lease" in output, output
        counts["lost"] += process.returncode == 3
    last = start(root, "c")
    assert last.wait(60) == 0, last.communicate()
    check(Store(root))
    return counts


def check(store: Store) -> None:
    assert store.verify("data/x") is None
    parts = [file.read_text() for file in sorted(store.path("data/x").glob("part*"))]
    assert len(parts) == 4
    assert len({char for part in parts for char in part}) == 1, "parts of two writers in one artifact"
    assert len({len(part) for part in parts}) == 1, "a part was written after the commit"
    assert [entry.name for entry in (store.root / "data").iterdir()] == ["x"], "remains"
    assert not (store.root / ".work" / "x" / "lease").exists(), "a lease is left"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for number in range(options.races):
        with tempfile.TemporaryDirectory() as folder:
            print(f"race {number}: {race(Path(folder), random.Random(f'{options.seed} {number}'))}", flush=True)


if __name__ == "__main__":
    main()
